"""A ViCLIP of a few thousand weights."""

from __future__ import annotations

from pathlib import Path

import torch

from training.viclip import TextConfig, ViCLIP, ViCLIPConfig, VisionConfig, save_viclip

TINY = ViCLIPConfig(
    VisionConfig(num_frames=4, image_size=16, patch_size=8, width=64, layers=2, heads=2, drop_path=0.0),
    TextConfig(width=64, layers=1, heads=2),
    embed_dim=32,
)


def save_model(folder: Path, seed: int) -> Path:
    """Random weights, the temporal table included."""
    torch.manual_seed(seed)
    model = ViCLIP(TINY)
    torch.nn.init.normal_(model.vision_encoder.temporal_positional_embedding, std=0.1)
    save_viclip(folder, model.state_dict(), TINY)
    return folder

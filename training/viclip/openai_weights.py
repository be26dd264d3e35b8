"""CLIP's weights in its authors' own naming, which OpenCLIP shares: nearly ours, since ViCLIP kept the names.

Source: CLIP (arXiv 2103.00020), `model.py` of its code; OpenCLIP's `CLIP` for ViT towers.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

_MARK = "visual.class_embedding"
_TEXT = ("token_embedding.", "positional_embedding", "transformer.", "ln_final.", "text_projection")
_NOT_WEIGHTS = ("input_resolution", "context_length", "vocab_size", "attn_mask")
"""Buffers and sizes that the archives of OpenAI and OpenCLIP hold beside the weights."""


def is_openai(state: Mapping[str, Tensor]) -> bool:
    """Whether a state dict is named as OpenAI's or OpenCLIP's, on one GPU or wrapped for several (`module.`)."""
    return any(name.removeprefix("module.") == _MARK for name in state)


def from_openai(state: Mapping[str, Tensor], num_frames: int = 8) -> dict[str, Tensor]:
    """A ViCLIP state dict with a temporal table of zeros; half precision, as OpenAI's archives hold, becomes float32.

    Only CLIPs with QuickGELU fit (OpenAI's, and those of OpenCLIP whose name says `quickgelu`): the activation is not in the weights.
    """
    ours = {}
    for name, tensor in state.items():
        name = name.removeprefix("module.")
        if name == "logit_scale":
            ours["temp"] = (-tensor.float()).exp().reshape(1)
        elif name.startswith("visual."):
            ours[name.replace("visual.", "vision_encoder.", 1)] = tensor.float()
        elif name.startswith(_TEXT):
            ours[f"text_encoder.{name}"] = tensor.float()
        elif name not in _NOT_WEIGHTS:
            raise ValueError(f"these are not the weights of a CLIP with two transformers: {name} is unknown")
    width = len(ours["vision_encoder.class_embedding"])
    return ours | {"vision_encoder.temporal_positional_embedding": torch.zeros(1, num_frames, width)}

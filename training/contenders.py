"""The models of an evaluation: weights loaded for the protocol, averaged, with their head where they have one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from training.average import wise_ft
from training.benchmarks import Benchmark
from training.heads import Head, load_head
from training.protocol import Protocol
from training.viclip import ViCLIP, load_viclip

FINETUNING = "finetuning.json"
"""What a fine-tuned model was fine-tuned on; written beside its weights."""


@dataclass(frozen=True)
class Contender:
    """A model with its name in the report."""

    name: str
    model: ViCLIP
    head: Head | None
    finetuned_on: str | None

    def setting(self, benchmark: Benchmark) -> str:
        """zero-shot, fine-tuned, or fine-tuned on something else: which of the paper's tables it belongs beside."""
        if self.finetuned_on is None or (benchmark.task == "action" and self.head is None):
            return "zero-shot"
        same = self.finetuned_on == benchmark.name or benchmark.task == "action"
        return "fine-tuned" if same else f"fine-tuned on {self.finetuned_on}"


def load_contender(name: str, path: str | Path, protocol: Protocol) -> Contender:
    """Load weights for the protocol's number of frames and text length, and average them where it says so.

    Raises: ValueError for weights that cannot be read or do not fit each other.
    """
    path = Path(path)
    model = _fitted(path, protocol)
    if protocol.average_with is not None:
        other = load_viclip(protocol.average_with, model.config)
        model.load_state_dict(wise_ft(other.state_dict(), model.state_dict(), protocol.alpha))
    folder = path if path.is_dir() else path.parent
    facts: Mapping[str, Any] = json.loads((folder / FINETUNING).read_text()) if (folder / FINETUNING).exists() else {}
    head = load_head(folder) if protocol.use_head else None
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return Contender(name, model.to(device).eval(), head, facts.get("benchmark"))


def _fitted(path: Path, protocol: Protocol) -> ViCLIP:
    """Loaded again where the protocol wants another size: the file may hold a longer table than the model uses."""
    model = load_viclip(path)
    vision, text = model.config.vision, model.config.text
    wanted = replace(
        model.config,
        vision=replace(vision, num_frames=protocol.num_frames or vision.num_frames),
        text=replace(text, context_length=protocol.text_length or text.context_length),
    )
    return model if wanted == model.config else load_viclip(path, wanted)

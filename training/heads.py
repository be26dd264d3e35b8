"""A classification head on ViCLIP's video tower, and its files.

B clips, T frames, C channels, H W pixels, D width, K classes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from training.viclip import ViCLIP, ViCLIPConfig, clean_caption

WEIGHTS, CLASSES = "head.safetensors", "head.json"
_PREFIX = "viclip."
_INIT_SCALE = 0.001  # U: single_modality/run_class_finetuning.py, init_scale: a new head starts close to zero


class VideoClassifier(nn.Module):
    """A linear head on the class token after the last norm, as CLIP's own linear probes read it.

    Called as ViCLIP is, so the same engines and saved states serve; texts are ignored and nothing is masked.
    """

    def __init__(self, viclip: ViCLIP, num_classes: int):
        super().__init__()
        self.viclip = viclip
        self.head = nn.Linear(viclip.config.vision.width, num_classes)
        nn.init.trunc_normal_(self.head.weight, std=0.02 * _INIT_SCALE)
        nn.init.zeros_(self.head.bias)
        viclip.freeze_text()
        viclip.temp.requires_grad_(False)
        viclip.vision_encoder.proj.requires_grad_(False)  # leads into the space shared with texts: not used here

    @property
    def config(self) -> ViCLIPConfig:
        """Sizes of the towers."""
        return self.viclip.config

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.viclip.device

    def forward(self, video_BTCHW: Tensor, tokens_BL: Tensor | None = None, mask_ratio: float = 0.0) -> tuple[Tensor]:
        """Logits [B, K], alone in a tuple."""
        return (self.head(self.viclip.vision_encoder.tokens(video_BTCHW)[:, 0]),)


@dataclass(frozen=True)
class Head:
    """A trained head: the weights of a linear layer and the class of each row."""

    weight_KD: Tensor
    bias_K: Tensor
    classes: tuple[str, ...]

    def rows_of(self, classes: Sequence[str]) -> Head:
        """The head of these classes, found by name whatever their spelling of case, punctuation and underscores.

        So a head of K710 answers K400's questions.

        Raises: ValueError naming the classes that this head does not know.
        """
        known = {class_key(name): row for row, name in enumerate(self.classes)}
        missing = [name for name in classes if class_key(name) not in known]
        if missing:
            raise ValueError(
                f"the head knows {len(self.classes)} classes, but not {len(missing)} of these {len(classes)}, the first: {missing[0]!r}"
            )
        rows = [known[class_key(name)] for name in classes]
        return Head(self.weight_KD[rows], self.bias_K[rows], tuple(classes))

    @torch.inference_mode()
    def shares(self, model: ViCLIP, video_BTCHW: Tensor) -> Tensor:
        """Probabilities [B, K] of clips."""
        features_BD = model.vision_encoder.tokens(video_BTCHW)[:, 0]
        return (features_BD @ self.weight_KD.to(features_BD).T + self.bias_K.to(features_BD)).softmax(dim=-1)


def class_key(name: str) -> str:
    """What makes two class names the same. Worked example: "Massaging_person's head" gives "massaging persons head"."""
    return clean_caption(name.replace("_", " "))


def split_state(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The weights of a `VideoClassifier` as those of ViCLIP and those of the head (weight and bias)."""
    viclip = {name.removeprefix(_PREFIX): value for name, value in state.items() if name.startswith(_PREFIX)}
    return viclip, {name.removeprefix("head."): value for name, value in state.items() if name.startswith("head.")}


def save_head(folder: Path, state: Mapping[str, Tensor], classes: Sequence[str]) -> None:
    """Write `head.safetensors` and `head.json` beside the weights of the towers."""
    save_file({name: value.contiguous() for name, value in state.items()}, folder / WEIGHTS)
    (folder / CLASSES).write_text(json.dumps({"classes": list(classes)}, indent=1) + "\n")


def load_head(folder: Path) -> Head | None:
    """The head beside the weights in a folder; None when there is none."""
    if not (folder / WEIGHTS).exists():
        return None
    state = load_file(folder / WEIGHTS)
    return Head(state["weight"], state["bias"], tuple(json.loads((folder / CLASSES).read_text())["classes"]))

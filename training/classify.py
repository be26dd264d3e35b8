"""A step of action recognition: mixed clips, soft labels, cross-entropy; and layer-wise learning rates.

b clips of this process, T frames, C channels, H W pixels, K classes.
"""

from __future__ import annotations

import re
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from training.engine import optimiser
from training.recipe import OptimiserConfig
from training.recipes.finetuning import FinetuneRecipe
from training.viclip import normalise

_CUTMIX_SHARE = 0.5  # U: single_modality/run_class_finetuning.py, mixup_switch_prob
_ERASED_AREA = (0.02, 1 / 3)
_FIRST = ("conv1", "class_embedding", "positional_embedding", "ln_pre", "token_embedding")
SCALE = "lr_scale"


def classify_step(
    engine: Any,
    video_bTCHW: Tensor,
    labels_b: Tensor,
    num_classes: int,
    recipe: FinetuneRecipe,
    micro_batch: int,
    seed: int,
) -> tuple[Tensor, Tensor]:
    """Forward, backward and update of one batch; gives the loss and the logits [b, K]."""
    targets_bK = smooth_labels(labels_b, num_classes, recipe.label_smoothing)
    if recipe.mixup > 0 or recipe.cutmix > 0 or recipe.random_erasing > 0:
        rng = np.random.default_rng(seed % 2**32)
        video_bTCHW = normalise(video_bTCHW)
        erase(video_bTCHW, recipe.random_erasing, rng)
        if recipe.mixup > 0 or recipe.cutmix > 0:
            video_bTCHW, targets_bK = mix(video_bTCHW, targets_bK, recipe.mixup, recipe.cutmix, rng)
        video_bTCHW = video_bTCHW.to(engine.module.head.weight.dtype)
    total, parts = video_bTCHW.new_zeros((), dtype=torch.float32), cast(list[Tensor], [])
    for number, (video, targets) in enumerate(
        zip(video_bTCHW.split(micro_batch), targets_bK.split(micro_batch), strict=True)
    ):
        torch.manual_seed(seed + number)
        [logits] = engine(video)
        loss = -(targets * functional.log_softmax(logits.float(), dim=-1)).sum() / len(video_bTCHW)
        engine.backward(loss, scale_wrt_gas=False)
        engine.step()
        total, parts = total + loss.detach(), [*parts, logits.detach()]
    return total, torch.cat(parts)


def smooth_labels(labels_b: Tensor, num_classes: int, smoothing: float) -> Tensor:
    """[b, K] that sum to 1: 1 - smoothing for the class, and the smoothing shared evenly by all.

    Worked example: class 0 of 2 with smoothing 0.2 gives 0.9 and 0.1.
    """
    return functional.one_hot(labels_b, num_classes) * (1 - smoothing) + smoothing / num_classes


def erase(video_bTCHW: Tensor, probability: float, rng: np.random.Generator) -> None:
    """Fill a rectangle of 1/50 to 1/3 of the picture with noise, in place: with that probability for each clip, at one place
    for all its frames.

    Source: Random Erasing (arXiv 1708.04896), per pixel and by cubes as U:single_modality/datasets/random_erasing.py.
    """
    height, width = video_bTCHW.shape[-2:]
    for video_TCHW in video_bTCHW:
        if rng.random() < probability:
            top, left, high, wide = _erased(height, width, rng)
            rectangle_TChw = video_TCHW[..., top : top + high, left : left + wide]
            noise = rng.standard_normal(rectangle_TChw.shape, np.float32)
            rectangle_TChw.copy_(torch.from_numpy(noise))


def _erased(height: int, width: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """top, left, height, width; nothing where no rectangle fits."""
    for _ in range(100):
        area, aspect = height * width * rng.uniform(*_ERASED_AREA), np.exp(rng.uniform(-1, 1) * np.log(1 / 0.3))
        high, wide = round((area * aspect) ** 0.5), round((area / aspect) ** 0.5)
        if high < height and wide < width:
            return int(rng.integers(height - high + 1)), int(rng.integers(width - wide + 1)), high, wide
    return 0, 0, 0, 0


def mix(
    video_bTCHW: Tensor, targets_bK: Tensor, mixup: float, cutmix: float, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Each clip mixed with its mirror in the batch: blended (mixup), or with a rectangle of it pasted in (cutmix).

    One share and one rectangle for all clips and all frames of a batch; each kind is drawn half the time if both are on.

    Source: mixup (arXiv 1710.09412), CutMix (arXiv 1905.04899).
    """
    use_cutmix = cutmix > 0 and (mixup == 0 or rng.random() < _CUTMIX_SHARE)
    strength = cutmix if use_cutmix else mixup
    share = float(rng.beta(strength, strength))
    other_bTCHW = video_bTCHW.flip(0)
    if use_cutmix:
        top, bottom, left, right = _rectangle(video_bTCHW.shape[-2], video_bTCHW.shape[-1], 1 - share, rng)
        mixed = video_bTCHW.clone()
        mixed[..., top:bottom, left:right] = other_bTCHW[..., top:bottom, left:right]
        share = 1 - (bottom - top) * (right - left) / (video_bTCHW.shape[-2] * video_bTCHW.shape[-1])
    else:
        mixed = share * video_bTCHW + (1 - share) * other_bTCHW
    return mixed, share * targets_bK + (1 - share) * targets_bK.flip(0)


def _rectangle(height: int, width: int, area: float, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """top, bottom, left, right around a random centre, cut at the border; `area` is a share of the picture's."""
    high, wide = int(height * area**0.5), int(width * area**0.5)
    y, x = int(rng.integers(height)), int(rng.integers(width))
    return max(0, y - high // 2), min(height, y + high // 2), max(0, x - wide // 2), min(width, x + wide // 2)


def layered_optimiser(
    model: nn.Module, config: OptimiserConfig, learning_rate: float, layer_decay: float, num_layers: int
) -> torch.optim.AdamW:
    """The usual AdamW with a learning rate that falls from the head down; every group carries its `lr_scale`.

    Source: BEiT (arXiv 2106.08254) fine-tuning; U: single_modality/optim_factory.py.
    """
    usual = optimiser(model, config, learning_rate)
    names = {parameter: name for name, parameter in model.named_parameters()}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for group in usual.param_groups:
        for parameter in group["params"]:
            scale = layer_decay ** (num_layers + 1 - depth(names[parameter], num_layers))
            groups.setdefault((group["weight_decay"], scale), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": parameters, "weight_decay": decay, "lr": learning_rate * scale, SCALE: scale}
            for (decay, scale), parameters in groups.items()
        ],
        learning_rate,
        (config.beta1, config.beta2),
        fused=True,
    )


def depth(name: str, num_layers: int) -> int:
    """0 for what embeds patches or words, 1 for the first block, …, one more than there are blocks for what follows."""
    block = re.search(r"resblocks\.(\d+)\.", name)
    if block:
        return int(block[1]) + 1
    return 0 if any(part in name for part in _FIRST) else num_layers + 1

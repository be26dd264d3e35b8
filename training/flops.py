"""How much arithmetic a model needs, counted from its sizes, and how much this device does.

A product of [m, k] and [k, n] counts 2 m k n; everything that is not a product counts nothing.
"""

from __future__ import annotations

import time
from functools import cache

import torch

from training.viclip.config import TextConfig, ViCLIPConfig, VisionConfig
from training.viclip.linear import product
from training.viclip.vision import num_kept_tokens


def forward_flops(config: ViCLIPConfig, mask_ratio: float, text_length: int, num_frames: int | None = None) -> int:
    """Of one clip with its text."""
    return _vision_flops(config, mask_ratio, num_frames) + _text_flops(config.text, config.embed_dim, text_length)


def training_flops(
    config: ViCLIPConfig,
    mask_ratio: float,
    text_length: int,
    freeze_text: bool = False,
    freeze_words: bool = False,
    num_frames: int | None = None,
) -> int:
    """Of one clip with its text, forward and backward: each product has two in its gradient.

    Pixels and words need no gradient of their own, nor does a frozen text tower. Activations that are computed a second
    time, to save memory, count once: they are a cost and no use.
    """
    video, text = _vision_flops(config, mask_ratio, num_frames), _text_flops(config.text, config.embed_dim, text_length)
    pixels = _embedding_flops(config.vision, mask_ratio, num_frames)
    return 3 * video - pixels + (text if freeze_text else 3 * text)


def _vision_flops(config: ViCLIPConfig, mask_ratio: float, num_frames: int | None) -> int:
    """Only what is needed for the class token: of the last block all keys and values but one query."""
    vision = config.vision
    length, d = _num_tokens(vision, mask_ratio, num_frames) + 1, vision.width
    last = 2 * length * 2 * d * d + 2 * 10 * d * d + 4 * length * d
    blocks = (vision.layers - 1) * _block_flops(length, d) + last
    return _embedding_flops(vision, mask_ratio, num_frames) + blocks + 2 * d * config.embed_dim


def _embedding_flops(vision: VisionConfig, mask_ratio: float, num_frames: int | None) -> int:
    pixels = 3 * vision.tubelet_frames * vision.patch_size**2
    return 2 * _num_tokens(vision, mask_ratio, num_frames) * pixels * vision.width


def _num_tokens(vision: VisionConfig, mask_ratio: float, num_frames: int | None) -> int:
    num_steps = vision.num_tubelets if num_frames is None else num_frames // vision.tubelet_frames
    return num_kept_tokens(num_steps * vision.num_patches_per_frame, mask_ratio)


def _text_flops(text: TextConfig, embed_dim: int, length: int) -> int:
    return text.layers * _block_flops(length, text.width) + 2 * text.width * embed_dim


def _block_flops(length: int, d: int) -> int:
    """12 d^2 weights a token, and two products of queries with keys and values; causal ones are counted whole."""
    return 2 * length * 12 * d * d + 4 * length * length * d


@cache
def peak_flops_per_second(device: str, dtype: torch.dtype = torch.float32) -> float:
    """The best of a few square matrix products on this device, by the same kernels that the model uses."""
    size = 8192 if device.startswith("cuda") else 1024
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(8):
        _wait(device)
        began = time.perf_counter()
        product(a, b)
        _wait(device)
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()

"""Pixels as the video tower reads them."""

from __future__ import annotations

import torch
from torch import Tensor

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""ImageNet's, which the released weights expect, and not CLIP's (R:V/dataset/__init__.py)."""


def normalise(video_BTCHW: Tensor, channel: int = -3) -> Tensor:
    """uint8 RGB, 0..255, to what the video tower reads (float32). `channel` is the dimension of the colours."""
    shape = [1] * video_BTCHW.ndim
    shape[channel] = 3
    mean, std = (torch.tensor(v, device=video_BTCHW.device).view(shape) for v in (MEAN, STD))
    return (video_BTCHW.float() / 255 - mean) / std

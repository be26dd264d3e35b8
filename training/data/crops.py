"""A clip's random crop: chosen by the loader, cut out, flipped and resized by the training process within the step.

T frames, C channels, H W pixels of a frame, S pixels of the model's side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from training.data.frames import decode, picture_size, resize_into
from training.data.randaugment import rand_augment
from training.recipe import DataConfig

MAX_AREA = 2.5
"""Frames of at most so many times the model's area are handed over whole, larger ones are cut and resized at once. A film
picture of 2.39:1 as high as the model has 2.39."""
_LOG_ASPECTS = (log(3 / 4), log(4 / 3))

Frame = bytes | memoryview | np.ndarray
"""A JPEG, or a uint8 RGB picture [H, W, 3]."""


class Window(NamedTuple):
    """A rectangle of a picture, in pixels."""

    top: int
    left: int
    height: int
    width: int

    def of(self, pictures: Any) -> Any:
        """A view of that part of an array or tensor [..., H, W, 3]."""
        return pictures[..., self.top : self.top + self.height, self.left : self.left + self.width, :]


@dataclass(frozen=True)
class Crop:
    """One clip, and what is still to be cut out of its frames. Every value is uint8 RGB."""

    frames_THWC: np.ndarray
    window: Window
    flip: bool

    def video(self, size: int) -> np.ndarray:
        """[T, C, S, S], cut, flipped and resized; its memory is in [T, S, S, C] order."""
        video_TSSC = np.empty((len(self.frames_THWC), size, size, 3), np.uint8)
        self.write(video_TSSC)
        return video_TSSC.transpose(0, 3, 1, 2)

    def write(self, video_TSSC: np.ndarray) -> None:
        """The same into the array given."""
        for frame, small in zip(self.frames_THWC, video_TSSC, strict=True):
            _cut_out(frame, self.window, self.flip, small)


def augmented(
    frames: Sequence[Frame], size: int, config: DataConfig, rng: np.random.Generator, memory: np.ndarray
) -> Crop:
    """A random crop and flip, the same for all frames, written to the first bytes of `memory`: `max_bytes` are enough.

    RandAugment, where the configuration wants it, comes first.

    Raises: ValueError when a frame cannot be decoded, or frames of a clip differ in size.
    Source: RandomResizedCrop with scale 0.5 to 1 and aspect 3/4 to 4/3, horizontal flip (R:V/dataset/__init__.py).
    """
    if config.rand_augment > 0:
        pictures = [_picture(frame) for frame in frames]
        frames = rand_augment(pictures, config.rand_augment, config.rand_augment_level, rng)
    height, width = _size(frames[0])
    window = random_window(height, width, config.min_crop_area, rng)
    flip = config.horizontal_flip and rng.random() < 0.5
    is_large = height * width > MAX_AREA * size * size
    shape = (len(frames), size, size, 3) if is_large else (len(frames), height, width, 3)
    places = memory[: np.prod(shape)].reshape(shape)
    for frame, place in zip(frames, places, strict=True):
        if _size(frame) != (height, width):
            raise ValueError(f"its frames differ in size: {(height, width)} and {_size(frame)}")
        if is_large:
            _cut_out(_picture(frame), window, flip, place)
        elif isinstance(frame, np.ndarray):
            place[:] = frame
        else:
            decode(frame, place.reshape(-1))
    return Crop(places, Window(0, 0, size, size), False) if is_large else Crop(places, window, flip)


def max_bytes(num_frames: int, size: int) -> int:
    """Of memory that a clip takes."""
    return num_frames * int(MAX_AREA * size * size) * 3


def random_window(height: int, width: int, min_area: float, rng: np.random.Generator) -> Window:
    """Of at least that share of the picture; all of it when min_area is 1 or ten tries do not fit."""
    for area, aspect, down, right in rng.random((10, 4)).tolist() if min_area < 1.0 else ():
        pixels = height * width * (min_area + area * (1 - min_area))
        ratio = exp(_LOG_ASPECTS[0] + aspect * (_LOG_ASPECTS[1] - _LOG_ASPECTS[0]))
        w, h = round((pixels * ratio) ** 0.5), round((pixels / ratio) ** 0.5)
        if w <= width and h <= height:
            return Window(int(down * (height - h + 1)), int(right * (width - w + 1)), h, w)
    return Window(0, 0, height, width)


def resize_on_device(crop: Tensor, flip: bool, size: int) -> Tensor:
    """Flip and resize uint8 [T, H, W, C] to [T, C, S, S] in torch, at most a level off OpenCV, which rounds its weights."""
    frames_TCHW = crop.permute(0, 3, 1, 2).float()
    video_TCSS = functional.interpolate(frames_TCHW.flip(3) if flip else frames_TCHW, (size, size), mode="bicubic")
    return video_TCSS.round_().clamp_(0, 255).to(torch.uint8)


def _size(frame: Frame) -> tuple[int, int]:
    return frame.shape[:2] if isinstance(frame, np.ndarray) else picture_size(frame)


def _picture(frame: Frame) -> np.ndarray:
    return frame if isinstance(frame, np.ndarray) else decode(frame)


def _cut_out(frame_HWC: np.ndarray, window: Window, flip: bool, small: np.ndarray) -> None:
    cut = window.of(frame_HWC)
    resize_into(cv2.flip(cut, 1) if flip else cut, small)

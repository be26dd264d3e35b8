"""A batch as the loader hands it over: cropped frames, which the training process resizes on its way into the step.

B clips, T frames, C channels, H W pixels of a crop, S pixels of the model's side, L tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

MAX_AREA = 2.0
"""Crops of at most so many times the model's area are resized here, larger ones by the loader: a 16:9 picture as high as
the model, cropped to 4:3 at most, has 1.33. So pictures take little more memory than the model's input."""


@dataclass(frozen=True)
class Crop:
    """One clip cut to its crop. Every value is uint8 RGB."""

    frames_THWC: np.ndarray
    flip: bool  # still to be done

    def video(self, size: int) -> np.ndarray:
        """[T, C, S, S], flipped and resized; its memory is in [T, S, S, C] order."""
        video_TSSC = np.empty((len(self.frames_THWC), size, size, 3), np.uint8)
        resize(self, video_TSSC)
        return video_TSSC.transpose(0, 3, 1, 2)


@dataclass(frozen=True)
class Batch:
    """This process's share of a global batch. Its pixels are good until the next batch is asked for: `video` copies them."""

    pixels: np.ndarray  # uint8, flat: the crops one after the other, in memory that a later batch uses again
    shapes: list[tuple[int, ...]]  # T, H, W, 3 of each crop
    flips: list[bool]
    image_size: int
    captions: list[str]
    tokens_BL: Tensor  # of the cleaned captions
    video_ids_B: Tensor
    text_ids_B: Tensor
    broken: list[tuple[str, str]]  # (clip id, reason) of samples left out on the way

    @property
    def num_frames(self) -> int:
        """T, the same for all clips."""
        return self.shapes[0][0]

    def video(self, device: torch.device | str = "cpu") -> Tensor:
        """uint8 [B, T, C, S, S] on the device, flipped and resized there: about 1 ms a clip on a CPU."""
        if torch.device(device).type == "cpu":
            video_BTSSC = torch.empty((len(self.shapes), self.num_frames, self.image_size, self.image_size, 3), dtype=torch.uint8)  # fmt: skip
            for number, crop in enumerate(self._crops()):
                resize(crop, video_BTSSC[number].numpy())
            return video_BTSSC.permute(0, 1, 4, 2, 3)
        sizes = [prod(shape) for shape in self.shapes]
        parts = torch.from_numpy(self.pixels[: sum(sizes)]).to(device).split(sizes)
        clips = zip(parts, self.shapes, self.flips, strict=True)
        return torch.stack([resize_on_device(part.view(shape), flip, self.image_size) for part, shape, flip in clips])

    def _crops(self) -> Iterator[Crop]:
        begin = 0
        for shape, flip in zip(self.shapes, self.flips, strict=True):
            yield Crop(self.pixels[begin : begin + prod(shape)].reshape(shape), flip)
            begin += prod(shape)


def resize(crop: Crop, video_TSSC: np.ndarray) -> None:
    """Flip and resize into the array given. Bicubic as the paper."""
    size = video_TSSC.shape[1:3]
    for frame, small in zip(crop.frames_THWC, video_TSSC, strict=True):
        cv2.resize(cv2.flip(frame, 1) if crop.flip else frame, size, dst=small, interpolation=cv2.INTER_CUBIC)


def resize_on_device(frames_THWC: Tensor, flip: bool, size: int) -> Tensor:
    """As `resize`, in torch: uint8 [T, C, S, S], at most a level off, as OpenCV rounds its weights to 1/2048."""
    frames_TCHW = frames_THWC.permute(0, 3, 1, 2).float()
    video_TCSS = functional.interpolate(frames_TCHW.flip(3) if flip else frames_TCHW, (size, size), mode="bicubic")
    return video_TCSS.round_().clamp_(0, 255).byte()

"""Frames of a clip: which of the stored ones, decoded, and resized whole.

T frames, C channels, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import simplejpeg


def choose_frames(num_stored: int, num_wanted: int, rng: np.random.Generator | None) -> list[int]:
    """One frame of each of `num_wanted` equal spans: a random one in training, the middle one (rng None) otherwise.

    Short clips repeat frames. Source: InternVid's released code (one frame in each of 8 equal spans).
    """
    if rng is None:
        return [(2 * span + 1) * num_stored // (2 * num_wanted) for span in range(num_wanted)]
    places = enumerate(rng.random(num_wanted).tolist())
    return [min(num_stored - 1, int((span + place) * num_stored / num_wanted)) for span, place in places]


def picture_size(jpeg: bytes | memoryview) -> tuple[int, int]:
    """Height and width, from the header. Raises: ValueError when it is no JPEG."""
    try:
        return simplejpeg.decode_jpeg_header(jpeg)[:2]
    except ValueError as error:
        raise _damaged(error) from error


def decode(jpeg: bytes | memoryview, memory: np.ndarray | None = None, min_short_side: int = 0) -> np.ndarray:
    """uint8 RGB [H, W, 3], whole or not at all: a picture that ends too soon is refused, not filled with grey.

    Args:
        memory: flat uint8 whose beginning holds the picture then.
        min_short_side: when not 0, at least so many pixels are left of the short side; a JPEG can leave out what a smaller
            picture does not need, which is faster.

    Raises: ValueError.
    """
    try:
        return simplejpeg.decode_jpeg(jpeg, "RGB", min_height=min_short_side, min_width=min_short_side, buffer=memory)
    except ValueError as error:
        raise _damaged(error) from error


def _damaged(error: ValueError) -> ValueError:
    return ValueError(f"a stored frame is not a whole JPEG ({error}): the shard is damaged, copy it again")


def decode_small(jpegs: Sequence[bytes | memoryview], short_side: int) -> list[np.ndarray]:
    """Pictures of one size, their short side at most that many pixels, by area means; smaller ones stay as they are."""
    if not jpegs:
        return []
    height, width = picture_size(jpegs[0])
    scale = short_side / min(height, width)
    if scale >= 1:
        return [decode(jpeg) for jpeg in jpegs]
    size = (round(width * scale), round(height * scale))
    pictures = (decode(jpeg, min_short_side=short_side) for jpeg in jpegs)
    return [cv2.resize(picture, size, interpolation=cv2.INTER_AREA) for picture in pictures]


def resized(frames: list[np.ndarray], size: int) -> np.ndarray:
    """uint8 RGB pictures of any size straight to [T, C, size, size], no crop (the evaluation protocol).

    The memory stays in [T, H, W, C] order: turning it round costs as much as resizing, and the model reads any order.
    """
    small_THWC = np.empty((len(frames), size, size, 3), np.uint8)
    for frame, small in zip(frames, small_THWC, strict=True):
        resize_into(frame, small)
    return small_THWC.transpose(0, 3, 1, 2)


def resize_into(picture: np.ndarray, small: np.ndarray) -> None:
    """Bicubic as the paper, but area means when shrinking by two or more, where bicubic skips pixels."""
    height, width = small.shape[:2]
    method = cv2.INTER_AREA if min(picture.shape[:2]) >= 2 * min(height, width) else cv2.INTER_CUBIC
    cv2.resize(picture, (width, height), dst=small, interpolation=method)

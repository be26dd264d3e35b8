"""Perceptual hashes of frames: 64 bits of one picture, and 256 bits of what is inside its black borders."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

CROPS = (1.0, 0.95, 0.9)
"""Shares of each side of the picture that are hashed, around its middle: a copy that was cropped so looks like one of them."""
WORDS = 4
"""A hash is so many words of 64 bits; the first holds the lowest frequencies."""
_SIDE = 16
_MIN_DEVIATION = 4.0
_MIN_PIXELS = 16


def perceptual_hash(jpeg: bytes) -> int:
    """pHash: the signs of the 64 lowest DCT terms of the grey 32x32 picture, against their median.

    Source: Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions, 2010, §3.2.1.
    """
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert picture is not None
    grey = cv2.resize(picture, (32, 32), interpolation=cv2.INTER_AREA)
    low = cv2.dct(grey.astype(np.float32))[:8, :8].reshape(-1)
    bits = low > np.median(low[1:])
    return int("".join("1" if bit else "0" for bit in bits), 2)


def frame_hash(luma: np.ndarray) -> list[int] | None:
    """The hashes of every share of `CROPS`, `WORDS` words each: the signs of 16 x 16 DCT terms against their median.

    Args:
        luma: a frame's sampled luma inside its borders, uint8 [H, W], of any size and ratio.

    Returns: None for a picture that says too little: flat, black, or less than 16 pixels high or wide.

    Source: PDQ & TMK + PDQF, Meta, 2019, §"PDQ" (256 signs of a 16 x 16 DCT).
    Differs: the DCT is taken of the sampled luma as it is, which does what PDQ's blur and 64 x 64 copy are for; the
        constant term counts; there are hashes of crops, since a hash does not survive a crop of a tenth (ADR 11).
    """
    if min(luma.shape) < _MIN_PIXELS:
        return None
    values = luma.astype(np.float32)
    if float(values.std()) < _MIN_DEVIATION:
        return None
    words: list[int] = []
    for share in CROPS:
        terms = (_basis(values.shape[0], share) @ values @ _basis(values.shape[1], share).T).reshape(-1)[_ORDER]
        words += np.packbits(terms > np.median(terms[1:])).view(">u8").tolist()
    return words


@lru_cache(maxsize=256)
def _basis(size: int, share: float) -> np.ndarray:
    """The first 16 DCT functions over the middle share of `size` samples, each sample weighed by its part inside."""
    begin, end = (1 - share) / 2 * size, (1 + share) / 2 * size
    places = np.arange(size) + 0.5
    weights = np.clip(np.minimum(places + 0.5, end) - np.maximum(places - 0.5, begin), 0, 1) / (end - begin)
    return (np.cos(np.pi * np.outer(np.arange(_SIDE), (places - begin) / (end - begin))) * weights).astype(np.float32)


_ORDER = np.array(
    [row * _SIDE + column for _, row, column in sorted((r + c, r, c) for r in range(_SIDE) for c in range(_SIDE))]
)
"""The terms from low to high frequencies."""

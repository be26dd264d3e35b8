"""A 64-bit perceptual hash, for near duplicates."""

from __future__ import annotations

import cv2
import numpy as np


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

"""Frame hashes and the moments they are taken of: the same for copies, others for other pictures."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from internvid_assets.clips.hashing import CROPS, WORDS, frame_hash
from internvid_assets.clips.moments import Moment, MomentFinder


def picture(seed: int, height: int = 90, width: int = 160) -> np.ndarray:
    """Smooth random shapes, as uint8 luma."""
    noise = np.random.default_rng(seed).normal(size=(12, 16)).astype(np.float32)
    return cv2.normalize(
        cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC), None, 20, 235, cv2.NORM_MINMAX
    ).astype(np.uint8)


def distance(one: np.ndarray, other: np.ndarray) -> int:
    """The least of a whole picture and any crop of the other, as the look-up has it."""
    ones, others = frame_hash(one), frame_hash(other)
    assert ones is not None and others is not None
    groups = [[hashes[at : at + WORDS] for at in range(0, len(hashes), WORDS)] for hashes in (ones, others)]
    pairs = [(groups[0][0], crop) for crop in groups[1]] + [(crop, groups[1][0]) for crop in groups[0]]
    return min(sum((a ^ b).bit_count() for a, b in zip(x, y, strict=True)) for x, y in pairs)


@pytest.mark.parametrize("seed", range(8))
def test_copies_are_near_and_others_far(seed: int) -> None:
    original = picture(seed)
    rng = np.random.default_rng(seed)
    noisy = np.clip(original + rng.normal(0, 6, original.shape), 0, 255).astype(np.uint8)
    bright = np.clip(original * 1.1 + 8, 0, 255).astype(np.uint8)
    for copy in (
        noisy,
        bright,
        cv2.resize(original, (64, 36), interpolation=cv2.INTER_AREA),
        original[4:-4, 8:-8],
        original[2:-2, 4:-4],
    ):
        assert distance(original, copy) <= 40
    assert distance(original, picture(seed + 100)) >= 80
    assert distance(original, original[:, ::-1]) >= 80


def test_a_hash_has_a_word_group_for_every_crop_and_dull_pictures_have_none() -> None:
    hashes = frame_hash(picture(0))
    assert hashes is not None and len(hashes) == len(CROPS) * WORDS and all(0 <= word < 2**64 for word in hashes)
    flat = np.full((90, 160), 128, np.uint8)
    grain = np.clip(16 + np.random.default_rng(0).normal(0, 2, (90, 160)), 0, 255).astype(np.uint8)
    assert frame_hash(flat) is None and frame_hash(grain) is None and frame_hash(picture(0)[:10]) is None


def moments(motions: np.ndarray, fps: float = 25.0, first: int = 0) -> list[float]:
    """Of a clip whose first frame is frame `first` of the motions; in seconds of the whole."""
    finder = MomentFinder()
    for number, motion in enumerate(motions[first:]):
        finder.add(number / fps, 0.0 if number == 0 else float(motion), np.zeros((2, 2), np.uint8))
    seconds = (len(motions) - first) / fps
    others = [Moment(t, np.zeros((2, 2), np.uint8)) for t in np.arange(0, seconds, seconds / 16)]
    return [round(m.seconds + first / fps, 3) for m in finder.finish(seconds, others) if m.motion < 1e9]


@pytest.mark.parametrize("seed", range(5))
def test_a_trimmed_copy_has_the_same_moments(seed: int) -> None:
    rng = np.random.default_rng(seed)
    motions = np.abs(np.convolve(rng.normal(size=200), np.ones(12) / 12, "same"))
    whole = moments(motions)
    for first in (7, 31, 60):
        trimmed = moments(motions, first=first)
        inside = [t for t in whole if t > first / 25 + 1.2]
        assert inside and set(inside) <= set(trimmed)


def test_moments_are_few_however_long_the_clip_is_and_short_clips_have_two() -> None:
    motions = np.abs(np.random.default_rng(0).normal(size=25 * 600))
    assert len(moments(motions)) == 32
    finder = MomentFinder()
    for number in range(12):
        finder.add(number / 25, 0.1, np.zeros((2, 2), np.uint8))
    others = [Moment(n / 25, np.zeros((2, 2), np.uint8)) for n in range(12)]
    assert len(finder.finish(12 / 25, others)) == 2

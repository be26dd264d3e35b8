"""What can be said of a picture without knowing what it shows: light, colours, where it is bright, how much detail;
and of a clip, where and how strongly it moves."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import cv2
import numpy as np

CODE_VERSION = "1"
_HUES = ("red", "orange", "yellow", "green", "green", "cyan", "cyan", "blue", "blue", "purple", "pink", "red")
"""Names of the twelfths of the hue circle."""
_SIDE = 48  # pixels of the working picture


def scene_words(rgb: np.ndarray) -> str:
    """Light, colours and layout: `a dark, detailed scene in blue and orange tones, brighter on the left`.

    Args:
        rgb: uint8 [H, W, 3].
    """
    small = cv2.resize(rgb, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    hsv = cv2.cvtColor(small, cv2.COLOR_RGB2HSV)
    value = hsv[..., 2].astype(np.float32) / 255
    kind = ", ".join(filter(None, [_light(float(value.mean())), _texture(rgb)]))
    article = "an" if kind[:1] in "aeiou" else "a"
    return ", ".join(filter(None, [f"{article} {kind} scene in {_colours(hsv)} tones", _brightest(value)]))


def _light(mean: float) -> str:
    bounds = ((0.2, "very dark"), (0.33, "dark"), (0.5, "dimly lit"), (0.66, "evenly lit"))
    return next((word for bound, word in bounds if mean < bound), "bright")


def _texture(rgb: np.ndarray) -> str:
    """`smooth` or `detailed` at the ends, by the share of pixels on edges; empty between."""
    grey = cv2.cvtColor(cv2.resize(rgb, (128, 128), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    share = float((cv2.Canny(grey, 60, 120) > 0).mean())
    return "smooth" if share < 0.04 else "detailed" if share > 0.12 else ""


def _colours(hsv: np.ndarray) -> str:
    """The main one or two colours by saturated light; grey when there is little."""
    hue, saturation, value = (hsv[..., i].reshape(-1).astype(np.float32) for i in range(3))
    weight = saturation * value / 255**2
    if weight.mean() < 0.06:
        return "grey"
    totals: dict[str, float] = {}
    for name, amount in zip(_HUES, np.bincount((hue // 15).astype(int), weight, minlength=12), strict=True):
        totals[name] = totals.get(name, 0.0) + float(amount)
    first, second = sorted(totals, key=lambda name: -totals[name])[:2]
    return f"{first} and {second}" if totals[second] > 0.4 * totals[first] else first


def _brightest(value: np.ndarray) -> str:
    """The third of the picture that is clearly brighter than the opposite one, or the middle, or nothing."""
    third = _SIDE // 3
    parts = {
        "on the left": value[:, :third].mean() - value[:, -third:].mean(),
        "on the right": value[:, -third:].mean() - value[:, :third].mean(),
        "at the top": value[:third].mean() - value[-third:].mean(),
        "at the bottom": value[-third:].mean() - value[:third].mean(),
        "in the middle": value[third:-third, third:-third].mean() - value.mean(),
    }
    where = max(parts, key=lambda name: parts[name])
    return f"brighter {where}" if parts[where] > 0.1 else ""


def movement_words(frames_rgb: Sequence[np.ndarray]) -> str:
    """How strongly and where a clip moves: `slight movement on the left`; empty for fewer than two frames.

    Args:
        frames_rgb: frames spread over the clip, each uint8 [H, W, 3] RGB of one size.
    """
    small = [cv2.resize(frame, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32) for frame in frames_rgb]
    if len(small) < 2:
        return ""
    change = np.mean([np.abs(b - a).mean(axis=2) for a, b in itertools.pairwise(small)], axis=0)
    amount = float(change.mean())
    strength = "slight" if amount < 4 else "steady" if amount < 14 else "strong"
    return f"{strength} movement {_place(change)}"


def _place(change: np.ndarray) -> str:
    """Where most of the change lies."""
    share = change / max(float(change.sum()), 1e-6)
    at = np.linspace(-1, 1, _SIDE)
    x, y = float((share.sum(axis=0) * at).sum()), float((share.sum(axis=1) * at).sum())
    if max(abs(x), abs(y)) > 0.18:
        if abs(x) >= abs(y):
            return "on the right" if x > 0 else "on the left"
        return "at the bottom" if y > 0 else "at the top"
    middle = float(share[_SIDE // 4 : -_SIDE // 4, _SIDE // 4 : -_SIDE // 4].sum())
    return "in the middle" if middle > 0.4 else "all over the picture"

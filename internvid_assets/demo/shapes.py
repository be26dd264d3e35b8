"""The vocabulary of the rendered corpus, and how one object is drawn."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

COLOURS: dict[str, tuple[int, int, int]] = {  # RGB
    "red": (215, 30, 35),
    "yellow": (245, 225, 40),
    "green": (30, 150, 50),
    "blue": (35, 70, 210),
}
SHAPES = ("circle", "triangle", "star")
MOTIONS = (
    "moving left", "moving right", "moving up", "moving down", "turning clockwise", "turning counterclockwise",
    "growing", "shrinking", "bouncing", "colliding",
)  # fmt: skip
_SHIFT = 4  # sub-pixel bits of OpenCV's drawing


@dataclass(frozen=True)
class Subject:
    """A coloured shape."""

    colour: str
    shape: str

    def __str__(self) -> str:
        return f"{self.colour} {self.shape}"


def outline(shape: str, radius: float) -> np.ndarray:
    """Corner points around the origin, float [N, 2], of a shape with the circumradius given."""
    if shape == "circle":
        return _regular(48, radius)
    if shape == "triangle":
        return _regular(3, radius)
    if shape == "star":
        angles = np.arange(10) * np.pi / 5
        radii = np.where(np.arange(10) % 2 == 0, radius, radius * 0.45)
        return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)
    raise ValueError(f"unknown shape {shape!r}: choose one of {SHAPES}")


def draw(picture: np.ndarray, subject: Subject, x: float, y: float, radius: float, angle: float) -> None:
    """Draw a subject into an RGB picture, in place. The dark spot near the rim makes its turning visible.

    Args:
        x, y: centre in pixels.
        angle: radians, growing clockwise on screen.
    """
    turn = _rotation(angle)
    corners = outline(subject.shape, radius) @ turn + (x, y)
    cv2.fillPoly(picture, [_fixed(corners)], COLOURS[subject.colour], cv2.LINE_AA, _SHIFT)
    reach = radius * (0.55 if subject.shape == "circle" else 0.36)
    spot = np.array([[reach, 0.0]]) @ turn + (x, y)
    centre = tuple(int(v) for v in _fixed(spot)[0])
    cv2.circle(picture, centre, round(radius * 0.2 * 2**_SHIFT), (25, 25, 25), -1, cv2.LINE_AA, _SHIFT)


def _regular(corners: int, radius: float) -> np.ndarray:
    angles = np.arange(corners) * 2 * np.pi / corners
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _rotation(angle: float) -> np.ndarray:
    """Matrix that turns row vectors clockwise on screen (y points down)."""
    return np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def _fixed(points: np.ndarray) -> np.ndarray:
    return np.round(points * 2**_SHIFT).astype(np.int32)

"""What moves in a clip and how, by classical image analysis of about 16 frames spread over it.

An honest stand-in for a video captioner, offline and without a model: good at one or two objects before a resting
camera, coarse on everything else (a camera that pans, or just "moving"). Flat-coloured simple shapes get a name;
nothing else does.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

CODE_VERSION = "2"
_WIDTH = 192  # pixels of the working picture
_CHANGE = 22.0  # 8-bit levels by which a pixel must vary to be active
_POLAR = (
    cv2.WARP_POLAR_LINEAR | cv2.WARP_FILL_OUTLIERS
)  # without the second, pixels beyond the picture are left as they were
_NAMED_RGB = {
    "red": (205, 35, 40), "orange": (240, 130, 30), "yellow": (240, 222, 50), "green": (35, 145, 55),
    "cyan": (65, 208, 215), "blue": (40, 72, 205), "purple": (138, 52, 165), "pink": (240, 150, 190),
    "white": (242, 242, 242), "black": (20, 20, 20), "grey": (128, 128, 128), "brown": (120, 75, 40),
}  # fmt: skip


@dataclass(frozen=True)
class Motion:
    """What moved. `label` is a class name such as "moving left"; `subject` names a simple shape, else None."""

    label: str
    subject: str | None
    second_subject: str | None = None

    @property
    def text(self) -> str:
        """A phrase: the subject and its motion, or the motion alone."""
        if self.subject is None:
            return self.label
        if self.label == "colliding" and self.second_subject is not None:
            return f"{with_article(self.subject)} and {with_article(self.second_subject)} colliding"
        return f"{with_article(self.subject)} {self.label}"


@dataclass(frozen=True)
class _Blob:
    """One connected region of one frame."""

    x: float
    y: float
    area: float
    mask: np.ndarray  # bool [H, W]


def with_article(noun: str) -> str:
    """`a red circle`, `an orange star`."""
    sounds_consonant = noun.lower().startswith(("one", "uni", "eu", "us"))  # a one-piece, a unicycle
    return f"{'an' if noun[:1].lower() in 'aeiou' and not sounds_consonant else 'a'} {noun}"


def describe_motion(frames_rgb: Sequence[np.ndarray]) -> Motion:
    """The motion of a clip from frames spread evenly over it, each uint8 [H, W, 3] RGB of one size.

    Labels: moving left, right, up, down; turning clockwise, counterclockwise; growing; shrinking; bouncing; colliding;
    camera panning left, right, up, down; camera zooming in, out; moving; still.

    Raises: ValueError without frames.
    """
    if not frames_rgb:
        raise ValueError("describe_motion needs at least one frame")
    frames = [_small(frame) for frame in frames_rgb]
    spread = np.max(frames, axis=0).astype(np.float32) - np.min(frames, axis=0)
    active = cv2.morphologyEx(
        (spread.max(axis=2) > _CHANGE).astype(np.uint8), cv2.MORPH_OPEN, np.ones((2, 2), np.uint8)
    )
    share = float(active.mean())
    if len(frames) < 3 or share < 0.001:
        return Motion("still", None)
    if share > 0.6:
        return Motion(_camera_label(frames), None)
    tracks = _tracks(frames, active)
    if not tracks:
        return Motion("moving", None)
    return _labelled(frames, tracks)


def _small(frame: np.ndarray) -> np.ndarray:
    height = max(2, round(frame.shape[0] * _WIDTH / frame.shape[1]))
    return cv2.GaussianBlur(cv2.resize(frame, (_WIDTH, height), interpolation=cv2.INTER_AREA), (3, 3), 0)


def _tracks(frames: list[np.ndarray], active: np.ndarray) -> list[list[_Blob]]:
    """One or two regions followed over all frames, largest first; none when the picture is not that simple."""
    middle = np.median(frames[::2], axis=0).astype(np.uint8)
    filled = _with_body(middle, _filled(cv2.dilate(active, np.ones((5, 5), np.uint8))))
    backdrop = _without(middle, cv2.dilate(filled, np.ones((5, 5), np.uint8)))
    blobs = [_blobs(frame, backdrop, filled) for frame in frames]
    counts = [len(found) for found in blobs]
    if min(counts) == 0 or float(np.mean(np.array(counts) > 2)) > 0.3:
        return []
    if float(np.mean(np.array(counts) >= 2)) >= 0.4:
        return _two_tracks([found[:2] for found in blobs])
    return [[found[0] for found in blobs]]


def _filled(mask: np.ndarray) -> np.ndarray:
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return cv2.drawContours(np.zeros_like(mask), contours, -1, 1, cv2.FILLED)


def _with_body(middle: np.ndarray, region: np.ndarray) -> np.ndarray:
    """The active region, and the flat body around it: of a turning disc only the mark is active."""
    colour = np.median(middle[region > 0], axis=0)
    alike = (np.abs(middle.astype(np.int16) - colour).max(axis=2) < 24).astype(np.uint8)
    _, labels = cv2.connectedComponents(alike)
    touched = np.setdiff1d(np.unique(labels[(cv2.dilate(region, np.ones((3, 3), np.uint8)) > 0) & (alike > 0)]), [0])
    body = np.isin(labels, touched)
    if body.mean() > 0.2 or body[[0, -1]].any() or body[:, [0, -1]].any():
        return region
    return _filled(cv2.dilate((region | body).astype(np.uint8), np.ones((5, 5), np.uint8)))


def _without(picture: np.ndarray, region: np.ndarray) -> np.ndarray:
    """The picture with a region filled in from around it; coarse, since backgrounds are smooth where it matters."""
    size = (picture.shape[1] // 4, picture.shape[0] // 4)
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    hole = (cv2.resize(region * 255, size, interpolation=cv2.INTER_AREA) > 0).astype(np.uint8)
    patched = cv2.resize(cv2.inpaint(small, hole, 3, cv2.INPAINT_TELEA), picture.shape[1::-1])
    return np.where(region[..., None] > 0, patched, picture)


def _blobs(frame: np.ndarray, backdrop: np.ndarray, region: np.ndarray) -> list[_Blob]:
    """Regions that stand out from the backdrop, largest first, without crumbs."""
    pair = [cv2.cvtColor(p, cv2.COLOR_RGB2LAB).astype(np.float32) for p in (frame, backdrop)]
    distance = np.linalg.norm(pair[0] - pair[1], axis=2) * (region > 0)
    mask = _filled(cv2.morphologyEx((distance > 28).astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)))
    count, labels, stats, centres = cv2.connectedComponentsWithStats(mask)
    order = sorted(range(1, count), key=lambda i: -stats[i, cv2.CC_STAT_AREA])
    least = max(30, 0.15 * stats[order[0], cv2.CC_STAT_AREA]) if order else 0
    return [
        _Blob(float(centres[i][0]), float(centres[i][1]), float(stats[i, cv2.CC_STAT_AREA]), labels == i)
        for i in order
        if stats[i, cv2.CC_STAT_AREA] >= least
    ]


def _two_tracks(blobs: list[list[_Blob]]) -> list[list[_Blob]]:
    """Follow two regions; in frames where they touch, one region stands for both."""
    first: list[_Blob] = []
    second: list[_Blob] = []
    for found in blobs:
        pair = [found[0], found[-1]]
        if first:
            straight = _distance(first[-1], pair[0]) + _distance(second[-1], pair[1])
            crossed = _distance(first[-1], pair[1]) + _distance(second[-1], pair[0])
            pair = pair if straight <= crossed else pair[::-1]
        elif len(pair) == 2 and (pair[0].x, pair[0].y) > (pair[1].x, pair[1].y):
            pair = pair[::-1]
        first.append(pair[0])
        second.append(pair[1])
    return [first, second]


def _distance(a: _Blob, b: _Blob) -> float:
    return float(np.hypot(a.x - b.x, a.y - b.y))


def _labelled(frames: list[np.ndarray], tracks: list[list[_Blob]]) -> Motion:
    subject = _subject(frames, tracks[0])
    if len(tracks) == 2:
        if all(_travel(track) > 12 for track in tracks):
            return Motion("colliding", subject, _subject(frames, tracks[1]))
        tracks = [max(tracks, key=_travel)]
        subject = _subject(frames, tracks[0])
    label = _single_label(frames, tracks[0])
    return Motion(label, None if label == "moving" else subject)  # far from simple shapes, a name is mostly wrong


def _travel(track: list[_Blob]) -> float:
    """Diagonal of the box that the centre visits, pixels."""
    return float(np.hypot(np.ptp([b.x for b in track]), np.ptp([b.y for b in track])))


def _single_label(frames: list[np.ndarray], track: list[_Blob]) -> str:
    x, y = np.array([b.x for b in track]), np.array([b.y for b in track])
    radius = float(np.sqrt(np.median([b.area for b in track]) / np.pi))
    path = float(np.hypot(np.diff(x), np.diff(y)).sum())
    net = np.array([x[-3:].mean() - x[:3].mean(), y[-3:].mean() - y[:3].mean()])
    growth = float(np.polyfit(np.linspace(0, 1, len(track)), np.log([b.area for b in track]), 1)[0])
    if _travel(track) > max(0.9 * radius, 10):
        if float(np.hypot(*net)) < 0.72 * path * (len(track) - 3) / (len(track) - 1):
            return "bouncing"
        if abs(net[0]) >= abs(net[1]):
            return "moving right" if net[0] > 0 else "moving left"
        return "moving down" if net[1] > 0 else "moving up"
    if abs(growth) > 0.7:
        return "growing" if growth > 0 else "shrinking"
    turn = _turn(frames, track, radius)
    if abs(turn) > 0.6:
        return "turning clockwise" if turn > 0 else "turning counterclockwise"
    return "moving"


def _turn(frames: list[np.ndarray], track: list[_Blob], radius: float) -> float:
    """Radians turned in all, clockwise on screen: the circular shift between polar views of consecutive frames."""
    x, y = np.median([b.x for b in track]), np.median([b.y for b in track])
    views = []
    for frame in frames:
        grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32)
        polar = cv2.warpPolar(grey, (16, 180), (float(x), float(y)), radius * 1.5, _POLAR)
        views.append(polar - polar.mean(axis=0, keepdims=True))
    spectra = [np.fft.rfft(view, axis=0) for view in views]
    total = 0.0
    for before, after in itertools.pairwise(spectra):
        likeness = np.fft.irfft((after * before.conj()).sum(axis=1), n=180)
        near = np.concatenate([likeness[:26], np.full(129, -np.inf), likeness[-25:]])  # at most 50 degrees a step
        shift = int(np.argmax(near))
        total += np.radians(2 * (shift if shift < 90 else shift - 180))
    return total


def _subject(frames: list[np.ndarray], track: list[_Blob]) -> str | None:
    """The name of a flat-coloured simple shape, or None."""
    pairs = sorted(zip(frames, track, strict=True), key=lambda p: -p[1].area)[: max(3, len(frames) // 2)]
    colours, shapes, flat = [], [], []
    for frame, blob in pairs:
        core = cv2.erode(blob.mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        if core.sum() < 20:
            return None
        pixels = frame[core].astype(np.float32)
        colour = np.median(pixels, axis=0)
        flat.append(float(np.mean(np.abs(pixels - colour).max(axis=1) < 40)))
        colours.append(colour)
        shapes.append(_shape(blob.mask))
    if float(np.median(flat)) < 0.6:
        return None
    known = [s for s in shapes if s is not None]
    if len(known) < len(shapes) / 2:
        return None
    return f"{_colour_name(np.median(colours, axis=0))} {max(sorted(set(known)), key=known.count)}"


def _shape(mask: np.ndarray) -> str | None:
    """Circle, square, triangle, star or cross by the areas of the region, its hull and its tightest frames."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    contour = max(contours, key=cv2.contourArea)
    area, hull = cv2.contourArea(contour), cv2.contourArea(cv2.convexHull(contour))
    if area < 40 or hull == 0:
        return None
    _, (width, height), _ = cv2.minAreaRect(contour)
    triangle = max(cv2.minEnclosingTriangle(contour)[0], 1.0)
    circle = np.pi * cv2.minEnclosingCircle(contour)[1] ** 2
    if max(width, height) > 1.6 * min(width, height):
        return None
    if area / hull < 0.735:
        return "star"
    if area / hull < 0.86:
        return "cross"
    candidates = {"circle": area / circle, "square": area / (width * height), "triangle": area / triangle}
    name = max(candidates, key=lambda key: candidates[key])
    return name if candidates[name] > 0.75 else None


def _colour_name(rgb: np.ndarray) -> str:
    """The nearest named colour in CIELAB."""
    names = list(_NAMED_RGB)
    pixels = np.array([[tuple(rgb), *_NAMED_RGB.values()]], np.uint8)
    lab = cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB)[0].astype(np.float32)
    return names[int(np.argmin(np.linalg.norm(lab[1:] - lab[0], axis=1)))]


def _camera_label(frames: list[np.ndarray]) -> str:
    """Pan or zoom from the global shift and scale between consecutive frames; `moving` when neither is clear."""
    greys = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32) for frame in frames]
    height, width = greys[0].shape
    window = cv2.createHanningWindow((width, height), cv2.CV_32F)
    moves = [cv2.phaseCorrelate(a, b, window) for a, b in itertools.pairwise(greys)]
    sure = [(dx, dy) for (dx, dy), response in moves if response > 0.1]
    if len(sure) >= len(moves) / 2:
        dx, dy = np.sum(sure, axis=0)
        steady = np.hypot(dx, dy) / max(1e-6, sum(np.hypot(*m) for m in sure))
        if np.hypot(dx, dy) > 0.12 * width and steady > 0.6:
            if abs(dx) >= abs(dy):
                return "camera panning right" if dx < 0 else "camera panning left"
            return "camera panning down" if dy < 0 else "camera panning up"
    whole, centre = (width, height), (width / 2, height / 2)
    polar = [cv2.warpPolar(g, whole, centre, height / 2, _POLAR | cv2.WARP_POLAR_LOG) for g in greys]
    scales = [cv2.phaseCorrelate(a, b, window) for a, b in itertools.pairwise(polar)]
    zoom = sum(dx for (dx, _), response in scales if response > 0.15)
    if abs(zoom) > 0.05 * width:
        return "camera zooming in" if zoom > 0 else "camera zooming out"
    return "moving"

"""One shot: a background, a subject that moves, and a second object, so that no single frame tells the motion."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from internvid_assets.captions.motion import with_article
from internvid_assets.demo.shapes import COLOURS, Subject, draw

WIDTH, HEIGHT = 320, 240
Pose = tuple[float, float, float, float]  # x, y, radius in pixels; clockwise angle in radians


@dataclass(frozen=True)
class Shot:
    """What a shot shows. `kind` is motion, still or slideshow."""

    kind: str
    motion: str
    subject: Subject
    other: Subject
    num_frames: int
    seed: int

    @property
    def caption(self) -> str:
        """The true caption."""
        if self.kind != "motion":
            return f"a still {self.subject}"
        if self.motion == "colliding":
            return f"{with_article(str(self.subject))} and {with_article(str(self.other))} colliding"
        return f"{with_article(str(self.subject))} {self.motion}"


def background(rng: np.random.Generator) -> np.ndarray:
    """A muted picture, uint8 RGB [H, W, 3]: flat, a gradient, or a soft texture."""
    hsv = np.array([[[rng.integers(0, 180), rng.integers(15, 90), rng.integers(45, 185)]]], np.uint8)
    base = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0].astype(np.float32)
    kind = rng.integers(3)
    shade = np.zeros((HEIGHT, WIDTH), np.float32)
    if kind == 1:
        direction = rng.uniform(0, 2 * np.pi)
        xs, ys = np.meshgrid(np.linspace(-1, 1, WIDTH), np.linspace(-1, 1, HEIGHT))
        shade = (25 * (xs * np.cos(direction) + ys * np.sin(direction))).astype(np.float32)
    elif kind == 2:
        coarse = rng.normal(0, 1, (HEIGHT // 20, WIDTH // 20)).astype(np.float32)
        shade = np.asarray(9 * cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC), np.float32)
    return np.clip(base + shade[..., None], 0, 255).astype(np.uint8)


def frames(shot: Shot, backdrop: np.ndarray) -> Iterator[np.ndarray]:
    """The pictures of a shot, uint8 RGB [H, W, 3]."""
    rng = np.random.default_rng(shot.seed)
    if shot.kind == "slideshow":
        yield from _slideshow(shot, backdrop, rng)
        return
    poses = list(zip(*_paths(shot, rng), strict=True))
    grains = [np.repeat(rng.normal(0, 2.0, (HEIGHT, WIDTH, 1)), 3, axis=2).astype(np.int16) for _ in range(5)]
    if shot.kind == "still":
        poses, grains = [poses[len(poses) // 2]] * shot.num_frames, grains[:1]
    for number, (first, second) in enumerate(poses):
        picture = backdrop.copy()
        draw(picture, shot.other, *second)
        draw(picture, shot.subject, *first)
        yield cv2.add(picture, grains[number % len(grains)], dtype=cv2.CV_8U)


def _slideshow(shot: Shot, backdrop: np.ndarray, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Three still pages with soft changes, too soft for a cut detector."""
    pages = []
    for _ in range(3):
        page = backdrop.copy()
        x, y = rng.uniform((60, 60), (260, 180))
        draw(page, shot.subject, x, y, 34, rng.uniform(0, 6))
        pages.append(page.astype(np.float32))
    hold, fade = (shot.num_frames - 2 * 10) // 3, 10
    for number, page in enumerate(pages):
        for _ in range(hold):
            yield page.astype(np.uint8)
        if number < 2:
            for step in range(1, fade + 1):
                share = step / (fade + 1)
                yield ((1 - share) * page + share * pages[number + 1]).astype(np.uint8)


def _paths(shot: Shot, rng: np.random.Generator) -> tuple[list[Pose], list[Pose]]:
    """The poses of subject and other object. Every path is as likely as its reverse, so one frame tells no direction."""
    u = np.linspace(0, 1, shot.num_frames)
    radius, angle = rng.uniform(24, 36), rng.uniform(0, 2 * np.pi)
    name = shot.motion
    if name == "colliding":
        return _collision(shot.num_frames, u, radius, angle, rng)
    horizontal = name in ("moving left", "moving right") or (name == "bouncing" and rng.random() < 0.5)
    straight = name.startswith("moving") or name == "bouncing"
    x, y = np.full_like(u, rng.uniform(70, WIDTH - 70)), np.full_like(u, rng.uniform(65, HEIGHT - 65))
    radii, angles = np.full_like(u, radius), np.full_like(u, angle)
    if straight:
        length, room = (WIDTH, rng.uniform(0.45, 0.62)) if horizontal else (HEIGHT, rng.uniform(0.42, 0.55))
        start = rng.uniform(radius + 4, length - radius - 4 - length * room)
        along = _bounce(u, rng) if name == "bouncing" else u
        along = start + length * room * (1 - along if name in ("moving left", "moving up") else along)
        x, y = (along, y) if horizontal else (x, along)
    elif name.startswith("turning"):
        turn = rng.uniform(2.6, 5.0) * (1 if name == "turning clockwise" else -1)
        angles = angle + turn * (u - 0.5)
    elif name in ("growing", "shrinking"):
        radii = np.geomspace(16, rng.uniform(40, 52), shot.num_frames)
        radii = radii if name == "growing" else radii[::-1]
    corner = _free_corner(x, y, radii, rng)
    return list(zip(x, y, radii, angles, strict=True)), [corner] * shot.num_frames


def _bounce(u: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """There and back, once or one and a half times, beginning at either end."""
    phase = u * rng.choice([2.0, 3.0])
    path = np.abs((phase + 1) % 2 - 1)
    return path if rng.random() < 0.5 else 1 - path


def _collision(
    num_frames: int, u: np.ndarray, radius: float, angle: float, rng: np.random.Generator
) -> tuple[list[Pose], list[Pose]]:
    """Two objects meet in the middle and fly apart."""
    horizontal = rng.random() < 0.6
    half = (WIDTH if horizontal else HEIGHT) / 2
    radius = min(radius, 28.0)
    reach = half - radius - 6
    gap = radius * 0.95 + (reach - radius) * np.abs(2 * u - 1)
    middle = (WIDTH if horizontal else HEIGHT) / 2
    across = rng.uniform(60, (HEIGHT if horizontal else WIDTH) - 60)
    sign = rng.choice([-1.0, 1.0])
    sides = []
    for side in (-sign, sign):
        along = middle + side * gap
        x, y = (along, np.full_like(u, across)) if horizontal else (np.full_like(u, across), along)
        turn = angle + (0 if side < 0 else 2.0)
        sides.append([(a, b, radius, turn) for a, b in zip(x, y, strict=True)])
    return sides[0], sides[1]


def _free_corner(x: np.ndarray, y: np.ndarray, radii: np.ndarray, rng: np.random.Generator) -> Pose:
    """A pose for the resting object, as far as possible from the path of the subject."""
    places = [(px, py) for px in (34, WIDTH / 2, WIDTH - 34) for py in (34, HEIGHT / 2, HEIGHT - 34)]
    clearance = [float(np.min(np.hypot(x - px, y - py) - radii)) for px, py in places]
    order = sorted(range(len(places)), key=lambda i: -clearance[i])
    px, py = places[order[int(rng.integers(2))]]
    return px, py, float(rng.uniform(20, 26)), float(rng.uniform(0, 6))


def contrast(subject: Subject, backdrop: np.ndarray) -> float:
    """Distance of a subject's colour from the background's mean, in 8-bit CIELAB units."""
    pixels = np.array([[COLOURS[subject.colour], backdrop.mean(axis=(0, 1))]], np.uint8)
    lab = cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB)[0].astype(float)
    return float(np.linalg.norm(lab[0] - lab[1]))

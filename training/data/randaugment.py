"""RandAugment: some operations drawn at random, each with a random strength, the same for all frames of a clip.

Source: RandAugment (arXiv 1909.13719) as timm's `rand-m7-n4-mstd0.5-inc1`, by which UMT fine-tunes
(U:single_modality/datasets/rand_augment.py): every operation is drawn with equal chances and done half the time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

_MAX_LEVEL, _LEVEL_DEVIATION = 10.0, 0.5
_FILL = (124, 116, 104)  # ImageNet's mean

Operation = Callable[[Image.Image, float, float], Image.Image]
"""From a picture, a strength of 0 to 1 and a sign of -1 or 1."""


def _affine(*matrix: float) -> Callable[[Image.Image], Image.Image]:
    return lambda picture: picture.transform(
        picture.size, Image.Transform.AFFINE, matrix, resample=Image.Resampling.BICUBIC, fillcolor=_FILL
    )


def _rotate(picture: Image.Image, strength: float, sign: float) -> Image.Image:
    return picture.rotate(sign * strength * 30, resample=Image.Resampling.BICUBIC, fillcolor=_FILL)


def _solarize_add(picture: Image.Image, strength: float, sign: float) -> Image.Image:
    """Dark values grow, bright ones stay."""
    add = int(strength * 110)
    return picture.point([min(255, value + add) if value < 128 else value for value in range(256)] * 3)


def _posterize(picture: Image.Image, strength: float, sign: float) -> Image.Image:
    return ImageOps.posterize(picture, max(1, 4 - int(strength * 4)))


def _enhanced(enhancer: Callable[[Image.Image], ImageEnhance._Enhance]) -> Operation:
    return lambda picture, strength, sign: enhancer(picture).enhance(1 + sign * strength * 0.9)


OPERATIONS: dict[str, Operation] = {
    "auto_contrast": lambda picture, strength, sign: ImageOps.autocontrast(picture),
    "equalize": lambda picture, strength, sign: ImageOps.equalize(picture),
    "invert": lambda picture, strength, sign: ImageOps.invert(picture),
    "rotate": _rotate,
    "posterize": _posterize,
    "solarize": lambda picture, strength, sign: ImageOps.solarize(picture, 256 - int(strength * 256)),
    "solarize_add": _solarize_add,
    "colour": _enhanced(ImageEnhance.Color),
    "contrast": _enhanced(ImageEnhance.Contrast),
    "brightness": _enhanced(ImageEnhance.Brightness),
    "sharpness": _enhanced(ImageEnhance.Sharpness),
    "shear_x": lambda picture, strength, sign: _affine(1, sign * strength * 0.3, 0, 0, 1, 0)(picture),
    "shear_y": lambda picture, strength, sign: _affine(1, 0, 0, sign * strength * 0.3, 1, 0)(picture),
    "translate_x": lambda picture, strength, sign: _affine(1, 0, sign * strength * 0.45 * picture.width, 0, 1, 0)(
        picture
    ),
    "translate_y": lambda picture, strength, sign: _affine(1, 0, 0, 0, 1, sign * strength * 0.45 * picture.height)(
        picture
    ),
}


def rand_augment(
    frames: Sequence[np.ndarray], num_operations: int, level: float, rng: np.random.Generator
) -> list[np.ndarray]:
    """uint8 RGB pictures [H, W, 3], each put through the same operations.

    Args:
        level: 0 to 10, the mean strength; that of an operation is drawn around it with a deviation of 0.5.
    """
    pictures = [Image.fromarray(frame) for frame in frames]
    for name in rng.choice(list(OPERATIONS), num_operations):
        is_done, drawn, sign = rng.random() < 0.5, rng.normal(level, _LEVEL_DEVIATION), rng.choice([-1.0, 1.0])
        strength = float(np.clip(drawn, 0, _MAX_LEVEL)) / _MAX_LEVEL
        if is_done:
            pictures = [OPERATIONS[name](picture, strength, float(sign)) for picture in pictures]
    return [np.asarray(picture) for picture in pictures]

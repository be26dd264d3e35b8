"""Sizes of a ViCLIP. The published ones are `l14` and `b16`; the tiny one learns on a CPU in minutes."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class VisionConfig:
    """The video tower: a ViT over all patches of all frames at once."""

    num_frames: int = 8
    image_size: int = 224  # pixels, square
    patch_size: int = 14  # pixels
    tubelet_frames: int = 1  # frames that one patch spans; the released models use 1
    width: int = 1024
    layers: int = 24
    heads: int = 16
    drop_path: float = 0.1  # of the last block; rises linearly from 0 at the first

    def __post_init__(self) -> None:
        _whole("vision.image_size", self.image_size, "vision.patch_size", self.patch_size)
        _whole("vision.num_frames", self.num_frames, "vision.tubelet_frames", self.tubelet_frames)
        _whole("vision.width", self.width, "vision.heads", self.heads)

    @property
    def num_patches_per_frame(self) -> int:
        """Patches of one tubelet."""
        return (self.image_size // self.patch_size) ** 2

    @property
    def num_tubelets(self) -> int:
        """Steps along time."""
        return self.num_frames // self.tubelet_frames


@dataclass(frozen=True)
class TextConfig:
    """The text tower: CLIP's causal transformer, cut to 32 tokens (R: max_txt_l)."""

    context_length: int = 32
    vocab_size: int = 49408
    width: int = 768
    layers: int = 12
    heads: int = 12

    def __post_init__(self) -> None:
        _whole("text.width", self.width, "text.heads", self.heads)


@dataclass(frozen=True)
class ViCLIPConfig:
    """Both towers and what joins them."""

    vision: VisionConfig = field(default_factory=VisionConfig)
    text: TextConfig = field(default_factory=TextConfig)
    embed_dim: int = 768
    init_temperature: float = 0.01
    min_temperature: float = 0.01

    @classmethod
    def l14(cls) -> ViCLIPConfig:
        """ViCLIP-L/14, 428 M parameters (InternVid, arXiv 2307.06942, section 4)."""
        return cls()

    @classmethod
    def b16(cls) -> ViCLIPConfig:
        """ViCLIP-B/16, 150 M parameters."""
        return cls(VisionConfig(patch_size=16, width=768, layers=12, heads=12), TextConfig(width=512, heads=8), 512)

    @classmethod
    def tiny(cls, num_frames: int = 8, tubelet_frames: int = 4, image_size: int = 32) -> ViCLIPConfig:
        """A few million parameters, most of them the word table; patches span several frames, which a small set needs."""
        vision = VisionConfig(num_frames, image_size, 8, tubelet_frames, 96, 3, 4, 0.0)
        return cls(vision, TextConfig(width=64, layers=2, heads=4), 96, init_temperature=0.07)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ViCLIPConfig:
        """The inverse of `to_dict`."""
        rest = {name: value for name, value in values.items() if name not in ("vision", "text")}
        return cls(VisionConfig(**values["vision"]), TextConfig(**values["text"]), **rest)


def _whole(name: str, value: int, by: str, divisor: int) -> None:
    if divisor < 1 or value % divisor:
        raise ValueError(f"{name} = {value} must be a multiple of {by} = {divisor}")

"""Weights in and out: our own folders, the published ViCLIP files, and CLIP weights to start from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from training.viclip.clip_weights import from_clip, is_clip
from training.viclip.config import TextConfig, ViCLIPConfig, VisionConfig
from training.viclip.model import ViCLIP
from training.viclip.openai_weights import from_openai, is_openai

WEIGHTS, CONFIG = "model.safetensors", "viclip.json"


def save_viclip(folder: Path, state: Mapping[str, Tensor], config: ViCLIPConfig) -> None:
    """Write `model.safetensors` and `viclip.json`; the same weights give the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in sorted(state.items())}, folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps(config.to_dict(), indent=1) + "\n")


def load_viclip(source: str | Path | Mapping[str, Tensor], config: ViCLIPConfig | None = None) -> ViCLIP:
    """A ViCLIP in evaluation mode.

    Args:
        source: a folder of `save_viclip`, a `.safetensors` or torch file (published files hold the weights under
            `model`), or a state dict; or the same of a CLIP, as a start for training: transformers' CLIPModel, OpenAI's
            or OpenCLIP's state dict.
        config: sizes; None: from `viclip.json` beside the weights, else read off the shapes (64 features a head, as
            in every CLIP; patches a frame are square).

    The temporal table is interpolated to the configured number of frames, the spatial table resized (bicubic), and the
    text table cut, or interpolated to a longer text, so weights for another input size load.

    Raises: ValueError listing parameters that are missing or unknown.
    """
    state, beside = _read(source)
    if is_clip(state):
        state = from_clip(state)
    elif is_openai(state):
        state = from_openai(state)
    config = config or beside or config_of(state)
    model = ViCLIP(config)
    own = model.state_dict()
    fitted = {name: _fitted(name, tensor, own[name].shape) for name, tensor in state.items() if name in own}
    missing, unknown = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    if missing or unknown:
        raise ValueError(f"the weights do not belong to a ViCLIP: missing {missing[:5]}, unknown {unknown[:5]}")
    model.load_state_dict(fitted)
    return model.eval()


def config_of(state: Mapping[str, Tensor]) -> ViCLIPConfig:
    """Sizes read off the shapes of a state dict; heads are assumed to have 64 features."""
    conv, table = state["vision_encoder.conv1.weight"], state["vision_encoder.positional_embedding"]
    patch, width = conv.shape[-1], conv.shape[0]
    tubelet = conv.shape[2] if conv.ndim == 5 else 1
    text_length, text_width = state["text_encoder.positional_embedding"].shape
    return ViCLIPConfig(
        VisionConfig(
            num_frames=state["vision_encoder.temporal_positional_embedding"].shape[1] * tubelet,
            image_size=round((len(table) - 1) ** 0.5) * patch,
            patch_size=patch,
            tubelet_frames=tubelet,
            width=width,
            layers=_num_layers(state, "vision_encoder"),
            heads=width // 64,
        ),
        TextConfig(
            context_length=text_length,
            vocab_size=len(state["text_encoder.token_embedding.weight"]),
            width=text_width,
            layers=_num_layers(state, "text_encoder"),
            heads=text_width // 64,
        ),
        embed_dim=state["vision_encoder.proj"].shape[1],
    )


def _num_layers(state: Mapping[str, Tensor], tower: str) -> int:
    prefix = f"{tower}.transformer.resblocks."
    return len({name.removeprefix(prefix).partition(".")[0] for name in state if name.startswith(prefix)})


def _read(source: str | Path | Mapping[str, Tensor]) -> tuple[dict[str, Tensor], ViCLIPConfig | None]:
    if isinstance(source, Mapping):
        return dict(source), None
    path = Path(source)
    config_path = (path if path.is_dir() else path.parent) / CONFIG
    config = ViCLIPConfig.from_dict(json.loads(config_path.read_text())) if config_path.exists() else None
    path = path / WEIGHTS if path.is_dir() else path
    if not path.exists():
        raise ValueError(f"no weights at {path}: give a folder with {WEIGHTS}, or a weights file")
    if path.suffix == ".safetensors":
        return load_file(path), config
    state = torch.load(path, map_location="cpu", weights_only=True)
    return dict(state.get("model", state.get("state_dict", state))), config


def _fitted(name: str, tensor: Tensor, shape: torch.Size) -> Tensor:
    """A published tensor in the shape of ours."""
    if tensor.shape == shape:
        return tensor
    if name == "temp":
        return tensor.reshape(shape)
    if name == "vision_encoder.temporal_positional_embedding":
        return _resized_row(tensor, shape[1])
    if name == "vision_encoder.positional_embedding":
        return _resized_grid(tensor, shape[0])
    if name == "text_encoder.positional_embedding":
        return tensor[: shape[0]] if shape[0] <= len(tensor) else _resized_row(tensor[None], shape[0])[0]
    if name == "vision_encoder.conv1.weight":
        return _inflated(tensor, shape[2])
    raise ValueError(f"{name} has shape {tuple(tensor.shape)}, the model wants {tuple(shape)}")


def _resized_row(table_1ND: Tensor, length: int) -> Tensor:
    """A table along time or text, linearly interpolated, as the released code does."""
    wide = functional.interpolate(table_1ND.float().mT, length, mode="linear", align_corners=False)
    return wide.mT.to(table_1ND.dtype)


def _resized_grid(table_ND: Tensor, length: int) -> Tensor:
    """The spatial table on another square grid; the class row stays."""
    old, new = round((len(table_ND) - 1) ** 0.5), round((length - 1) ** 0.5)
    grid = table_ND[1:].float().reshape(1, old, old, -1).permute(0, 3, 1, 2)
    grid = functional.interpolate(grid, (new, new), mode="bicubic", align_corners=False)
    return torch.cat([table_ND[:1], grid.flatten(2)[0].mT.to(table_ND.dtype)])


def _inflated(kernel: Tensor, tubelet_frames: int) -> Tensor:
    """A 2-D patch kernel in the centre of a 3-D one (R:V/models/backbones/clip/clip_vision.py, `inflate_weight`)."""
    flat = kernel if kernel.ndim == 4 else kernel.squeeze(2)
    wide = flat.new_zeros(*flat.shape[:2], tubelet_frames, *flat.shape[2:])
    wide[:, :, tubelet_frames // 2] = flat
    return wide

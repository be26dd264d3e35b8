"""CLIP's weights as a start for ViCLIP: the same tensors under our names, and a temporal table of zeros.

Source: InternVid (arXiv 2307.06942) sections 1 and 4; the layout is that of transformers' CLIPModel.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

_MARK = "vision_model.embeddings.class_embedding"
_BLOCK = {
    "out_proj": "self_attn.out_proj",
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "c_fc": "mlp.fc1",
    "c_proj": "mlp.fc2",
}
_OURS = {"out_proj": "attn.out_proj", "ln_1": "ln_1", "ln_2": "ln_2", "c_fc": "mlp.c_fc", "c_proj": "mlp.c_proj"}
_NORMS = {
    "vision_encoder.ln_pre": "vision_model.pre_layrnorm",
    "vision_encoder.ln_post": "vision_model.post_layernorm",
    "text_encoder.ln_final": "text_model.final_layer_norm",
}
_TABLES = {
    "vision_encoder.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "vision_encoder.class_embedding": _MARK,
    "vision_encoder.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "text_encoder.token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "text_encoder.positional_embedding": "text_model.embeddings.position_embedding.weight",
}


def is_clip(state: Mapping[str, Tensor]) -> bool:
    """Whether a state dict is transformers' CLIPModel's."""
    return _MARK in state


def from_clip(state: Mapping[str, Tensor], num_frames: int = 8) -> dict[str, Tensor]:
    """A ViCLIP state dict; on one frame, and on texts, it gives what CLIP gives.

    Only CLIPs with QuickGELU (OpenAI's) fit: the activation is not in the weights.

    Raises: ValueError naming a tensor that is missing.
    """
    try:
        ours = {name: state[theirs] for name, theirs in _TABLES.items()}
        for name, theirs in _NORMS.items():
            ours |= {f"{name}.{kind}": state[f"{theirs}.{kind}"] for kind in ("weight", "bias")}
        for tower, theirs in (("vision_encoder", "vision_model"), ("text_encoder", "text_model")):
            for layer in range(_num_layers(state, theirs)):
                ours |= _block(state, f"{tower}.transformer.resblocks.{layer}", f"{theirs}.encoder.layers.{layer}")
        ours["vision_encoder.proj"] = state["visual_projection.weight"].T
        ours["text_encoder.text_projection"] = state["text_projection.weight"].T
        ours["temp"] = (-state["logit_scale"]).exp().reshape(1)
    except KeyError as error:
        raise ValueError(f"these are not the weights of a CLIPModel: {error} is missing") from error
    width = len(ours["vision_encoder.class_embedding"])
    return ours | {"vision_encoder.temporal_positional_embedding": torch.zeros(1, num_frames, width)}


def _block(state: Mapping[str, Tensor], ours: str, theirs: str) -> dict[str, Tensor]:
    block = {}
    for kind in ("weight", "bias"):
        parts = [state[f"{theirs}.self_attn.{x}_proj.{kind}"] for x in "qkv"]
        block[f"{ours}.attn.in_proj_{kind}"] = torch.cat(parts)
        block |= {f"{ours}.{_OURS[name]}.{kind}": state[f"{theirs}.{part}.{kind}"] for name, part in _BLOCK.items()}
    return block


def _num_layers(state: Mapping[str, Tensor], tower: str) -> int:
    prefix = f"{tower}.encoder.layers."
    return len({name.removeprefix(prefix).partition(".")[0] for name in state if name.startswith(prefix)})

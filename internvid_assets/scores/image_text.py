"""Two-tower models of pictures and texts through transformers: CLIP, SigLIP and SigLIP 2, from the hub or from folders.

Legend: N pictures or texts, D width of the embedding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from internvid_assets.captions.base import batched
from internvid_assets.captions.hf import Checkpoint
from internvid_assets.captions.options import positive
from internvid_assets.clips.packs import ClipFrames
from internvid_assets.scores.base import ScoreItem

OPENAI_CLIP = "openai/clip-vit-large-patch14"


class ImageTextModel:
    """Embeds pictures and texts, `batch_size` at once; loads when first used."""

    def __init__(self, model: str, revision: str, device: str, batch_size: str):
        self.checkpoint = Checkpoint("model", model, revision)
        self.device, self.batch_size = device, positive("batch_size", batch_size)

    def identity(self) -> dict[str, str]:
        """What decides the embeddings, for versions: hub id and revision, or a folder's content."""
        return self.checkpoint.identity()

    def pictures(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """Unit rows, float32 [N, D], of uint8 RGB pictures [H, W, 3]."""
        processor, model = self._loaded
        inputs = (processor(images=list(part), return_tensors="pt") for part in batched(pictures, self.batch_size))
        return _unit_rows(model.get_image_features(**given.to(model.device)) for given in inputs)

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Unit rows, float32 [N, D], of texts, each cut at the model's length."""
        processor, model = self._loaded
        length = model.config.text_config.max_position_embeddings
        options = {"padding": True, "truncation": True, "max_length": length, "return_tensors": "pt"}
        if model.config.model_type.startswith("siglip"):  # they learned with texts padded to the full length, unmasked
            options |= {"padding": "max_length", "padding_side": "right", "return_attention_mask": False}
        inputs = (processor(text=list(part), **options) for part in batched(texts, self.batch_size))
        return _unit_rows(model.get_text_features(**given.to(model.device)) for given in inputs)

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        import torch
        from transformers import AutoModel, AutoProcessor

        device = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
        name, pin = self.checkpoint.model, self.checkpoint.pin
        try:
            processor = AutoProcessor.from_pretrained(name, **pin)
            model = AutoModel.from_pretrained(name, dtype=torch.float32, **pin).eval().to(device)
        except (OSError, ValueError, RuntimeError) as error:
            raise ValueError(f"model {name!r} cannot be loaded on {device!r}: {str(error).splitlines()[0]}") from error
        if not hasattr(model, "get_image_features") or not hasattr(model.config, "text_config"):
            raise ValueError(f"model {name!r} is a {model.config.model_type}: name a CLIP, SigLIP or SigLIP 2")
        return processor, model


def _unit_rows(outputs: Iterator[Any]) -> np.ndarray:
    import torch

    with torch.inference_mode():
        parts = [torch.nn.functional.normalize(output.pooler_output.float(), dim=-1) for output in outputs]
    return torch.cat(parts).cpu().numpy()


def distinct_clips(items: Sequence[ScoreItem]) -> tuple[list[ClipFrames], list[int]]:
    """The clips of the items, each once, and which of them each item shows: several captions share one clip's frames."""
    clips: dict[str, ClipFrames] = {}
    for item in items:
        assert item.frames is not None
        clips.setdefault(item.frames.clip_id, item.frames)
    place = {clip_id: number for number, clip_id in enumerate(clips)}
    return list(clips.values()), [place[item.frames.clip_id] for item in items if item.frames is not None]

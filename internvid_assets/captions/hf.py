"""Models from the Hugging Face hub or a local folder, through transformers: the paper's recipe in production.

Defaults (P§3.2, I#61, I#142): BLIP-2 for the middle frame, a tagger or captioner once a second, and
`mrm8488/flan-t5-large-finetuned-openai-summarize_from_feedback` to merge. Every id may be a local folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from internvid_assets.captions.base import ClipInput, CoarseCaption, FineCaption, FramePolicy, MergeInput
from internvid_assets.lake.stage import Refusal, short_hash

CODE_VERSION = "1"
MERGE_PROMPT = "summarize: {texts}"


class HfCaptioner:
    """Image-to-text for frames and text-to-text for the merge. Options come as strings from the settings."""

    name = "hf"

    def __init__(
        self,
        image_model: str = "Salesforce/blip2-opt-2.7b",
        frame_model: str = "",
        merge_model: str = "mrm8488/flan-t5-large-finetuned-openai-summarize_from_feedback",
        revision: str = "main",
        device: str = "",
        max_new_tokens: str = "30",
        num_beams: str = "3",
        batch_size: str = "8",
    ):
        self.image_model, self.frame_model, self.merge_model = image_model, frame_model or image_model, merge_model
        self.revision = revision
        self.device = device
        self.generation = {"max_new_tokens": int(max_new_tokens), "num_beams": int(num_beams), "do_sample": False}
        self.batch_size = int(batch_size)
        self.policy = FramePolicy()
        self.version = short_hash(
            CODE_VERSION, image_model, self.frame_model, merge_model, revision, self.generation, MERGE_PROMPT,
            self.policy.max_second_frames,
        )  # fmt: skip

    def coarse(self, clips: Sequence[ClipInput]) -> list[CoarseCaption | Refusal]:
        """A text of each middle frame; `empty_text` when the model says nothing."""
        texts = self._describe(self._coarse_model, [clip.frames.middle.rgb() for clip in clips])
        return [CoarseCaption(text) if text else Refusal("empty_text", self.image_model) for text in texts]

    def fine(self, clips: Sequence[ClipInput]) -> list[FineCaption | Refusal]:
        """A text of each frame at one a second."""
        chosen = [[clip.frames.seconds[i] for i in self.policy.seconds(clip.frames)] for clip in clips]
        texts = iter(self._describe(self._fine_model, [frame.rgb() for frames in chosen for frame in frames]))
        return [FineCaption(tuple(f.seconds for f in frames), tuple(next(texts) for _ in frames)) for frames in chosen]

    def merge(self, clips: Sequence[MergeInput]) -> list[str | Refusal]:
        """One sentence from the coarse and the distinct fine texts; `empty_text` when the model says nothing."""
        tokenizer, model, device = self._merge
        results: list[str | Refusal] = []
        for start in range(0, len(clips), self.batch_size):
            prompts = [MERGE_PROMPT.format(texts=_joined(clip)) for clip in clips[start : start + self.batch_size]]
            tokens = tokenizer(prompts, padding=True, truncation=True, return_tensors="pt").to(device)
            texts = tokenizer.batch_decode(model.generate(**tokens, **self.generation), skip_special_tokens=True)
            results += [text.strip() or Refusal("empty_text", self.merge_model) for text in texts]
        return results

    def _describe(self, loaded: tuple[Any, Any, str], pictures: list[np.ndarray]) -> list[str]:
        processor, model, device = loaded
        texts: list[str] = []
        for start in range(0, len(pictures), self.batch_size):
            inputs = processor(images=pictures[start : start + self.batch_size], return_tensors="pt").to(device)
            ids = model.generate(**inputs, **self.generation)
            texts += [text.strip() for text in processor.batch_decode(ids, skip_special_tokens=True)]
        return texts

    @cached_property
    def _coarse_model(self) -> tuple[Any, Any, str]:
        return self._load_image_model(self.image_model)

    @cached_property
    def _fine_model(self) -> tuple[Any, Any, str]:
        return self._coarse_model if self.frame_model == self.image_model else self._load_image_model(self.frame_model)

    def _load_image_model(self, model_id: str) -> tuple[Any, Any, str]:
        from transformers import AutoModelForImageTextToText, AutoProcessor

        processor = AutoProcessor.from_pretrained(model_id, **self._revision(model_id))
        model = AutoModelForImageTextToText.from_pretrained(model_id, **self._revision(model_id))
        return processor, model.eval().to(self._device()), self._device()

    @cached_property
    def _merge(self) -> tuple[Any, Any, str]:
        from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(self.merge_model, **self._revision(self.merge_model))
        model = AutoModelForSeq2SeqLM.from_pretrained(self.merge_model, **self._revision(self.merge_model))
        return tokenizer, model.eval().to(self._device()), self._device()

    def _revision(self, model_id: str) -> dict[str, str]:
        return {} if Path(model_id).is_dir() else {"revision": self.revision}

    def _device(self) -> str:
        import torch

        return self.device or ("cuda" if torch.cuda.is_available() else "cpu")


def _joined(clip: MergeInput) -> str:
    return ". ".join(dict.fromkeys([clip.coarse.text, *clip.fine.frame_texts]))

"""Models of the Hugging Face hub, or of local folders, through transformers: the paper's recipe.

Defaults (P§3.2, I#61, I#142): BLIP-2 for the frames, and to merge them
`mrm8488/flan-t5-large-finetuned-openai-summarize_from_feedback`. `hf_models.py` knows how each family is asked; it is
imported, with torch, when a model is first used.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from internvid_assets.captions.base import (
    Captioner,
    ClipInput,
    CoarseCaption,
    FineCaption,
    FramePolicy,
    MergeInput,
    batched,
)
from internvid_assets.captions.options import merge_template, positive
from internvid_assets.clips.packs import PackedFrame
from internvid_assets.lake.stage import Refusal, short_hash

if TYPE_CHECKING:
    from internvid_assets.captions.hf_models import MergeModel, Model

CODE_VERSION = "2"
_ONE_SENTENCE = "These texts describe frames of one short clip. Say in one short sentence what the clip shows.\n{texts}"
PROMPTS: dict[str, dict[str, str]] = {
    "coarse": {"prefix": "", "task": "<DETAILED_CAPTION>", "chat": "Describe this picture in one short sentence."},
    "fine": {"prefix": "", "task": "<CAPTION>", "chat": "Name what is seen in this video frame in a few words."},
    "merge": {"seq2seq": "summarize: {texts}", "chat": _ONE_SENTENCE, "plain": f"{_ONE_SENTENCE}\nThe clip shows"},
}
"""What is asked when no prompt is set, by step and by how the model takes it (see `hf_models.py`). The authors gave
their merging model the bare texts to summarise (I#142)."""
_DTYPES = ("", "auto", "float32", "float16", "bfloat16")
_BLOCK, _STRIDE, _SMALL = 1 << 16, 1 << 22, 1 << 22
_MODEL_FILES = {".json", ".jinja", ".txt", ".model", ".safetensors", ".bin"}


@dataclass(frozen=True)
class Checkpoint:
    """A model as an option names it: a hub id, of which the revision counts, or a folder, of which the content counts."""

    option: str
    model: str
    revision: str = "main"

    @property
    def pin(self) -> dict[str, str]:
        """What tells transformers the revision."""
        return {} if Path(self.model).is_dir() else {"revision": self.revision}

    def identity(self) -> dict[str, str]:
        """What decides the weights; the same for copies of a folder under one name."""
        folder = Path(self.model)
        if folder.is_dir():
            return {"model": folder.resolve().name, "fingerprint": fingerprint(folder)}
        return {"model": self.model, "revision": self.revision}


def fingerprint(folder: Path) -> str:
    """12 hex digits of the model files of a folder: their names, sizes and content.

    Of files beyond 4 MiB, 64 KiB in every 4 MiB are read: a sixty-fourth. A checkpoint that differs from another of the
    same size only in less than that may be taken for it; training changes more.
    """
    files = sorted(file for file in folder.iterdir() if file.suffix in _MODEL_FILES and file.is_file())
    return short_hash([(file.name, _digest(file, file.stat().st_size, file.stat().st_mtime_ns)) for file in files])


@lru_cache(maxsize=256)
def _digest(file: Path, size: int, mtime_ns: int) -> str:
    """SHA-256 of the size and the blocks; the time only tells the cache that a file was written again."""
    digest = hashlib.sha256(str(size).encode())
    with file.open("rb") as stream:
        for start in range(0, size, _BLOCK if size <= _SMALL else _STRIDE):
            stream.seek(start)
            digest.update(stream.read(_BLOCK))
    return digest.hexdigest()


class HfCaptioner(Captioner):
    """Picture models for the frames and a text model for the merge. Options come as strings from the settings.

    One model is held at a time: a process that does all steps loads each once a step.
    """

    name = "hf"

    def __init__(
        self,
        image_model: str = "Salesforce/blip2-opt-2.7b",
        frame_model: str = "",
        merge_model: str = "mrm8488/flan-t5-large-finetuned-openai-summarize_from_feedback",
        revision: str = "main",
        frame_revision: str = "",
        merge_revision: str = "main",
        coarse_prompt: str = "",
        fine_prompt: str = "",
        merge_prompt: str = "",
        device: str = "",
        dtype: str = "",
        max_new_tokens: str = "60",
        num_beams: str = "3",
        batch_size: str = "8",
        max_second_frames: str = "8",
    ):
        if dtype not in _DTYPES:
            raise ValueError(
                f"dtype = {dtype!r} does not exist: choose one of {', '.join(_DTYPES[1:])} or leave it empty"
            )
        frames = frame_model or image_model
        frame_revision = frame_revision or (revision if frames == image_model else "main")
        self.checkpoints = {
            "coarse": Checkpoint("image_model", image_model, revision),
            "fine": Checkpoint("frame_model" if frame_model else "image_model", frames, frame_revision),
            "merge": Checkpoint("merge_model", merge_model, merge_revision),
        }
        self.prompts = {
            "coarse": coarse_prompt,
            "fine": fine_prompt,
            "merge": merge_prompt and merge_template("merge_prompt", merge_prompt),
        }
        self.device, self.dtype = device, dtype
        self.generation = {
            "max_new_tokens": positive("max_new_tokens", max_new_tokens),
            "num_beams": positive("num_beams", num_beams),
            "do_sample": False,
        }
        self.batch_size = positive("batch_size", batch_size)
        self.policy = FramePolicy(positive("max_second_frames", max_second_frames))
        self._held: tuple[Any, Any] | None = None
        for checkpoint in self.checkpoints.values():
            if Path(checkpoint.model).is_dir() and checkpoint.revision != "main":
                warnings.warn(
                    f"{checkpoint.model} is a folder: the revision {checkpoint.revision} has no effect", stacklevel=2
                )

    def spec(self, step: str) -> dict[str, Any]:
        """The model with its revision or content, the prompt (when none is set: the default of each style), the
        generation, the number format if one is set, the code version, and for `fine` which frames."""
        return {
            "code_version": CODE_VERSION,
            **self.checkpoints[step].identity(),
            "prompt": self.prompts[step] or PROMPTS[step],
            "dtype": self.dtype,
            **self.generation,
            **({"max_second_frames": self.policy.max_second_frames} if step == "fine" else {}),
        }

    def coarse(self, clips: Iterable[ClipInput]) -> Iterator[tuple[str, CoarseCaption | Refusal]]:
        """A text of each middle frame; `empty_text` when the model says nothing."""
        for clip, texts in self._described("coarse", clips, lambda clip: [clip.frames.middle]):
            yield clip.clip_id, texts if isinstance(texts, Refusal) else CoarseCaption(texts[0])

    def fine(self, clips: Iterable[ClipInput]) -> Iterator[tuple[str, FineCaption | Refusal]]:
        """A text of each frame at one a second; `empty_text` when the model says nothing of any."""
        for clip, texts in self._described("fine", clips, self._seconds):
            times = tuple(frame.seconds for frame in self._seconds(clip))
            yield clip.clip_id, texts if isinstance(texts, Refusal) else FineCaption(times, tuple(texts))

    def merge(self, clips: Iterable[MergeInput]) -> Iterator[tuple[str, str | Refusal]]:
        """One text from each clip's texts; `empty_text` when there are none, or the model says nothing."""
        for batch in batched(clips, self.batch_size):
            model: MergeModel = self._model("merge")
            asked = [model.fitted(clip.texts, self._prompt("merge", model)) for clip in batch]
            items = [ids if isinstance(ids, Refusal) else [ids] for ids in asked]
            for clip, texts in zip(batch, self._answers("merge", model, items), strict=True):
                yield clip.clip_id, texts if isinstance(texts, Refusal) else texts[0]

    def _seconds(self, clip: ClipInput) -> list[PackedFrame]:
        return [clip.frames.seconds[i] for i in self.policy.seconds(clip.frames)]

    def _described(
        self, step: str, clips: Iterable[ClipInput], chosen: Callable[[ClipInput], list[PackedFrame]]
    ) -> Iterator[tuple[ClipInput, list[str] | Refusal]]:
        for batch in batched(clips, self.batch_size):
            items = [_pictures(clip, chosen) for clip in batch]
            yield from zip(batch, self._answers(step, self._model(step), items), strict=True)

    def _answers(self, step: str, model: Model, clips: Sequence[list[Any] | Refusal]) -> Iterator[list[str] | Refusal]:
        """For each clip the texts of its items, or why it has none: the clip's own refusal, or its items' first."""
        items = [item for of_clip in clips if not isinstance(of_clip, Refusal) for item in of_clip]
        texts = iter(model.texts(items, self._prompt(step, model)))
        for of_clip in clips:
            if isinstance(of_clip, Refusal):
                yield of_clip
                continue
            answers = [next(texts) for _ in of_clip]
            if answers and not any(answers):
                yield Refusal("empty_text", self.checkpoints[step].model)
            else:
                yield next((a for a in answers if isinstance(a, Refusal)), [a for a in answers if isinstance(a, str)])

    def _prompt(self, step: str, model: Model) -> str:
        return self.prompts[step] or PROMPTS[step][model.style]

    def _model(self, step: str) -> Any:
        """The step's model; the one before it is let go first."""
        from internvid_assets.captions.hf_models import Running, load_merge_model, load_picture_model

        checkpoint, load = self.checkpoints[step], load_merge_model if step == "merge" else load_picture_model
        wanted = (load, checkpoint.model, checkpoint.revision)
        if self._held is None or self._held[0] != wanted:
            self._held = None
            running = Running(self.device, self.dtype, self.batch_size, self.generation)
            self._held = wanted, load(checkpoint, running)
        return self._held[1]


def _pictures(clip: ClipInput, chosen: Callable[[ClipInput], list[PackedFrame]]) -> list[Image.Image] | Refusal:
    try:
        return [Image.fromarray(frame.rgb()) for frame in chosen(clip)]
    except ValueError as error:
        return Refusal("bad_frame", " ".join(str(error).split()))

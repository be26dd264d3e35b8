"""How well a caption fits its clip, by ViCLIP: our own checkpoint or a published one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from internvid_assets.captions.base import batched
from internvid_assets.captions.options import positive
from internvid_assets.clips.packs import ClipFrames
from internvid_assets.lake import Lake
from internvid_assets.lake.stage import Refusal, short_hash
from internvid_assets.scores.base import Reads, ScoreItem, Scorer
from internvid_assets.scores.image_text import distinct_clips
from internvid_assets.scores.weights import weights_sha256
from internvid_assets.store import ObjectStore

if TYPE_CHECKING:
    from training.viclip import ViCLIP

NEWEST = "newest"


class ViclipSimilarity(Scorer):
    """Cosine, in -1..1, of the caption with the clip's video embedding; frames and clean-up as in `training.evaluate`.

    A model that scores what it was trained on, or what is to train it, praises what it knows: a filter by it narrows the
    data. `checkpoint` is a folder, a published `.pth` or `.safetensors` file, or `newest`: the last one that was trained here.
    """

    name, backend, reads = "similarity", "viclip", Reads.FRAMES | Reads.CAPTION

    def __init__(self, checkpoint: str = NEWEST, device: str = "", batch_size: str = "16"):
        self.checkpoint, self.device = checkpoint, device
        self.batch_size = positive("batch_size", batch_size)
        if checkpoint != NEWEST and not Path(checkpoint).exists():
            raise ValueError(
                f"checkpoint = {checkpoint!r} does not exist: name a folder, a weights file, or {NEWEST!r}"
            )
        self._lake: Lake | None = None
        self._store: ObjectStore | None = None

    def attach(self, lake: Lake, store: ObjectStore | None) -> None:
        """See `Scorer.attach`."""
        self._lake, self._store = lake, store

    @cached_property
    def version(self) -> str:
        """See `Scorer.version`; the same weights have the same version wherever they lie.

        Read once: a training meanwhile does not change what this scorer is.
        """
        known = self._newest["weights_sha256"] if self.checkpoint == NEWEST else weights_sha256(Path(self.checkpoint))
        return short_hash("1", "viclip", known)

    def score(self, items: Sequence[ScoreItem]) -> list[float | Refusal]:
        """One cosine per item."""
        import torch

        clips, place = distinct_clips(items)
        captions = {text: row for row, text in enumerate(dict.fromkeys(item.caption or "" for item in items))}
        with torch.inference_mode():
            videos_BE = torch.cat([self._embed(part) for part in batched(clips, self.batch_size)])
            texts = [self._model.encode_text(part) for part in batched(list(captions), 16 * self.batch_size)]
            rows = [captions[item.caption or ""] for item in items]
            return (videos_BE[place] * torch.cat(texts)[rows]).sum(dim=1).tolist()

    def _embed(self, clips: Sequence[ClipFrames]) -> Any:
        """Unit embeddings [B, E] of clips."""
        import torch

        from training.data import choose_frames, resized
        from training.viclip import normalise

        vision = self._model.config.vision
        videos_TCHW = []
        for clip in clips:
            chosen = choose_frames(len(clip.uniform), vision.num_frames, None)
            pictures = {number: clip.uniform[number].rgb() for number in set(chosen)}
            videos_TCHW.append(resized([pictures[number] for number in chosen], vision.image_size))
        batch_BTCHW = torch.from_numpy(np.stack(videos_TCHW)).to(self._model.temp.device)
        return self._model.encode_video(normalise(batch_BTCHW))

    @cached_property
    def _newest(self) -> dict[str, Any]:
        if self._lake is None:
            raise ValueError(f"checkpoint = {NEWEST!r} is known only with a lake")
        rows = self._lake.rows(
            "select checkpoint_key, weights_sha256 from viclip.viclip_checkpoint where role = 'viclip' "
            "order by rowid desc limit 1"
        )
        if not rows:
            raise ValueError(
                f"scores.similarity = 'viclip' with checkpoint = {NEWEST!r}, but none was trained yet: score with another "
                "backend first, or name a checkpoint in scores.options.similarity"
            )
        return rows[0]

    @cached_property
    def _model(self) -> ViCLIP:
        import torch

        from training.viclip import load_viclip

        folder: str | Path = self.checkpoint
        if self.checkpoint == NEWEST:
            assert self._store is not None
            folder = self._store.local_folder(self._newest["checkpoint_key"])
        return load_viclip(folder).to(self.device or ("cuda" if torch.cuda.is_available() else "cpu"))

"""Clips whose pictures mean the same: embeddings of their frames, clustered, and compared within a cluster (SemDeDup)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from inspect import signature
from typing import Any

import numpy as np
import pyarrow as pa

from internvid_assets.captions import tagger
from internvid_assets.captions.embedded import shared_tagger
from internvid_assets.clips.frames import FrameSource
from internvid_assets.clips.packs import ClipFrames
from internvid_assets.lake import Append, Lake, Replace
from internvid_assets.lake.stage import StageResult, short_hash
from internvid_assets.scores.base import NONE, four_uniform
from internvid_assets.scores.clusters import nearest, repeats, spherical_kmeans
from internvid_assets.scores.image_text import OPENAI_CLIP, ImageTextModel
from internvid_assets.scores.todo import clip_groups
from internvid_assets.settings import DuplicateSettings
from internvid_assets.store import ObjectStore

CODE_VERSION = "1"
_SAMPLE = 50_000
"""Clips that the centres are computed from, at most."""
_ROWS_AT_ONCE = 100_000


class ClipEmbedder(ABC):
    """A unit vector for each clip's pictures; near ones mean the same."""

    @property
    @abstractmethod
    def version(self) -> str:
        """Hash of all that decides a vector."""

    @abstractmethod
    def embed(self, clips: Sequence[ClipFrames]) -> np.ndarray:
        """Unit rows, float32 [N, D], of the mean of four frames."""


class TagEmbedder(ClipEmbedder):
    """Square roots of ImageNet class probabilities: their cosine is the overlap of two clips' classes (Bhattacharyya)."""

    version = short_hash("1", tagger.MODEL_ID)

    def embed(self, clips: Sequence[ClipFrames]) -> np.ndarray:
        """See `ClipEmbedder.embed`."""
        rows = shared_tagger().probabilities([frame for clip in clips for frame in four_uniform(clip)])
        return np.sqrt(rows.reshape(len(clips), 4, -1).mean(axis=1))


class PictureEmbedder(ClipEmbedder):
    """Embeddings of CLIP or SigLIP."""

    def __init__(self, model: str = OPENAI_CLIP, revision: str = "main", device: str = "", batch_size: str = "32"):
        self._model = ImageTextModel(model, revision, device, batch_size)

    @property
    def version(self) -> str:
        """See `ClipEmbedder.version`."""
        return short_hash("1", self._model.identity())

    def embed(self, clips: Sequence[ClipFrames]) -> np.ndarray:
        """See `ClipEmbedder.embed`."""
        frames = self._model.pictures([frame.rgb() for clip in clips for frame in four_uniform(clip)])
        means = frames.reshape(len(clips), 4, -1).mean(axis=1)
        return means / np.linalg.norm(means, axis=1, keepdims=True)


_EMBEDDERS: dict[str, type[ClipEmbedder]] = {"embedded": TagEmbedder, "hf": PictureEmbedder}


def load_embedder(backend: str, options: Mapping[str, str]) -> ClipEmbedder | None:
    """The embedder of the settings; None for `none`. Raises: ValueError for an unknown one or an unknown option."""
    if backend == NONE:
        return None
    if backend not in _EMBEDDERS:
        raise ValueError(
            f"duplicates.semantic = {backend!r} does not exist: choose one of {', '.join([*_EMBEDDERS, NONE])}"
        )
    known = list(signature(_EMBEDDERS[backend]).parameters)
    for option in options:
        if option not in known:
            raise ValueError(
                f"duplicates.semantic_options.{option} does not exist: {', '.join(known) or f'{backend} takes none'}"
            )
    return _EMBEDDERS[backend](**options)


def find_semantic_duplicates(
    lake: Lake, store: ObjectStore, settings: DuplicateSettings, progress: Callable[..., Any]
) -> Iterator[StageResult]:
    """Embed the clips that have no embedding of this version, a part at a time, then find the duplicates of all."""
    embedder = load_embedder(settings.semantic, settings.semantic_options)
    rows: list[dict[str, Any]] = []
    num_clips = 0
    if embedder is not None:
        yield from _embedded(lake, store, embedder, progress)
        num_clips = lake.value(f"select count(*) from ({_EMBEDDED.format(version=embedder.version)})")
        rows = list(_duplicates(lake, embedder.version, num_clips, settings)) if num_clips else []
    table = lake.to_arrow("scores.semantic_duplicates", sorted(rows, key=lambda row: row["clip_id"]))
    yield StageResult([Replace("scores.semantic_duplicates", table)], num_in=num_clips, num_out=len(rows))


def _embedded(
    lake: Lake, store: ObjectStore, embedder: ClipEmbedder, progress: Callable[..., Any]
) -> Iterator[StageResult]:
    batches = [row["batch"] for row in lake.rows("select distinct batch from clips.clips order by 1")]
    for batch in progress(batches, "embeddings"):
        held = lake.query(
            "select clip_id from scores.clip_embeddings where batch = ? and embedder_version = ?",
            [batch, embedder.version],
        )
        done = set(held["clip_id"].to_pylist())
        for group in clip_groups(lake, batch):
            clips = list(FrameSource(lake, store).of_clips([clip for clip in group if clip not in done]))
            if not clips:
                continue
            rows = [
                {"batch": batch, "clip_id": clip.clip_id, "embedder_version": embedder.version, "embedding": vector}
                for clip, vector in zip(clips, embedder.embed(clips).tolist(), strict=True)
            ]
            table = lake.to_arrow("scores.clip_embeddings", rows)
            yield StageResult([Append("scores.clip_embeddings", table, ("clip_id", "embedder_version"))], len(rows), 0)


_EMBEDDED = """
select clip_id, any_value(video_id) as video_id, any_value(embedding) as embedding
from scores.clip_embeddings inner join clips.clips using (batch, clip_id)
where embedder_version = '{version}' group by clip_id
"""


def _duplicates(lake: Lake, version: str, num_clips: int, settings: DuplicateSettings) -> Iterator[dict[str, Any]]:
    """Rows of `scores.semantic_duplicates`; a cluster's vectors are in memory at a time, and the labels of all clips."""
    embedded = _EMBEDDED.format(version=version)
    sample = lake.query(f"select embedding from ({embedded}) order by md5(clip_id) limit {_SAMPLE}")
    centres = spherical_kmeans(_vectors(sample), max(1, round(num_clips / settings.semantic_cluster_size)))
    ids = lake.query(f"select clip_id from ({embedded}) order by clip_id")["clip_id"]
    labels = np.concatenate([
        nearest(_vectors(_of_clips(lake, embedded, ids[at : at + _ROWS_AT_ONCE])), centres)
        for at in range(0, len(ids), _ROWS_AT_ONCE)
    ])  # fmt: skip
    for cluster in range(len(centres)):
        members = _of_clips(lake, embedded, ids.filter(pa.array(labels == cluster)))
        clips, videos = members["clip_id"].to_pylist(), members["video_id"].to_pylist()
        for member, like, cosine in repeats(_vectors(members), centres[cluster], settings.semantic_min_cosine):
            yield {
                "clip_id": clips[member], "video_id": videos[member], "like_clip_id": clips[like],
                "like_video_id": videos[like], "cosine": cosine,
            }  # fmt: skip


def _of_clips(lake: Lake, embedded: str, ids: pa.ChunkedArray) -> pa.Table:
    rows = lake.joined(
        f"select * from ({embedded}) semi join given using (clip_id) order by clip_id", pa.table({"clip_id": ids})
    )
    return pa.Table.from_pylist(rows, _SCHEMA)


_SCHEMA = pa.schema([("clip_id", pa.string()), ("video_id", pa.string()), ("embedding", pa.list_(pa.float32()))])


def _vectors(table: pa.Table) -> np.ndarray:
    """float32 [N, D] of the column `embedding`."""
    rows = table["embedding"].combine_chunks()
    return rows.flatten().to_numpy().reshape(len(rows), -1) if len(rows) else np.zeros((0, 1), np.float32)

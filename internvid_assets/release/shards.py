"""WebDataset shards of clip frames with their captions, and the manifest that training reads.

Clips of one video lie together, videos in the order of a hash: every frame pack is read once and a takedown touches
few shards. Training shuffles. The same pairs and options give the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2

from internvid_assets.clips.packs import ClipFrames, PackedFrame
from internvid_assets.store.objects import file_sha256

FORMAT = "internvid-shards/1"
_JPEG_QUALITY = 92


@dataclass(frozen=True)
class ShardOptions:
    """How clips are stored."""

    shard_size: int = 256  # samples
    num_frames: int = 16
    short_side: int = 224  # pixels; frames that are smaller stay as they are


@dataclass(frozen=True)
class Shard:
    """One written shard."""

    name: str
    sha256: str
    num_samples: int
    num_bytes: int


def shard_order(pairs: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Pairs by hash of their video, then by clip."""
    return sorted(pairs, key=lambda p: (hashlib.sha256(p["video_id"].encode()).hexdigest(), p["clip_id"]))


def shard_slices(pairs: Sequence[Mapping[str, Any]], size: int) -> list[tuple[str, Sequence[Mapping[str, Any]]]]:
    """(file name, its pairs) of every shard."""
    return [(f"train-{i // size:06d}.tar", pairs[i : i + size]) for i in range(0, len(pairs), size)]


def write_shards(
    folder: Path,
    pairs: Sequence[Mapping[str, Any]],
    frames_of: Callable[[Sequence[str]], Iterator[ClipFrames]],
    options: ShardOptions,
    subset: str,
    snapshot_id: int,
    progress: Callable[..., Any] = lambda items, *_, **__: items,
) -> tuple[str, list[Shard]]:
    """Write shards and `manifest.json` into a folder; shards that are already there whole are kept.

    Args:
        pairs: rows of a subset in `shard_order`.
        frames_of: the frames of the given clips, in any order.

    Returns: the shards' id, the first 16 hex digits of the SHA-256 of the manifest without it; and the shards.

    Raises: ValueError naming a clip whose frames are missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shards = []
    for name, part in progress(shard_slices(pairs, options.shard_size), "shards"):
        path = folder / name
        if not path.exists():
            partial = path.with_suffix(".partial")
            _write_shard(partial, part, {f.clip_id: f for f in frames_of([p["clip_id"] for p in part])}, options)
            partial.rename(path)
        shards.append(Shard(name, file_sha256(path), len(part), path.stat().st_size))
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "subset": subset,
        "snapshot_id": snapshot_id,
        "frames": {"encoding": "jpeg", "num_frames": options.num_frames, "short_side": options.short_side},
        "shards": [asdict(shard) for shard in shards],
    }
    shards_id = hashlib.sha256(json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]
    (folder / "manifest.json").write_text(json.dumps({"shards_id": shards_id, **manifest}, indent=1) + "\n")
    return shards_id, shards


def _write_shard(
    path: Path, pairs: Sequence[Mapping[str, Any]], frames: Mapping[str, ClipFrames], options: ShardOptions
) -> None:
    missing = [pair["clip_id"] for pair in pairs if pair["clip_id"] not in frames]
    if missing:
        raise ValueError(f"the frames of {len(missing)} clips are gone, e.g. {missing[0]}: run the clips stage again")
    with tarfile.open(path, "w") as tar:
        for pair in pairs:
            chosen = _evenly(frames[pair["clip_id"]].uniform, options.num_frames)
            about = {name: value for name, value in sorted(pair.items()) if name != "caption"}
            about["frame_seconds"] = [frame.seconds for frame in chosen]
            _add(tar, f"{pair['clip_id']}.json", json.dumps(about, default=str).encode())
            _add(tar, f"{pair['clip_id']}.txt", pair["caption"].encode())
            for number, frame in enumerate(chosen):
                _add(tar, f"{pair['clip_id']}.f{number:02d}.jpg", _at_most(frame, options.short_side))


def _evenly(frames: Sequence[PackedFrame], count: int) -> list[PackedFrame]:
    """The middle frame of each of `count` equal spans; a shorter clip repeats frames."""
    return [frames[int((i + 0.5) * len(frames) / count)] for i in range(count)]


def _at_most(frame: PackedFrame, short_side: int) -> bytes:
    """The JPEG with at most that many pixels on its short side; the same bytes when it is small enough."""
    picture = frame.rgb()
    scale = short_side / min(picture.shape[:2])
    if scale >= 1.0:
        return frame.jpeg
    size = (round(picture.shape[1] * scale), round(picture.shape[0] * scale))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    done, data = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    assert done
    return data.tobytes()


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))

"""Frame packs: the small frames of a video's clips in one WebDataset tar, decoded once and read by every later stage."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np

from internvid_assets.clips.scan import SampledFrame


@dataclass(frozen=True)
class PackedFrame:
    """A JPEG and its time from the start of the clip."""

    seconds: float
    jpeg: bytes = field(repr=False)

    def rgb(self) -> np.ndarray:
        """uint8 [H, W, 3]. Raises: ValueError for bytes that are no picture."""
        picture = cv2.imdecode(np.frombuffer(self.jpeg, np.uint8), cv2.IMREAD_COLOR) if self.jpeg else None
        if picture is None:
            raise ValueError("a stored frame is not a JPEG: run the clips stage again")
        return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


@dataclass(frozen=True)
class ClipFrames:
    """The frames of one clip: `uniform` over its length, `seconds` about one a second."""

    clip_id: str
    uniform: tuple[PackedFrame, ...]
    seconds: tuple[PackedFrame, ...]
    duration_seconds: float

    @property
    def middle(self) -> PackedFrame:
        """The uniform frame nearest to the middle of the clip."""
        return min(self.uniform, key=lambda frame: abs(frame.seconds - self.duration_seconds / 2))


class FramePackWriter:
    """Writes clips into a tar; the same clips give the same bytes."""

    def __init__(self, file: BinaryIO):
        self._tar = tarfile.open(fileobj=file, mode="w")

    def add(self, clip_id: str, duration_seconds: float, frames: Sequence[SampledFrame]) -> None:
        """Append one clip: a JSON member with the times, then a JPEG a frame."""
        uniform = [f for f in frames if f.role == "uniform"]
        seconds = [f for f in frames if f.role == "second"]
        times = {
            "duration_seconds": duration_seconds,
            "uniform": [f.seconds for f in uniform],
            "seconds": [f.seconds for f in seconds],
        }
        self._member(f"{clip_id}.json", json.dumps(times).encode())
        for letter, group in (("u", uniform), ("s", seconds)):
            for number, frame in enumerate(group):
                self._member(f"{clip_id}.{letter}{number:03d}.jpg", frame.jpeg)

    def _member(self, name: str, data: bytes) -> None:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        self._tar.addfile(info, io.BytesIO(data))

    def close(self) -> None:
        """Finish the tar; the file stays open."""
        self._tar.close()


def read_frame_pack(path: Path) -> Iterator[ClipFrames]:
    """The clips of a pack, in order. Raises: ValueError naming the pack when a member is missing."""
    with tarfile.open(path, "r") as tar:
        times: dict | None = None
        clip_id = ""
        jpegs: dict[str, list[bytes]] = {"u": [], "s": []}
        for member in tar:
            name, _, suffix = member.name.partition(".")
            file = tar.extractfile(member)
            assert file is not None
            if suffix == "json":
                if times is not None:
                    yield _clip_frames(path, clip_id, times, jpegs)
                clip_id, times, jpegs = name, json.load(file), {"u": [], "s": []}
            else:
                jpegs[suffix[0]].append(file.read())
        if times is not None:
            yield _clip_frames(path, clip_id, times, jpegs)


def _clip_frames(path: Path, clip_id: str, times: dict, jpegs: dict[str, list[bytes]]) -> ClipFrames:
    if len(jpegs["u"]) != len(times["uniform"]) or len(jpegs["s"]) != len(times["seconds"]):
        raise ValueError(f"frame pack {path} is torn: clip {clip_id} lacks frames; run the clips stage again")
    uniform = tuple(PackedFrame(at, jpeg) for at, jpeg in zip(times["uniform"], jpegs["u"], strict=True))
    seconds = tuple(PackedFrame(at, jpeg) for at, jpeg in zip(times["seconds"], jpegs["s"], strict=True))
    return ClipFrames(clip_id, uniform, seconds, times["duration_seconds"])

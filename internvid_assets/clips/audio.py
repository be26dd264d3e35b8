"""The sound of clips, cut to the sample."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np

if TYPE_CHECKING:
    from internvid_assets.clips.export import Cut


def cut_audio(video: Path, cuts: Sequence[Cut], folder: Path) -> dict[str, Path]:
    """Write `folder/NAME.m4a` (AAC) for every cut during which the video's first audio stream sounds; name to file."""
    with av.open(str(video)) as container:
        if not container.streams.audio or not container.streams.video:
            return {}
        base = container.streams.video[0].time_base or Fraction(1, 1000)
        spans = {cut.name: (cut.start_pts * base, cut.end_pts * base) for cut in cuts}
        upcoming = sorted(spans, key=lambda name: -spans[name][0])
        running: list[_Sound] = []
        files = {}
        for frame in container.decode(audio=0):
            if frame.pts is None or frame.time_base is None or not frame.samples:
                continue
            begin = frame.pts * frame.time_base
            end = begin + Fraction(frame.samples, frame.sample_rate)
            while upcoming and spans[upcoming[-1]][0] < end:
                name = upcoming.pop()
                running.append(_Sound(folder / f"{name}.m4a", *spans[name]))
                files[name] = running[-1].path
            for sound in running:
                sound.add(frame, begin)
            for sound in [sound for sound in running if sound.end <= end]:
                sound.close()
                running.remove(sound)
        for sound in running:
            sound.close()
    return {name: path for name, path in files.items() if path.exists()}


class _Sound:
    """The sound of one clip being encoded; silence stands for what is missing at its start."""

    def __init__(self, path: Path, start: Fraction, end: Fraction):
        self.path = path
        self.end = end
        self._start = start
        self._container: av.container.OutputContainer | None = None
        self._written = 0

    def add(self, frame: av.AudioFrame, begin: Fraction) -> None:
        """Take the samples of a frame that lie in the clip."""
        rate = frame.sample_rate
        first = max(0, round((self._start - begin) * rate))
        last = min(frame.samples, round((self.end - begin) * rate))
        if first >= last:
            return
        samples = frame.to_ndarray()
        channels = len(frame.layout.channels)
        if not frame.format.is_planar:
            samples = samples.reshape(-1, channels).T
        self._open(rate, frame.layout.name)
        ahead = round((begin - self._start) * rate) + first - self._written
        if ahead > 0:
            self._encode(np.zeros((channels, ahead), samples.dtype), frame)
        self._encode(samples[:, first:last], frame)

    def _open(self, rate: int, layout: str) -> None:
        if self._container is None:
            self._container = av.open(str(self.path), "w", format="mp4")
            self._stream = self._container.add_stream("aac", rate=rate, layout=layout)

    def _encode(self, samples: np.ndarray, like: av.AudioFrame) -> None:
        assert self._container is not None
        planar = like.format.name if like.format.is_planar else like.format.name + "p"
        piece = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format=planar, layout=like.layout.name)
        piece.sample_rate = like.sample_rate
        piece.pts, piece.time_base = self._written, Fraction(1, like.sample_rate)
        self._written += samples.shape[1]
        self._container.mux(self._stream.encode(piece))

    def close(self) -> None:
        """Write the rest."""
        if self._container is not None:
            self._container.mux(self._stream.encode(None))
            self._container.close()

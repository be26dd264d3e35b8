"""Clips as files of their own: all clips of a video in one pass, frame-exact (InternVid users ask for the clips)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import numpy as np
from av.video.frame import PictureType
from av.video.reformatter import VideoReformatter

from internvid_assets.clips.audio import cut_audio
from internvid_assets.clips.decode import DecodedFrame, VideoReader


@dataclass(frozen=True)
class ExportOptions:
    """How clips are written.

    `short_side` (pixels, None: as it is, never enlarged), `crf` and `preset` are libx264's; a key frame comes every
    `keyframe_seconds`. With `copy`, a span that starts at a key frame and that the codec's frame order does not tie to its
    neighbours is copied without loss, whatever its size. `audio` keeps the sound (AAC), cut to the sample.
    """

    short_side: int | None = 256
    crf: int = 23
    preset: str = "veryfast"
    keyframe_seconds: float = 0.5
    copy: bool = False
    audio: bool = False

    def __post_init__(self) -> None:
        if self.short_side is not None and self.short_side < 16:
            raise ValueError(f"short_side is {self.short_side}: at least 16")
        if not 0 <= self.crf <= 51 or self.keyframe_seconds <= 0:
            raise ValueError(f"crf must be within 0..51 and keyframe_seconds positive: {self}")


@dataclass(frozen=True)
class Cut:
    """What to cut: frames [start_frame, end_frame), shown in [start_pts, end_pts) of the video's time base."""

    name: str
    start_frame: int
    end_frame: int
    start_pts: int
    end_pts: int


@dataclass(frozen=True)
class ClipFile:
    """A clip that was written; `copied` without loss or encoded again."""

    name: str
    path: Path
    copied: bool


def cut_clips(video: Path, cuts: Sequence[Cut], folder: Path, options: ExportOptions | None = None) -> list[ClipFile]:
    """Write `folder/NAME.mp4` for every cut of a video, each whole or not at all, in the order of their names given.

    Raises: DecodeError when the video does not decode; ValueError for a span that is empty or goes beyond the video.
    """
    options = options or ExportOptions()
    for cut in cuts:
        if cut.start_frame >= cut.end_frame:
            raise ValueError(f"clip {cut.name} is empty: frames [{cut.start_frame}, {cut.end_frame})")
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder, prefix=".cutting-") as temporary:
        work = Path(temporary)
        sound = cut_audio(video, cuts, work) if options.audio else {}
        copies = _copyable(video, cuts) if options.copy else {}
        _copy(video, copies, work, sound)
        _encode(video, [cut for cut in cuts if cut.name not in copies], work, sound, options)
        files = []
        for cut in cuts:
            target = folder / f"{cut.name}.mp4"
            os.replace(work / target.name, target)
            files.append(ClipFile(cut.name, target, cut.name in copies))
    return files


def _copyable(video: Path, cuts: Sequence[Cut]) -> dict[str, tuple[Cut, range]]:
    """The cuts whose packets are a run of their own in decoding order, from a key frame on: name to that run."""
    with av.open(str(video)) as container:
        packets = [(p.pts, p.is_keyframe) for p in container.demux(container.streams.video[0]) if p.size]
    place = {pts: number for number, (pts, _) in enumerate(packets)}
    found = {}
    for cut in cuts:
        first = place.get(cut.start_pts)
        if first is None or not packets[first][1]:
            continue
        run = range(first, first + cut.end_frame - cut.start_frame)
        if run.stop <= len(packets) and all(
            pts is not None and cut.start_pts <= pts < cut.end_pts for pts, _ in packets[run.start : run.stop]
        ):
            found[cut.name] = (cut, run)
    return found


def _copy(video: Path, copies: dict[str, tuple[Cut, range]], folder: Path, sound: dict[str, Path]) -> None:
    if not copies:
        return
    starts = sorted(copies.values(), key=lambda item: item[1].start)
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        open_files: list[tuple[Cut, range, _ClipWriter]] = []
        upcoming = list(reversed(starts))
        for number, packet in enumerate(p for p in container.demux(stream) if p.size):
            while upcoming and upcoming[-1][1].start == number:
                cut, run = upcoming.pop()
                open_files.append((cut, run, _ClipWriter(folder / f"{cut.name}.mp4", sound.get(cut.name), stream)))
            pts, dts = packet.pts, packet.dts
            for cut, _, writer in open_files:
                packet.pts = None if pts is None else pts - cut.start_pts
                packet.dts = None if dts is None else dts - cut.start_pts
                writer.mux(packet)
            for _, run, writer in open_files:
                if run.stop == number + 1:
                    writer.close()
            open_files = [item for item in open_files if item[1].stop > number + 1]


def _encode(video: Path, cuts: Sequence[Cut], folder: Path, sound: dict[str, Path], options: ExportOptions) -> None:
    if not cuts:
        return
    upcoming = sorted(cuts, key=lambda cut: -cut.start_frame)
    running: list[tuple[Cut, _Encoder]] = []
    with ExitStack() as stack:
        reader = VideoReader(video)
        picture = _PictureScaler(options.short_side)
        num_frames = 0
        for frame in reader:
            index, num_frames = frame.time.index, frame.time.end_index
            while upcoming and upcoming[-1].start_frame <= index:
                cut = upcoming.pop()
                encoder = _Encoder(folder / f"{cut.name}.mp4", sound.get(cut.name), reader, cut, options)
                running.append((cut, stack.enter_context(encoder)))
            if not running:
                if not upcoming:
                    break
                continue
            image = picture.scaled(frame.image)
            for cut, encoder in running:
                encoder.add(frame, image)
                if index + 1 == cut.end_frame:
                    encoder.finish()
            running = [item for item in running if item[0].end_frame > index + 1]
        for cut in [*(cut for cut, _ in running), *upcoming]:
            raise ValueError(f"clip {cut.name}: the video ends at frame {num_frames}, the clip at {cut.end_frame}")


class _PictureScaler:
    """Upright pictures of an even size, YUV 4:2:0."""

    def __init__(self, short_side: int | None):
        self._short_side = short_side
        self._reformatter = VideoReformatter()

    def scaled(self, image: av.VideoFrame) -> av.VideoFrame:
        scale = min(1.0, (self._short_side or 10**6) / min(image.width, image.height))
        width, height = (max(2, round(side * scale / 2) * 2) for side in (image.width, image.height))
        turns = round(image.rotation / 90) % 4
        layout = "rgb24" if turns else "yuv420p"
        small = self._reformatter.reformat(image, width, height, layout, interpolation="AREA", threads=1)
        if not turns:
            return small
        upright = np.ascontiguousarray(np.rot90(small.to_ndarray(), turns)).astype(np.uint8, copy=False)
        return av.VideoFrame.from_ndarray(upright, format="rgb24").reformat(format="yuv420p")


class _ClipWriter:
    """An MP4 file with one video stream, and the sound of a file beside it, if any."""

    def __init__(self, path: Path, sound: Path | None, template: av.VideoStream | None = None):
        self.container = av.open(str(path), "w")
        self._sound = sound
        self.stream = self.container.add_stream_from_template(template) if template else None
        self._started = False

    def mux(self, packets: av.Packet | list[av.Packet]) -> None:
        if not self._started:
            self._started = True
            self._mux_sound()
        for packet in [packets] if isinstance(packets, av.Packet) else packets:
            packet.stream = self.container.streams.video[0]
            self.container.mux(packet)

    def _mux_sound(self) -> None:
        if self._sound is None:
            return
        with av.open(str(self._sound)) as source:
            stream = self.container.add_stream_from_template(source.streams.audio[0])
            for packet in source.demux(audio=0):
                if packet.size:
                    packet.stream = stream
                    self.container.mux(packet)

    def close(self) -> None:
        self.container.close()


class _Encoder:
    """One clip being encoded."""

    def __init__(self, path: Path, sound: Path | None, reader: VideoReader, cut: Cut, options: ExportOptions):
        self._writer = _ClipWriter(path, sound)
        self._cut = cut
        self._options = options
        self._reader = reader
        self._stream: av.VideoStream | None = None
        self._next_key = 0.0

    def __enter__(self) -> _Encoder:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def add(self, frame: DecodedFrame, image: av.VideoFrame) -> None:
        """Encode the next frame at its own time."""
        if self._stream is None:
            self._stream = self._opened(image)
        pts = frame.time.pts - self._cut.start_pts
        image.pts, image.time_base = pts, self._reader.time_base
        image.pict_type = PictureType.NONE
        seconds = float(pts * self._reader.time_base)
        if seconds >= self._next_key - 1e-9:
            image.pict_type = PictureType.I
            self._next_key = seconds + self._options.keyframe_seconds
        self._writer.mux(self._stream.encode(image))

    def _opened(self, image: av.VideoFrame) -> av.VideoStream:
        rate = self._reader.average_fps or Fraction(25)
        settings = {"crf": str(self._options.crf), "preset": self._options.preset, "forced-idr": "1"}
        stream = self._writer.container.add_stream("libx264", rate=rate, options=settings)
        stream.width, stream.height, stream.pix_fmt = image.width, image.height, "yuv420p"
        stream.codec_context.time_base = self._reader.time_base
        stream.codec_context.thread_count = self._reader.options.threads
        return stream

    def finish(self) -> None:
        """Write what the encoder holds back."""
        if self._stream is not None:
            self._writer.mux(self._stream.encode(None))
        self._writer.close()

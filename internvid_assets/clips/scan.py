"""The decode-once pass: one video in; cuts, clips, statistics, hashes and small frames out (P§3.1 Trimming)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from internvid_assets.clips.decode import DecodedFrame, DecodeError, VideoReader
from internvid_assets.clips.hashing import perceptual_hash
from internvid_assets.clips.sampling import StreamSampler
from internvid_assets.clips.shots import CutFilter, content_score, hsv_of
from internvid_assets.clips.statistics import ClipStatistics

CODE_VERSION = "1"
ScanError = DecodeError


@dataclass(frozen=True)
class ScanOptions:
    """How shots are cut and frames are sampled.

    `threshold` and `min_shot_frames` are PySceneDetect's defaults, the threshold being the paper's (P§3.1).
    """

    threshold: float = 27.0
    min_shot_frames: int = 15
    min_clip_seconds: float = 0.6
    max_clip_seconds: float | None = None
    short_side: int = 224
    num_uniform: int = 16
    jpeg_quality: int = 90

    def __post_init__(self) -> None:
        if self.threshold <= 0 or self.min_shot_frames < 1 or self.num_uniform < 1 or self.short_side < 2:
            raise ValueError(f"threshold, min_shot_frames, num_uniform and short_side must be positive: {self}")
        if self.max_clip_seconds is not None and self.max_clip_seconds < max(self.min_clip_seconds, 0.1):
            raise ValueError(f"max_clip_seconds {self.max_clip_seconds} is below min_clip_seconds: raise it")


@dataclass(frozen=True)
class SampledFrame:
    """A small picture of a clip. `role` is `uniform` (spread over the clip) or `second` (about one a second)."""

    role: str
    index: int
    frame: int
    seconds: float
    """From the start of the clip."""
    jpeg: bytes = field(repr=False)


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
    frames: tuple[SampledFrame, ...] = field(repr=False)

    @property
    def duration_seconds(self) -> float:
        """Length of the span."""
        return self.end_seconds - self.start_seconds


@dataclass
class VideoScan:
    """All that one pass found. `cut_frames` holds the first frame of each shot but the first."""

    cut_frames: list[int] = field(default_factory=list)
    clips: list[ClipScan] = field(default_factory=list)
    too_short: list[tuple[int, int]] = field(default_factory=list)
    """Frame spans of shots shorter than min_clip_seconds."""
    num_frames: int = 0
    duration_seconds: float = 0.0
    time_base: Fraction = Fraction(1, 1000)
    average_fps: Fraction = Fraction(0)
    num_decode_errors: int = 0

    @property
    def frames(self) -> list[SampledFrame]:
        """The sampled frames of all clips, in order."""
        return [frame for clip in self.clips for frame in clip.frames]


def scan_video(path: str | Path, options: ScanOptions | None = None) -> VideoScan:
    """Decode a video once and return everything about it.

    Raises: ScanError with a reason code (`unreadable`, `no_video_stream`, `no_frames`, `too_many_errors`).
    """
    scan = VideoScan()
    scan.clips = list(scan_clips(Path(path), options or ScanOptions(), scan))
    return scan


def scan_clips(path: Path, options: ScanOptions, scan: VideoScan) -> Iterator[ClipScan]:
    """The clips of a video as they end, so that memory does not grow with its length; fills the facts of `scan`.

    Raises: see `scan_video`.
    """
    reader = VideoReader(path)
    cuts = CutFilter(options.min_shot_frames)
    pending: _Span | None = None  # since the last certain cut, up to the last frame above the threshold
    current: _Span | None = None  # from that frame on; it may yet prove to begin a shot
    first_pts = clip_index = 0
    previous_hsv = previous_luma = frame = None
    for frame in reader:
        hsv, luma = hsv_of(frame.score_yuv), frame.score_yuv[: frame.score_yuv.shape[0] * 2 // 3]
        if previous_hsv is None or previous_hsv.shape != hsv.shape:
            first_pts = frame.pts if previous_hsv is None else first_pts
            previous_hsv, previous_luma = hsv, None
        score = content_score(hsv, previous_hsv)
        above = score >= options.threshold
        cut = cuts.cut(frame.index, above)
        closed: _Span | None = None
        if cut == frame.index:
            closed, pending, current = _joined(pending, current), None, None
        elif cut is not None:
            closed, pending = pending, None
        elif options.max_clip_seconds is not None and _length(pending or current, frame) > options.max_clip_seconds:
            closed, pending, current = _joined(pending, current), None, None
        if current is None or (above and cut is None):
            pending, current = _joined(pending, current), _Span(options, reader.time_base, first_pts, score)
        if closed is not None:
            cut_score = None if cut is None else current.score
            scan.cut_frames += [] if cut is None else [cut]
            for clip in closed.clips(clip_index, cut_score, scan):
                clip_index += 1
                yield clip
        current.add(frame, luma, previous_luma)
        previous_hsv, previous_luma = hsv, luma
    last = _joined(pending, current)
    assert last is not None and frame is not None
    scan.num_frames = frame.index + 1
    scan.time_base, scan.average_fps, scan.num_decode_errors = reader.time_base, reader.average_fps, reader.num_errors
    scan.duration_seconds = float((frame.end_pts - first_pts) * reader.time_base)
    yield from last.clips(clip_index, None, scan)


def _joined(before: _Span | None, after: _Span | None) -> _Span | None:
    if before is not None and after is not None:
        before.extend(after)
    return before if before is not None else after


def _length(span: _Span | None, until: DecodedFrame) -> float:
    """Seconds from the start of a span to the end of a later frame."""
    if span is None or span.start is None:
        return 0.0
    return float((until.end_pts - span.start.pts) * span.time_base)


class _Span:
    """What is remembered of consecutive frames until it is certain which clip they belong to."""

    def __init__(self, options: ScanOptions, time_base: Fraction, first_pts: int, score: float):
        self.options = options
        self.time_base = time_base
        self.first_pts = first_pts
        self.score = score
        self.statistics = ClipStatistics()
        self.uniform: StreamSampler[np.ndarray] = StreamSampler(3 * options.num_uniform, 1)
        self.seconds: StreamSampler[tuple[int, np.ndarray]] = StreamSampler(256, 1.0)
        self.start: DecodedFrame | None = None
        self.end: DecodedFrame | None = None

    def add(self, frame: DecodedFrame, luma: np.ndarray, previous_luma: np.ndarray | None) -> None:
        """Take the next frame."""
        if self.start is None:
            self.start = frame
        self.end = frame
        is_first = frame is self.start
        duration = float((frame.end_pts - frame.pts) * self.time_base)
        self.statistics.add(luma, None if is_first else previous_luma, duration)
        short_side = self.options.short_side
        small: list[np.ndarray] = []

        def picture() -> np.ndarray:
            if not small:
                small.append(frame.small_bgr(short_side))
            return small[0]

        self.uniform.offer(frame.index, picture)
        if self._seconds_since_start(frame.pts) >= 0.5 - duration / 2:
            self.seconds.offer(self._seconds_since_start(frame.pts), lambda: (frame.index, picture()))

    def extend(self, later: _Span) -> None:
        """Append the span that follows."""
        assert self.start is not None and later.start is not None
        offset = self._seconds_since_start(later.start.pts)
        self.statistics.extend(later.statistics)
        self.uniform.extend(later.uniform)
        later.seconds.positions = [position + offset for position in later.seconds.positions]
        self.seconds.extend(later.seconds)
        self.end = later.end

    def _seconds_since_start(self, pts: int) -> float:
        assert self.start is not None
        return float((pts - self.start.pts) * self.time_base)

    def clips(self, clip_index: int, cut_score: float | None, scan: VideoScan) -> Iterator[ClipScan]:
        """The span as one clip; nothing, and a note in the scan, when it is too short."""
        assert self.start is not None and self.end is not None
        start, end = self.start, self.end
        seconds = float((end.end_pts - start.pts) * self.time_base)
        if seconds < self.options.min_clip_seconds:
            scan.too_short.append((start.index, end.index + 1))
            return
        chosen = self.uniform.uniform(start.index, end.index + 1, self.options.num_uniform)
        middle = self.uniform.items[self.uniform.nearest((start.index + end.index) / 2)]
        yield ClipScan(
            clip_index=clip_index,
            start_frame=start.index,
            end_frame=end.index + 1,
            start_seconds=float((start.pts - self.first_pts) * self.time_base),
            end_seconds=float((end.end_pts - self.first_pts) * self.time_base),
            start_pts=start.pts,
            end_pts=end.end_pts,
            statistics=self.statistics.summary(),
            cut_score_end=cut_score,
            perceptual_hash=perceptual_hash(middle),
            frames=(*self._uniform_frames(chosen), *self._second_frames()),
        )

    def _uniform_frames(self, chosen: list[int]) -> list[SampledFrame]:
        assert self.start is not None and self.end is not None
        length = self.end.index + 1 - self.start.index
        seconds = float((self.end.end_pts - self.start.pts) * self.time_base)
        frames = []
        for number, index in enumerate(chosen):
            frame = int(self.uniform.positions[index])
            at = (frame - self.start.index) / length * seconds
            frames.append(SampledFrame("uniform", number, frame, at, self._jpeg(self.uniform.items[index])))
        return frames

    def _second_frames(self) -> list[SampledFrame]:
        return [
            SampledFrame("second", number, frame, at, self._jpeg(picture))
            for number, (at, (frame, picture)) in enumerate(
                zip(self.seconds.positions, self.seconds.items, strict=True)
            )
        ]

    def _jpeg(self, picture: np.ndarray) -> bytes:
        done, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, self.options.jpeg_quality])
        assert done
        return data.tobytes()

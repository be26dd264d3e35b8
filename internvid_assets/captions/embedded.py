"""The offline default: tags of a packaged classifier, measured motion and spoken words, composed into a sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np

from internvid_assets.captions import motion, scene
from internvid_assets.captions.base import Captioner, ClipInput, CoarseCaption, FineCaption, FramePolicy, MergeInput
from internvid_assets.captions.motion import describe_motion, with_article
from internvid_assets.captions.options import positive
from internvid_assets.captions.scene import movement_words, scene_words
from internvid_assets.captions.tagger import MODEL_ID, ImageTagger
from internvid_assets.lake.stage import Refusal

CODE_VERSION = "2"
_SURE = 0.25  # probability above which a tag is named
_ALSO = 0.12  # and above which a second one is
_TOP = 5
T = TypeVar("T")


@lru_cache
def shared_tagger() -> ImageTagger:
    """One tagger a process, shared with the scores, so that no frame is seen twice."""
    return ImageTagger()


class EmbeddedCaptioner(Captioner):
    """Composes captions without a generative model; see README for what that is worth."""

    name = "embedded"
    reads_transcript = True

    def __init__(self, max_second_frames: str = "8", tagger: ImageTagger | None = None):
        self._given = tagger
        self._policy = FramePolicy(positive("max_second_frames", max_second_frames))

    @property
    def _tagger(self) -> ImageTagger:
        return self._given or shared_tagger()

    def spec(self, step: str) -> dict[str, Any]:
        """See `Captioner.spec`."""
        code = [CODE_VERSION, motion.CODE_VERSION, scene.CODE_VERSION]
        coarse = {"code_version": code, "model": MODEL_ID, "sure": _SURE, "also": _ALSO}
        fine = {"code_version": code, "model": MODEL_ID, "max_second_frames": self._policy.max_second_frames}
        return {"coarse": coarse, "fine": fine, "merge": {"code_version": CODE_VERSION, "sure": _SURE}}[step]

    def coarse(self, clips: Iterable[ClipInput]) -> Iterator[tuple[str, CoarseCaption | Refusal]]:
        """The middle frame's tags in words, or its light, colours and layout when no tag is sure."""
        return _each(clips, self._seen)

    def _seen(self, clip: ClipInput) -> CoarseCaption:
        frame = clip.frames.middle
        row = self._tagger.probabilities([frame])[0]
        top = np.argsort(-row)[:_TOP]
        labels, scores = tuple(self._tagger.names[i] for i in top), tuple(float(row[i]) for i in top)
        return CoarseCaption(_words(labels, scores, frame.rgb()), labels, scores)

    def fine(self, clips: Iterable[ClipInput]) -> Iterator[tuple[str, FineCaption | Refusal]]:
        """The best tag of each second, and the motion over the clip."""
        return _each(clips, self._moved)

    def _moved(self, clip: ClipInput) -> FineCaption:
        seconds = [clip.frames.seconds[i] for i in self._policy.seconds(clip.frames)]
        best = self._tagger.probabilities(seconds).argmax(axis=1)
        pictures = [frame.rgb() for frame in clip.frames.uniform]
        moved = describe_motion(pictures)
        unnamed = movement_words(pictures) if moved.label == "moving" else ""
        return FineCaption(
            tuple(frame.seconds for frame in seconds),
            tuple(self._tagger.names[i] for i in best),
            moved.text if moved.subject else unnamed,
            moved.label,
        )

    def merge(self, clips: Iterable[MergeInput]) -> Iterator[tuple[str, str | Refusal]]:
        """One sentence: who or what, how it moves, what is said."""
        for clip in clips:
            yield clip.clip_id, _sentence(clip)


def _each(clips: Iterable[ClipInput], told: Callable[[ClipInput], T]) -> Iterator[tuple[str, T | Refusal]]:
    """Each clip with what is told of it; a clip with a broken frame is refused."""
    for clip in clips:
        try:
            yield clip.clip_id, told(clip)
        except ValueError as error:
            yield clip.clip_id, Refusal("bad_frame", str(error))


def _words(labels: Sequence[str], scores: Sequence[float], rgb: np.ndarray) -> str:
    if scores[0] < _SURE:
        guess = f", perhaps with {with_article(labels[0])}" if scores[0] >= _ALSO else ""
        return scene_words(rgb) + guess
    words = with_article(labels[0])
    return f"{words} and {with_article(labels[1])}" if scores[1] > _ALSO else words


def _sentence(clip: MergeInput) -> str:
    label, moved = clip.fine.motion_label, clip.fine.motion_text
    if moved and label in moved:  # the phrase names its subject
        words = moved
    else:
        words = clip.coarse.text
        later = [text for text in dict.fromkeys(clip.fine.frame_texts) if text not in words]
        sure = bool(clip.coarse.label_scores) and clip.coarse.label_scores[0] >= _SURE
        if sure and len(clip.fine.frame_texts) > 2 and later:
            words = f"{words}, later {with_article(later[-1])}"
        if moved:
            words = f"{words}, with {moved}"
        elif label.startswith("camera"):
            words = f"{words}, the {label}"
        elif label:
            words = f"{words}, {label}" if label != "still" else f"a still picture of {words}"
    if clip.transcript:
        spoken = " ".join(clip.transcript.split()[:12])
        words = f'{words}, saying "{spoken}"'
    return words

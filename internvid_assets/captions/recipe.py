"""The multi-scale recipe (P§3.2): who writes the coarse and the fine texts, how they become one, and its versions.

A version is a hash of all that decides a text. A step's version covers that step alone, and a caption's covers all three, so
that changing the prompt of the merge makes every caption stale and no coarse or fine text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from internvid_assets.captions.base import Captioner, MergeInput, load_captioner
from internvid_assets.captions.text_embedding import MODEL_ID, TextEmbedder
from internvid_assets.captions.transcripts import Transcriber, load_transcriber
from internvid_assets.lake.stage import Refusal, short_hash
from internvid_assets.settings import CaptionSettings

CODE_VERSION = "2"


def together(clip: MergeInput) -> tuple[str, ...]:
    """The coarse text, then the distinct fine texts in time order: what the authors say they summarise (I#142)."""
    return tuple(dict.fromkeys(filter(None, [clip.coarse.text, *clip.fine.frame_texts])))


def frames(clip: MergeInput) -> tuple[str, ...]:
    """The distinct fine texts alone (P§3.2 as written); the coarse text when there is none."""
    return tuple(dict.fromkeys(filter(None, clip.fine.frame_texts))) or together(clip)


_READ: dict[str, Callable[[MergeInput], tuple[str, ...]]] = {"together": together, "frames": frames}
MERGE_RULES = ("together", "frames", "coarse", "medoid")
"""`together` and `frames` ask the merging backend with these texts; `coarse` takes the coarse text as the caption;
`medoid` takes the text that is nearest to all the others."""


@dataclass(frozen=True)
class Recipe:
    """Three backends, often the same one, a transcriber, and the rule that makes their texts one caption."""

    coarse: Captioner
    fine: Captioner
    merge: Captioner
    transcriber: Transcriber
    rule: str = "together"

    @property
    def name(self) -> str:
        """The backend's name, or the three with plus signs between."""
        names = [self.coarse.name, self.fine.name, self.merge.name]
        return names[0] if len(set(names)) == 1 else "+".join(names)

    def spec(self, step: str) -> dict[str, Any]:
        """All that decides a step's texts; that of `merge` names the versions of the texts that it reads."""
        if step != "merge":
            captioner = self.coarse if step == "coarse" else self.fine
            return {"captioner": captioner.name, **captioner.spec(step)}
        asked = self.rule in _READ
        return {
            "rule": self.rule,
            "recipe_version": CODE_VERSION,
            "coarse_version": self.version("coarse"),
            "fine_version": self.version("fine"),
            "transcript_version": self.transcriber.version if asked and self.merge.reads_transcript else None,
            **({"captioner": self.merge.name, **self.merge.spec("merge")} if asked else {}),
            **({"embedder": MODEL_ID} if self.rule == "medoid" else {}),
        }

    def version(self, step: str) -> str:
        """12 hex digits; the version of `merge` is the caption's."""
        return short_hash(step, self.spec(step))

    def captions(self, clips: Iterable[MergeInput]) -> Iterator[tuple[str, str | Refusal]]:
        """One caption for each clip by the rule, in any order."""
        if self.rule in _READ:
            return self.merge.merge(replace(clip, texts=_READ[self.rule](clip)) for clip in clips)
        return _picked(clips, {"coarse": lambda texts: texts[0], "medoid": medoid}[self.rule])


def _picked(clips: Iterable[MergeInput], pick: Callable[[tuple[str, ...]], str]) -> Iterator[tuple[str, str | Refusal]]:
    for clip in clips:
        texts = together(clip)
        yield clip.clip_id, pick(texts) if texts else Refusal("empty_text", "the clip has neither coarse nor fine text")


def medoid(texts: tuple[str, ...]) -> str:
    """The text with the greatest mean cosine to all texts; the first of equals."""
    if len(texts) < 3:
        return texts[0]
    vectors = _EMBEDDER.embed(texts)
    return texts[int((vectors @ vectors.T).mean(axis=1).round(6).argmax())]


_EMBEDDER = TextEmbedder()


def load_recipe(settings: CaptionSettings) -> Recipe:
    """The recipe of the settings; models load when first used.

    Raises: ValueError for an unknown backend, step, option or rule.
    """
    if settings.merge_rule not in MERGE_RULES:
        raise ValueError(
            f"captions.merge_rule = {settings.merge_rule!r} does not exist: choose one of {', '.join(MERGE_RULES)}"
        )
    default = load_captioner(settings.backend, settings.options)
    chosen = {
        step: load_captioner(step_settings.backend, step_settings.options)
        for step, step_settings in (("coarse", settings.coarse), ("fine", settings.fine), ("merge", settings.merge))
        if step_settings is not None
    }
    return Recipe(
        chosen.get("coarse", default),
        chosen.get("fine", default),
        chosen.get("merge", default),
        load_transcriber(settings),
        settings.merge_rule,
    )

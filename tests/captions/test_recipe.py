"""The recipe: its merge rules, and versions that move exactly where something changed."""

from __future__ import annotations

import pytest

from internvid_assets.captions.base import CoarseCaption, FineCaption, MergeInput
from internvid_assets.captions.recipe import MERGE_RULES, frames, load_recipe, medoid, together
from internvid_assets.lake.stage import Refusal
from internvid_assets.settings import CaptionSettings, CaptionStepSettings

CLIP = MergeInput("c", CoarseCaption("a dog"), FineCaption((0, 1, 2), ("grass", "a dog", "grass")))
STEPS = ("coarse", "fine", "merge")


def versions(**given) -> list[str]:
    recipe = load_recipe(CaptionSettings(**given))
    return [*(recipe.version(step) for step in STEPS), recipe.transcriber.version]


def changed(before: list[str], after: list[str]) -> str:
    names = ("coarse", "fine", "merge", "transcript")
    return " ".join(name for name, a, b in zip(names, before, after, strict=True) if a != b)


def test_texts_are_read_in_order_and_once() -> None:
    assert together(CLIP) == ("a dog", "grass")
    assert frames(CLIP) == ("grass", "a dog")
    assert frames(MergeInput("c", CoarseCaption("a dog"), FineCaption((), ()))) == ("a dog",)


def test_a_rule_that_picks_asks_no_model() -> None:
    empty = MergeInput("e", CoarseCaption(""), FineCaption((), ()))
    for rule, text in (("coarse", "a dog"), ("medoid", "a dog")):
        results = dict(load_recipe(CaptionSettings(merge_rule=rule)).captions([CLIP, empty]))
        assert results["c"] == text and isinstance(results["e"], Refusal)


def test_the_medoid_is_the_text_nearest_to_all() -> None:
    texts = ("a rocket launch at night", "a dog runs on grass", "a brown dog on a lawn", "a puppy on the grass")
    assert medoid(texts) in texts[1:]
    assert medoid(("one", "two")) == "one"


def test_a_change_makes_exactly_its_own_texts_stale() -> None:
    base = {"backend": "endpoint", "options": {"url": "http://x/v1"}}
    before = versions(**base)
    for options, wanted in (
        ({"merge_prompt": "join {texts}"}, "merge"),
        ({"fine_prompt": "tags"}, "fine merge"),
        ({"coarse_prompt": "tell"}, "coarse merge"),
        ({"model": "other"}, "coarse fine merge"),
        ({"revision": "2"}, "coarse fine merge"),
        ({"concurrency": "3", "timeout_seconds": "5"}, ""),
    ):
        after = versions(**(base | {"options": base["options"] | options}))
        assert changed(before, after) == wanted, options
    assert changed(before, versions(**base, merge_rule="frames")) == "merge"
    assert changed(before, versions(**base, speech_model="none")) == "merge transcript"  # this merge reads what is said
    silent = versions(**base, merge_rule="coarse")
    assert changed(silent, versions(**base, merge_rule="coarse", speech_model="none")) == "transcript"
    assert changed(before, versions(**base, recaption_budget=5, recaption_policy="newest_first")) == ""


def test_steps_may_have_backends_of_their_own() -> None:
    recipe = load_recipe(
        CaptionSettings(
            backend="embedded",
            coarse=CaptionStepSettings(backend="sidecar"),
            merge=CaptionStepSettings(backend="endpoint"),
        )
    )
    assert recipe.name == "sidecar+embedded+endpoint"
    alone = load_recipe(CaptionSettings())
    assert alone.name == "embedded" and alone.version("fine") == recipe.version("fine")
    assert alone.version("coarse") != recipe.version("coarse")
    assert recipe.spec("merge")["coarse_version"] == recipe.version("coarse")


def test_unknown_rules_are_named() -> None:
    assert MERGE_RULES == ("together", "frames", "coarse", "medoid")
    with pytest.raises(ValueError, match="merge_rule = 'best' does not exist: choose one of together, frames"):
        load_recipe(CaptionSettings(merge_rule="best"))

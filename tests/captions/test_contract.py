"""What every backend must keep, whatever writes the texts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import cv2
import numpy as np
import pytest

from internvid_assets.captions.base import (
    STEPS,
    Captioner,
    ClipInput,
    CoarseCaption,
    FineCaption,
    MergeInput,
    captioner_names,
    load_captioner,
)
from internvid_assets.captions.recipe import load_recipe
from internvid_assets.clips.packs import ClipFrames, PackedFrame
from internvid_assets.lake.stage import Refusal
from internvid_assets.settings import CaptionSettings
from tests.captions import tiny_models
from tests.captions.chat_server import Behaviour, serving

HF = ("blip", "blip2_opt", "blip2_t5", "florence2", "git", "qwen2_vl", "internvl")
BACKENDS = ("embedded", "sidecar", "endpoint", *(f"hf:{family}" for family in HF))
NUM_CLIPS = 5


def test_every_backend_is_under_contract() -> None:
    assert {backend.partition(":")[0] for backend in BACKENDS} == set(captioner_names())


@pytest.fixture(scope="module", params=BACKENDS)
def backend(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, dict[str, str]]]:
    """A backend's name and options; servers and models are made for it."""
    name, _, family = request.param.partition(":")
    if name == "endpoint":
        with serving(Behaviour()) as (url, _):
            yield name, {"url": url, "concurrency": "3"}
    elif name == "hf":
        folder = tmp_path_factory.mktemp(family)
        models = {
            "image_model": str(getattr(tiny_models, family)(folder / "image")),
            "merge_model": str(tiny_models.t5(folder / "merge")),
        }
        yield name, {**models, "max_new_tokens": "6", "num_beams": "1", "batch_size": "2"}
    else:
        yield name, {}


@pytest.fixture
def captioner(backend: tuple[str, dict[str, str]]) -> Captioner:
    return load_captioner(*backend)


def clips(count: int = NUM_CLIPS) -> list[ClipInput]:
    found = []
    for number in range(count):
        rng = np.random.default_rng(number)
        jpegs = [cv2.imencode(".jpg", rng.integers(0, 255, (48, 64, 3), dtype=np.uint8))[1].tobytes() for _ in range(4)]
        frames = tuple(PackedFrame(float(i), jpeg) for i, jpeg in enumerate(jpegs))
        found.append(
            ClipInput(ClipFrames(f"clip{number}", frames, frames[:3], 4.0), f"alt {number}", f"title {number}")
        )
    return found


def merge_inputs(captioner: Captioner) -> list[MergeInput]:
    given = clips()
    coarse, fine = dict(captioner.coarse(given)), dict(captioner.fine(given))
    inputs = []
    for clip in given:
        coarse_text, fine_text = coarse[clip.clip_id], fine[clip.clip_id]
        inputs.append(
            MergeInput(
                clip.clip_id,
                coarse_text if isinstance(coarse_text, CoarseCaption) else CoarseCaption("a red circle"),
                fine_text if isinstance(fine_text, FineCaption) else FineCaption((0.0,), ("circle moves",)),
                source_caption=clip.source_caption,
                title=clip.title,
                texts=("a red circle", f"circle moves {clip.clip_id}"),
            )
        )
    return inputs


def test_every_clip_gets_one_result_of_the_right_kind(captioner: Captioner) -> None:
    for step, kind in (("coarse", CoarseCaption), ("fine", FineCaption)):
        results = list(getattr(captioner, step)(iter(clips())))
        assert sorted(clip_id for clip_id, _ in results) == [f"clip{i}" for i in range(NUM_CLIPS)]
        assert all(isinstance(result, kind | Refusal) for _, result in results)
    for _, result in captioner.fine(clips()):
        if isinstance(result, FineCaption):
            assert len(result.frame_seconds) == len(result.frame_texts)
            assert list(result.frame_seconds) == sorted(result.frame_seconds)
    merged = list(captioner.merge(iter(merge_inputs(captioner))))
    assert sorted(clip_id for clip_id, _ in merged) == [f"clip{i}" for i in range(NUM_CLIPS)]
    assert all((isinstance(text, str) and text.strip()) or isinstance(text, Refusal) for _, text in merged)


def test_no_clips_give_no_results_and_load_nothing(captioner: Captioner) -> None:
    assert [list(captioner.coarse([])), list(captioner.fine([])), list(captioner.merge([]))] == [[], [], []]


def test_the_same_clips_give_the_same_texts_whatever_their_company(captioner: Captioner) -> None:
    everything = dict(captioner.coarse(clips()))
    assert dict(captioner.coarse(clips())) == everything
    [(_, alone)] = captioner.coarse(clips()[3:4])
    together = everything["clip3"]
    if isinstance(alone, CoarseCaption) and isinstance(together, CoarseCaption):
        assert (alone.text, alone.labels) == (together.text, together.labels)
        assert alone.label_scores == pytest.approx(together.label_scores, abs=1e-5)
    else:
        assert alone == together


def test_inputs_are_drawn_as_needed(captioner: Captioner) -> None:
    drawn = []

    def endless() -> Iterator[ClipInput]:
        [clip] = clips(1)
        for number in range(100_000):
            drawn.append(number)
            yield replace(clip, frames=replace(clip.frames, clip_id=f"clip{number}"))

    results = captioner.coarse(endless())
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert len(drawn) <= 64


def test_a_bad_frame_refuses_its_clip_alone(captioner: Captioner, backend: tuple[str, dict[str, str]]) -> None:
    if backend[0] in ("sidecar", "endpoint"):
        pytest.skip("does not open pictures; a server says itself what it cannot read")
    given = clips()
    torn = PackedFrame(0.0, b"no picture")
    given[2] = replace(given[2], frames=ClipFrames("clip2", (torn,) * 4, (torn,) * 3, 4.0))
    for step in ("coarse", "fine"):
        results = dict(getattr(captioner, step)(given))
        assert isinstance(results["clip2"], Refusal) and results["clip2"].reason == "bad_frame"
        assert not any(isinstance(r, Refusal) and r.reason == "bad_frame" for c, r in results.items() if c != "clip2")


def test_versions_are_stable_and_every_step_has_its_own(backend: tuple[str, dict[str, str]]) -> None:
    name, options = backend
    recipes = [load_recipe(CaptionSettings(backend=name, options=options)) for _ in range(2)]
    versions = [[recipe.version(step) for step in STEPS] for recipe in recipes]
    assert versions[0] == versions[1] and len(set(versions[0])) == 3
    assert all(len(version) == 12 and int(version, 16) >= 0 for version in versions[0])


def test_a_wrong_option_is_named(backend: tuple[str, dict[str, str]]) -> None:
    with pytest.raises(ValueError, match=rf"captions\.options\.colour does not exist: {backend[0]} takes \w+"):
        load_captioner(backend[0], {"colour": "red"})


def test_nothing_is_spent_twice(captioner: Captioner) -> None:
    list(captioner.coarse(clips()))
    spent = captioner.spent()
    assert all(amount > 0 for amount in spent.values()) and captioner.spent() == {}

"""The hf backends on tiny random models in local folders: the real loading, asking and decoding code, without the network."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from internvid_assets.captions.base import STEPS, ClipInput, CoarseCaption, FineCaption, MergeInput, load_captioner
from internvid_assets.captions.hf import HfCaptioner, fingerprint
from internvid_assets.captions.hf_models import TaskModel
from internvid_assets.clips.packs import ClipFrames, PackedFrame
from internvid_assets.lake.stage import Refusal
from tests.captions.tiny_models import ID, MERGE_MODELS, PICTURE_MODELS, UNK, saved

STYLES = {
    "blip": "prefix", "blip2_opt": "prefix", "blip2_t5": "prefix", "git": "prefix", "florence2": "task", "qwen2_vl": "chat",
    "internvl": "chat",
}  # fmt: skip
MERGE_STYLES = {"t5": "seq2seq", "llama": "chat", "plain": "plain"}
NUM_NEW = 6


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {name: saved(name, root / name) for name in (*PICTURE_MODELS, *MERGE_MODELS, "clip")}


def captioner(**options: Any) -> HfCaptioner:
    return HfCaptioner(**({"max_new_tokens": str(NUM_NEW), "num_beams": "2"} | {k: str(v) for k, v in options.items()}))


def clip(seed: int, height: int = 48, width: int = 64) -> ClipInput:
    rng = np.random.default_rng(seed)
    pictures = [rng.integers(0, 255, (height, width, 3), dtype=np.uint8) for _ in range(4)]
    frames = tuple(PackedFrame(float(i), cv2.imencode(".jpg", p)[1].tobytes()) for i, p in enumerate(pictures))
    return ClipInput(ClipFrames(f"clip{seed}", frames, frames[:3], 4.0))


CLIPS = [clip(0), clip(1, 64, 40), clip(2), clip(3, 90, 90), clip(4)]
"""Pictures of several shapes, as from several videos."""


def spoiled(given: ClipInput, jpeg: bytes) -> ClipInput:
    frames = replace(given.frames, uniform=(PackedFrame(2.0, jpeg),), seconds=(PackedFrame(0.0, jpeg),))
    return replace(given, frames=frames)


def told(clip_id: str, *texts: str) -> MergeInput:
    return MergeInput(clip_id, CoarseCaption(""), FineCaption((), ()), texts=texts)


TOLD = [
    told("a", "a red circle", "circle moves"),
    told("b", "a cat"),
    told("c", "a dog", "the dog moves", "what of the cat"),
]


def asked(monkeypatch: pytest.MonkeyPatch, of: HfCaptioner, step: str) -> list[dict[str, Any]]:
    """What the step's model is given from now on."""
    model, calls = of._model(step).model, []
    generate = model.generate
    monkeypatch.setattr(model, "generate", lambda **given: calls.append(given) or generate(**given))
    return calls


# Frames.


@pytest.mark.parametrize("name", PICTURE_MODELS)
def test_every_family_describes_frames_alone_as_in_a_batch(folders: dict[str, Path], name: str) -> None:
    of_two, alone = (captioner(image_model=folders[name], batch_size=size) for size in (2, 1))
    coarse, fine = dict(of_two.coarse(CLIPS)), dict(of_two.fine(CLIPS))
    assert of_two._model("coarse").style == STYLES[name]
    assert list(coarse) == list(fine) == [given.clip_id for given in CLIPS]
    assert dict(of_two.coarse(CLIPS)) == coarse == dict(alone.coarse(CLIPS))
    assert dict(of_two.fine(CLIPS)) == fine == dict(alone.fine(CLIPS))
    described = [caption for caption in fine.values() if isinstance(caption, FineCaption)]
    assert described and all(caption.frame_seconds == (0.0, 1.0, 2.0) for caption in described)
    texts = [text for caption in described for text in caption.frame_texts]
    assert len(set(texts)) > 1, "the pictures have no say in the texts"
    assert all(len(text.split()) <= NUM_NEW and "<" not in text for text in texts), texts


@pytest.mark.parametrize("name", PICTURE_MODELS)
def test_the_prompt_reaches_the_model_and_is_no_part_of_the_text(
    folders: dict[str, Path], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = ("<CAPTION>", "<DETAILED_CAPTION>") if name == "florence2" else ("describe the image", "a photo of")
    of = captioner(image_model=folders[name], coarse_prompt=prompts[0], fine_prompt=prompts[1])
    calls = asked(monkeypatch, of, "coarse")
    texts = [c.text for _, c in of.coarse(CLIPS) if isinstance(c, CoarseCaption)]
    list(of.fine(CLIPS[:1]))
    first, second = (call["input_ids"][0].tolist() for call in (calls[0], calls[-1]))
    assert first != second
    words = "what does the image describe" if name == "florence2" else prompts[0]
    assert is_within([ID[word] for word in words.split()], first)
    assert texts and all(len(text.split()) <= NUM_NEW for text in texts)


def is_within(part: list[int], whole: list[int]) -> bool:
    return any(whole[i : i + len(part)] == part for i in range(len(whole)))


@pytest.mark.parametrize("name", ["blip", "blip2_opt", "blip2_t5", "git"])
def test_captioning_models_are_asked_nothing_unless_told(
    folders: dict[str, Path], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = captioner(image_model=folders[name])
    calls = asked(monkeypatch, of, "coarse")
    list(of.coarse(CLIPS))
    assert all("input_ids" not in call for call in calls)


def test_git_goes_on_from_the_last_word_of_the_prompt(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    of = captioner(image_model=folders["git"], coarse_prompt="a photo of")
    calls = asked(monkeypatch, of, "coarse")
    list(of.coarse(CLIPS[:1]))
    assert calls[0]["input_ids"].tolist() == [[ID["<cls>"], ID["a"], ID["photo"], ID["of"]]]


def test_blip2_saved_without_its_number_of_queries_still_sees_the_picture(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(folders["blip2_opt"], tmp_path / "old")
    settings = json.loads((folder / "processor_config.json").read_text())
    (folder / "processor_config.json").write_text(json.dumps(settings | {"num_query_tokens": None}))
    old, new = (captioner(image_model=f, coarse_prompt="a photo of") for f in (folder, folders["blip2_opt"]))
    assert list(old.coarse(CLIPS)) == list(new.coarse(CLIPS))


def test_internvl_sees_a_frame_as_one_tile(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    of = captioner(image_model=folders["internvl"])
    calls = asked(monkeypatch, of, "coarse")
    list(of.coarse(CLIPS[:2]))
    assert len(calls[0]["pixel_values"]) == 2


def test_florence_tasks_that_find_things_give_their_names() -> None:
    found = {"<OD>": {"bboxes": [[0, 0, 1, 1]] * 3, "labels": ["cat", "dog", "cat"]}}
    tools = SimpleNamespace(tokenizer=SimpleNamespace(pad_token="<pad>"), post_process_generation=lambda **_: found)
    model = TaskModel.__new__(TaskModel)
    model.tools = tools
    assert model._read("", "<OD>", Image.new("RGB", (4, 4))) == "cat, dog"


@pytest.mark.parametrize("name", PICTURE_MODELS)
def test_every_family_describes_frames_in_half_precision(
    folders: dict[str, Path], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = captioner(image_model=folders[name], dtype="bfloat16")
    calls = asked(monkeypatch, of, "fine")
    assert any(isinstance(result, FineCaption) for _, result in of.fine(CLIPS))
    assert {call["pixel_values"].dtype for call in calls} == {torch.bfloat16}


@pytest.mark.parametrize("name", MERGE_MODELS)
def test_every_style_merges_in_half_precision(folders: dict[str, Path], name: str) -> None:
    assert len(dict(captioner(merge_model=folders[name], dtype="bfloat16").merge(TOLD))) == len(TOLD)


# The merge.


@pytest.mark.parametrize("name", [*MERGE_MODELS, "qwen2_vl"])
def test_every_style_merges_alone_as_in_a_batch(folders: dict[str, Path], name: str) -> None:
    of_two, alone = (captioner(merge_model=folders[name], batch_size=size) for size in (2, 1))
    merged = dict(of_two.merge(TOLD))
    assert of_two._model("merge").style == MERGE_STYLES.get(name, "chat")
    assert dict(of_two.merge(TOLD)) == merged == dict(alone.merge(TOLD))
    assert all(isinstance(text, str) and 1 <= len(text.split()) <= NUM_NEW for text in merged.values()), merged
    assert list(merged) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("t5", "summarize : a red circle . circle moves </s>"),
        ("llama", f"<user> {UNK} a red circle {UNK} circle moves <end> a"),
        ("plain", f"<s> {UNK} a red circle {UNK} circle moves"),
    ],
)
def test_each_style_is_given_the_texts_in_its_own_way(
    folders: dict[str, Path], name: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = captioner(merge_model=folders[name], **({} if name == "t5" else {"merge_prompt": "{texts}"}))
    calls = asked(monkeypatch, of, "merge")
    list(of.merge(TOLD[:1]))
    assert calls[0]["input_ids"].tolist() == [[ID[word] for word in words.split()]]


@pytest.mark.parametrize(("name", "room"), [("t5", 24), ("llama", 40 - NUM_NEW), ("plain", 40 - NUM_NEW)])
def test_texts_beyond_the_room_are_left_out_from_the_end(
    folders: dict[str, Path], name: str, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = captioner(merge_model=folders[name], merge_prompt="describe: {texts}")
    calls = asked(monkeypatch, of, "merge")
    list(of.merge([told("many", "the dog", *["a red circle moves"] * 20), told("long", "a cat " * 300)]))
    num_many, num_long = calls[0]["attention_mask"].sum(1).tolist()
    assert room - 5 <= num_many <= room  # another text would take five tokens
    assert room // 2 - 5 <= num_long <= room  # half of the only text is the least that is left of it
    assert is_within([ID["the"], ID["dog"]], calls[0]["input_ids"][0].tolist())


@pytest.mark.parametrize(("name", "full_end"), [("t5", 0), ("llama", -1), ("plain", -1)])
def test_padding_shifts_no_position(
    folders: dict[str, Path], name: str, full_end: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = captioner(merge_model=folders[name], merge_prompt="{texts}")
    calls = asked(monkeypatch, of, "merge")
    list(of.merge(TOLD))
    mask_NL = calls[0]["attention_mask"]
    assert mask_NL[:, full_end].all() and not mask_NL.all()


def test_one_chat_model_can_do_all_steps(folders: dict[str, Path]) -> None:
    of = captioner(image_model=folders["qwen2_vl"], merge_model=folders["qwen2_vl"])
    (_, coarse), (_, fine) = *of.coarse(CLIPS[:1]), *of.fine(CLIPS[:1])
    assert isinstance(coarse, CoarseCaption) and isinstance(fine, FineCaption)
    assert all(isinstance(text, str) for _, text in of.merge([told("clip0", coarse.text, *fine.frame_texts)]))


def test_a_prompt_without_room_for_any_text_refuses(folders: dict[str, Path]) -> None:
    of = captioner(merge_model=folders["t5"], merge_prompt="a " * 30 + "{texts}")
    assert [r.reason for _, r in of.merge(TOLD) if isinstance(r, Refusal)] == ["prompt_too_long"] * 3


def test_a_plain_model_is_heard_to_the_end_of_its_line(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    of = captioner(merge_model=folders["plain"])
    monkeypatch.setattr(of._model("merge").tools, "batch_decode", lambda *_, **__: [" a dog\n- a cat"])
    assert list(of.merge(TOLD[:1])) == [("a", "a dog")]


# Versions.

BASE = {"image_model": "some/pictures", "merge_model": "some/texts"}


@pytest.mark.parametrize(
    ("option", "value", "steps"),
    [
        ("image_model", "other/pictures", {"coarse", "fine"}),
        ("frame_model", "other/pictures", {"fine"}),
        ("merge_model", "other/texts", {"merge"}),
        ("revision", "abc", {"coarse", "fine"}),
        ("frame_revision", "abc", {"fine"}),
        ("merge_revision", "abc", {"merge"}),
        ("coarse_prompt", "a photo of", {"coarse"}),
        ("fine_prompt", "a photo of", {"fine"}),
        ("merge_prompt", "shorten: {texts}", {"merge"}),
        ("max_new_tokens", "7", set(STEPS)),
        ("num_beams", "1", set(STEPS)),
        ("dtype", "float16", set(STEPS)),
        ("max_second_frames", "4", {"fine"}),
        ("batch_size", "32", set()),
        ("device", "cuda:1", set()),
        ("frame_model", "some/pictures", set()),
    ],
)
def test_an_option_changes_the_versions_of_the_steps_that_it_decides(option: str, value: str, steps: set[str]) -> None:
    before, after = HfCaptioner(**BASE), HfCaptioner(**(BASE | {option: value}))
    assert {step for step in STEPS if before.spec(step) != after.spec(step)} == steps


def test_a_folder_is_known_by_its_content(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(folders["t5"], tmp_path / "t5")
    here, there = captioner(merge_model=folders["t5"]), captioner(merge_model=folder)
    assert here.spec("merge") == there.spec("merge")
    saved("t5", folder, seed=1)
    trained = there.spec("merge")
    assert here.spec("merge") != trained
    assert json.dumps(trained).find(str(tmp_path)) == -1
    (folder / "notes.md").write_text("no part of the model")
    assert there.spec("merge") == trained


def test_large_files_are_known_by_samples(tmp_path: Path) -> None:
    weights = np.random.default_rng(0).integers(0, 255, 9 << 20, dtype=np.uint8)
    (tmp_path / "model.safetensors").write_bytes(weights.tobytes())
    before = fingerprint(tmp_path)
    weights[(8 << 20) - (64 << 10) :] += 1
    (tmp_path / "model.safetensors").write_bytes(weights.tobytes())
    assert fingerprint(tmp_path) != before


def test_a_revision_of_a_folder_warns(folders: dict[str, Path]) -> None:
    with pytest.warns(UserWarning, match="is a folder: the revision abc has no effect"):
        captioner(merge_model=folders["t5"], merge_revision="abc")


# Refusals.


@pytest.mark.parametrize("jpeg", [b"", b"no picture"])
def test_a_spoiled_frame_refuses_its_clip_alone(folders: dict[str, Path], jpeg: bytes) -> None:
    of = captioner(image_model=folders["git"])
    good, given = dict(of.coarse(CLIPS)), [CLIPS[0], spoiled(CLIPS[1], jpeg), *CLIPS[2:]]
    for step in (of.coarse, of.fine):
        results = dict(step(given))
        bad = results.pop("clip1")
        assert isinstance(bad, Refusal) and bad.reason == "bad_frame" and bad.detail
        assert not any(isinstance(result, Refusal) for result in results.values())
    assert {k: v for k, v in dict(of.coarse(given)).items() if k != "clip1"} == {
        k: v for k, v in good.items() if k != "clip1"
    }


def test_a_model_that_says_nothing_refuses(folders: dict[str, Path], tmp_path: Path) -> None:
    names = {"image_model": "florence2", "merge_model": "t5"}
    options = {option: shutil.copytree(folders[name], tmp_path / name) for option, name in names.items()}
    for folder in options.values():
        settings = json.loads((folder / "generation_config.json").read_text())
        settings |= {"min_new_tokens": 0, "suppress_tokens": [i for i in ID.values() if i != settings["eos_token_id"]]}
        (folder / "generation_config.json").write_text(json.dumps(settings))
    of = captioner(**options)
    for results, option in (
        (of.coarse(CLIPS), "image_model"),
        (of.fine(CLIPS), "image_model"),
        (of.merge(TOLD), "merge_model"),
    ):
        assert {result for _, result in results} == {Refusal("empty_text", str(options[option]))}


def test_a_clip_without_texts_refuses_and_one_without_frames_a_second_does_not(folders: dict[str, Path]) -> None:
    of = captioner(image_model=folders["git"], merge_model=folders["t5"])
    (_, refusal), (_, text) = of.merge([told("none"), TOLD[0]])
    assert isinstance(refusal, Refusal) and refusal.reason == "empty_text" and isinstance(text, str)
    short = replace(CLIPS[0], frames=replace(CLIPS[0].frames, seconds=()))
    assert list(of.fine([short])) == [("clip0", FineCaption((), ()))]


def test_memory_that_runs_out_halves_the_batch(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    of = captioner(image_model=folders["git"], batch_size=4)
    expected, model = list(of.coarse(CLIPS)), of._model("coarse").model
    sizes, generate = [], model.generate

    def crowded(**given: Any) -> torch.Tensor:
        sizes.append(len(given["pixel_values"]))
        if sizes[-1] > limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return generate(**given)

    monkeypatch.setattr(model, "generate", crowded)
    limit = 1
    assert list(of.coarse(CLIPS)) == expected
    assert sizes == [4, 2, 1, 1, 1, 1, 1]
    limit = 0
    refusals = [result for _, result in of.coarse(CLIPS)]
    assert all(isinstance(r, Refusal) and r.reason == "out_of_memory" and "CUDA" in r.detail for r in refusals)
    assert {r.reason for _, r in of.fine(CLIPS) if isinstance(r, Refusal)} == {"out_of_memory"}


def test_only_a_batch_of_clips_is_held(folders: dict[str, Path]) -> None:
    taken: list[str] = []

    def source() -> Iterator[ClipInput]:
        for given in CLIPS:
            taken.append(given.clip_id)
            yield given

    results = captioner(image_model=folders["git"], batch_size=2).coarse(source())
    assert not taken
    next(results)
    assert taken == ["clip0", "clip1"]


def test_frames_of_one_model_load_it_once(folders: dict[str, Path]) -> None:
    of = captioner(image_model=folders["git"], frame_model=folders["git"], merge_model=folders["t5"])
    held = of._model("coarse")
    assert of._model("fine") is held
    of._model("merge")
    assert of._model("coarse") is not held


# Errors.


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("batch_size", "0", "batch_size = '0' must be a whole number of at least 1"),
        ("max_new_tokens", "many", "max_new_tokens = 'many' must be a whole number"),
        ("num_beams", "-1", "num_beams = '-1' must be a whole number"),
        ("max_second_frames", "1.5", "max_second_frames = '1.5' must be a whole number"),
        ("merge_prompt", "summarize", "merge_prompt = 'summarize' must contain {texts}"),
        ("dtype", "int8", "dtype = 'int8' does not exist: choose one of auto, float32"),
        ("image_models", "a/b", "captions.options.image_models does not exist: hf takes image_model, frame_model"),
    ],
)
def test_wrong_options_are_named(option: str, value: str, message: str) -> None:
    with pytest.raises(ValueError) as error:
        load_captioner("hf", {option: value})
    assert str(error.value).startswith("captions.options") and message in str(error.value)


@pytest.mark.parametrize("model", ["/no/such/folder", "no-such-owner/no-such-model", "clip", "empty"])
@pytest.mark.parametrize(
    ("option", "step"), [("image_model", "coarse"), ("frame_model", "fine"), ("merge_model", "merge")]
)
def test_a_model_that_cannot_be_loaded_is_named(
    folders: dict[str, Path], tmp_path: Path, model: str, option: str, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    named = {"clip": str(folders["clip"]), "empty": str(tmp_path)}.get(model, model)
    with pytest.raises(ValueError) as error:
        captioner(**{option: named})._model(step)
    assert str(error.value).startswith(f"{option} = {named!r} cannot be loaded (") and "\n" not in str(error.value)
    assert "name a folder that holds a checkpoint" in str(error.value)


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_a_device_that_is_not_there_is_named(folders: dict[str, Path], device: str) -> None:
    with pytest.raises(ValueError, match=f"device = '{device}' cannot be used .*: leave it empty for"):
        next(captioner(image_model=folders["git"], device=device).coarse(CLIPS))


# The score of the same library.


def test_clip_scores_are_cosines(folders: dict[str, Path]) -> None:
    from internvid_assets.scores.base import ScoreItem
    from internvid_assets.scores.similarity import ClipSimilarity

    scorer = ClipSimilarity(str(folders["clip"]))
    items = [ScoreItem(clip(i).frames, text) for i, text in enumerate(["a red circle", "a circle moves"])]
    together = scorer.score(items)
    alone = [scorer.score([item])[0] for item in items]
    assert together == pytest.approx(alone, abs=1e-5)
    assert all(isinstance(value, float) and -1 <= value <= 1 for value in together)

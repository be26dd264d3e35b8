"""Scorers that load weights, on tiny random models: ranges, batches, versions, and errors that say what to do."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from internvid_assets.clips.packs import ClipFrames, PackedFrame
from internvid_assets.scores.base import ScoreItem, Scorer, load_scorer
from tests.scores.tiny_models import DIMENSION, MODELS, saved

CAPTIONS = ["a red circle moves", "a cat", "the dog runs on the grass"]
TOKENS = {
    "clip": ("a circle moves", [3, 5, 6, 1]),
    "siglip": ("a circle moves", [3, 5, 6, 1, 0, 0, 0, 0]),
    "siglip2": ("A cab", [4, 3, 6, 4, 5, 1, 0, 0]),
}
"""What the tiny models read of a caption: the end token, and for SigLIP zeros up to its 8 places."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {name: saved(name, root / name) for name in MODELS}


def clip(seed: int, num_frames: int = 16) -> ClipFrames:
    rng = np.random.default_rng(seed)
    pictures = [rng.integers(0, 255, (48, 64, 3), dtype=np.uint8) for _ in range(num_frames)]
    jpegs = [cv2.imencode(".png", picture)[1].tobytes() for picture in pictures]
    frames = tuple(PackedFrame(i / 4, jpeg) for i, jpeg in enumerate(jpegs))
    return ClipFrames(f"clip{seed}", frames, frames[::4], num_frames / 4)


ITEMS = [ScoreItem(clip(i // 2), CAPTIONS[i % 3]) for i in range(6)]


def head(folder: Path, dimension: int = DIMENSION, suffix: str = ".pth", **more: torch.Tensor) -> str:
    """A file with a linear head."""
    state = {"weight": torch.linspace(-1, 1, dimension).reshape(1, -1), "bias": torch.tensor([5.0]), **more}
    path = folder / f"head{dimension}{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    return str(path)


Make = Callable[..., Scorer]


@pytest.fixture(params=["clip", "siglip", "siglip2", "viclip", "laion", "nsfw"])
def make(request: pytest.FixtureRequest, folders: dict[str, Path], tmp_path: Path) -> Make:
    """Makes a scorer with options."""
    kind = request.param

    def made(**options: str) -> Scorer:
        if kind == "nsfw":
            return load_scorer("nsfw", "embedded")
        if kind == "laion":
            return load_scorer("aesthetic", "laion", {"model": str(folders["clip"]), "head": head(tmp_path)} | options)
        if kind == "viclip":
            return load_scorer("similarity", "viclip", {"checkpoint": str(folders["viclip"])} | options)
        return load_scorer("similarity", "hf", {"model": str(folders[kind])} | options)

    return made


def test_numbers_do_not_depend_on_the_batch(make: Make) -> None:
    together = make().score(ITEMS)
    alone = [value for item in ITEMS for value in make().score([item])]
    assert together == pytest.approx(alone, abs=1e-5)
    assert make().score(ITEMS[::-1]) == pytest.approx(together[::-1], abs=1e-5)
    assert len({round(value, 6) for value in together if isinstance(value, float)}) > 2
    low, high = {"similarity": (-1, 1), "nsfw": (0, 1), "aesthetic": (-5, 15)}[make().name]
    assert all(isinstance(value, float) and low <= value <= high for value in together)


def test_small_batches_give_the_same(make: Make) -> None:
    if make().name != "nsfw":
        assert make(batch_size="1").score(ITEMS) == pytest.approx(make().score(ITEMS), abs=1e-5)
        assert make(batch_size="1").version == make().version


@pytest.mark.parametrize("kind", TOKENS)
def test_the_score_is_the_cosine_with_the_mean_of_four_unit_embeddings(folders: dict[str, Path], kind: str) -> None:
    from transformers import AutoModel, AutoProcessor

    processor, model = AutoProcessor.from_pretrained(folders[kind]), AutoModel.from_pretrained(folders[kind]).eval()
    frames = clip(7)
    pictures = [frames.uniform[i].rgb() for i in (2, 6, 10, 14)]
    with torch.no_grad():
        images = model.get_image_features(**processor(images=pictures, return_tensors="pt")).pooler_output
        text = model.get_text_features(input_ids=torch.tensor([TOKENS[kind][1]])).pooler_output[0]
    mean = torch.nn.functional.normalize(images, dim=1).mean(0)
    wanted = float(torch.nn.functional.cosine_similarity(mean, text, dim=0))
    scorer = load_scorer("similarity", "hf", {"model": str(folders[kind])})
    assert scorer.score([ScoreItem(frames, TOKENS[kind][0])]) == [pytest.approx(wanted, abs=1e-5)]


@pytest.mark.parametrize(
    ("kind", "fits"),
    [("clip", "a red circle moves a red circle"), ("siglip", "a cat on a cat on a"), ("siglip2", "bcd bcd")],
)
def test_long_captions_are_cut_at_the_models_length(folders: dict[str, Path], kind: str, fits: str) -> None:
    scorer = load_scorer("similarity", "hf", {"model": str(folders[kind])})
    cut, whole = scorer.score([ScoreItem(clip(0), f"{fits} {'cat' * 9}{' dog' * 99}"), ScoreItem(clip(0), fits)])
    assert cut == pytest.approx(whole, abs=1e-5)


def test_viclip_scores_as_the_evaluation_does(folders: dict[str, Path]) -> None:
    from training.data import choose_frames, resized
    from training.viclip import load_viclip, normalise

    model, frames = load_viclip(folders["viclip"]), clip(3)
    pictures = [frames.uniform[i].rgb() for i in choose_frames(16, 8, None)]
    with torch.inference_mode():
        video = model.encode_video(normalise(torch.from_numpy(resized(pictures, 32)[None])))
        wanted = float((video @ model.encode_text(["A red circle, moves!"]).T)[0, 0])
    scorer = load_scorer("similarity", "viclip", {"checkpoint": str(folders["viclip"])})
    assert scorer.score([ScoreItem(frames, "a red circle moves")]) == [pytest.approx(wanted, abs=1e-5)]


def test_a_published_file_scores_as_the_folder_it_came_from(folders: dict[str, Path], tmp_path: Path) -> None:
    from training.viclip import load_viclip

    model = load_viclip(folders["viclip"])
    torch.save({"model": model.state_dict()}, tmp_path / "ViClip.pth")
    shutil.copy(folders["viclip"] / "viclip.json", tmp_path)  # the tiny one has heads of another size than CLIP's
    ours, theirs = (
        load_scorer("similarity", "viclip", {"checkpoint": str(path)})
        for path in (folders["viclip"], tmp_path / "ViClip.pth")
    )
    assert ours.score(ITEMS) == pytest.approx(theirs.score(ITEMS), abs=1e-6)


def test_versions_change_with_the_weights_and_not_with_the_place(folders: dict[str, Path], tmp_path: Path) -> None:
    for name, option, backend in (("clip", "model", "hf"), ("viclip", "checkpoint", "viclip")):
        copy, other = tmp_path / "copies" / name, saved(name, tmp_path / name, seed=1)
        shutil.copytree(folders[name], copy)
        versions = [load_scorer("similarity", backend, {option: str(p)}).version for p in (folders[name], copy, other)]
        assert versions[0] == versions[1] != versions[2]
    hub = [load_scorer("similarity", "hf", {"model": "no/model", "revision": r}).version for r in ("main", "v1")]
    assert hub[0] != hub[1]


def test_the_aesthetic_head_is_a_line_over_the_best_frame(folders: dict[str, Path], tmp_path: Path) -> None:
    options = {"model": str(folders["clip"])}
    plain = load_scorer("aesthetic", "laion", options | {"head": head(tmp_path)})
    safe = load_scorer("aesthetic", "laion", options | {"head": head(tmp_path, suffix=".safetensors")})
    assert plain.score(ITEMS[:2]) == pytest.approx(safe.score(ITEMS[:2]))
    frames = ITEMS[0].frames
    assert frames is not None
    single = [ScoreItem(ClipFrames("f", (frames.uniform[i],), (), 1.0)) for i in (2, 6, 10, 14)]
    assert plain.score(ITEMS[:1])[0] == pytest.approx(max(v for v in plain.score(single) if isinstance(v, float)))
    higher = head(tmp_path, bias=torch.tensor([7.0]))
    raised = load_scorer("aesthetic", "laion", options | {"head": higher})
    assert raised.score(ITEMS[:1])[0] == pytest.approx(plain.score(ITEMS[:1])[0] + 2, abs=1e-5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"weight": torch.zeros(1, DIMENSION)}, r"not weight \[1, D\] and bias \[1\]"),
        ({"weight": torch.zeros(2, DIMENSION), "bias": torch.zeros(2)}, r"not weight \[1, D\] and bias \[1\]"),
        (
            {"weight": torch.zeros(1, 8), "bias": torch.zeros(1)},
            "for embeddings of 8 numbers, .* gives 16: name the head",
        ),
    ],
)
def test_a_head_that_does_not_fit_is_named(
    folders: dict[str, Path], tmp_path: Path, content: dict[str, torch.Tensor], message: str
) -> None:
    torch.save(content, tmp_path / "bad.pth")
    options = {"model": str(folders["clip"]), "head": str(tmp_path / "bad.pth")}
    with pytest.raises(ValueError, match=message):
        load_scorer("aesthetic", "laion", options).score(ITEMS[:1])


@pytest.mark.parametrize(
    ("name", "backend", "options", "message"),
    [
        ("beauty", "hf", {}, "score 'beauty' does not exist: choose one of similarity, aesthetic"),
        (
            "similarity",
            "umt",
            {},
            r"scores\.similarity = 'umt' does not exist: choose one of embedded, hf, viclip, none",
        ),
        ("similarity", "hf", {"modle": "x"}, r"scores\.options\.similarity\.modle does not exist: choose one of model"),
        ("nsfw", "embedded", {"x": "1"}, r"scores\.options\.nsfw\.x does not exist: embedded takes none"),
        (
            "similarity",
            "hf",
            {"batch_size": "0"},
            r"scores\.options\.similarity: batch_size = '0' must be a whole number",
        ),
        ("similarity", "viclip", {"checkpoint": "/no/such"}, "checkpoint = '/no/such' does not exist: name a folder"),
        ("aesthetic", "laion", {}, "head = '' is no file: name a linear head"),
        ("aesthetic", "laion", {"head": "/no/such.pth"}, r"head = '/no/such\.pth' is no file"),
        ("caption_language", "embedded", {"language": "english"}, "language = 'english' is unknown: choose one of"),
    ],
)
def test_wrong_options_are_named(name: str, backend: str, options: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_scorer(name, backend, options)


def test_a_model_of_another_kind_or_none_is_named(tmp_path: Path) -> None:
    from transformers import T5Config, T5Model

    sizes = {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2, "vocab_size": 8}
    T5Model(T5Config(**sizes)).save_pretrained(tmp_path / "t5")
    for folder in (tmp_path / "t5", tmp_path):
        with pytest.raises(ValueError, match=r"model '.*' cannot be loaded|name a CLIP, SigLIP or SigLIP 2"):
            load_scorer("similarity", "hf", {"model": str(folder)}).score(ITEMS[:1])


def test_nsfw_loads_offline_and_stays_low_on_drawn_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr("socket.socket.connect", refuse)
    drawn = np.full((120, 160, 3), 128, np.uint8)
    cv2.circle(drawn, (80, 60), 30, (200, 40, 40), -1)
    frame = PackedFrame(0.0, cv2.imencode(".png", drawn)[1].tobytes())
    values = load_scorer("nsfw", "embedded").score([ScoreItem(ClipFrames("c", (frame,) * 4, (), 1.0))])
    assert isinstance(values[0], float) and 0 <= values[0] < 0.3

"""Weights in and out: OpenAI's naming, other sizes, averages, and the folder for others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import CLIPTokenizer

from tests.training.test_reference import SMALL
from training.average import main as average
from training.average import wise_ft
from training.viclip import TextConfig, ViCLIP, ViCLIPConfig, VisionConfig, load_viclip, save_viclip, tokenize
from training.viclip.export import main as export

WIDE_TEXT = ViCLIPConfig(SMALL.vision, TextConfig(48, width=128, layers=2, heads=2), SMALL.embed_dim)


def openai_state(model: ViCLIP) -> dict[str, torch.Tensor]:
    """As OpenAI's and OpenCLIP's code names it: one frame, 2-D patches, half precision."""
    state = {}
    for name, tensor in model.state_dict().items():
        if "temporal" in name:
            continue
        name = name.replace("vision_encoder.", "visual.").replace("text_encoder.", "")
        state["logit_scale" if name == "temp" else name] = tensor.clone()
    state["logit_scale"] = -state["logit_scale"].log().reshape(())
    state["visual.conv1.weight"] = state["visual.conv1.weight"].squeeze(2)
    return state | {"attn_mask": torch.zeros(2, 2), "input_resolution": torch.tensor(32)}


@pytest.mark.parametrize("prefix", ["", "module."])
def test_openais_and_openclips_naming(tmp_path: Path, prefix: str) -> None:
    model = ViCLIP(SMALL).eval()
    state = {prefix + name: tensor for name, tensor in openai_state(model).items()}
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "epoch_3.pt")
    loaded = load_viclip(tmp_path / "epoch_3.pt", SMALL)
    assert not loaded.vision_encoder.temporal_positional_embedding.any()
    for name, tensor in model.state_dict().items():
        assert torch.allclose(tensor, loaded.state_dict()[name]), name
    assert load_viclip({n: t.half() for n, t in state.items()}).temp.dtype == torch.float32


def test_a_clip_of_another_build_is_refused() -> None:
    with pytest.raises(ValueError, match=r"visual_projection_3 is unknown"):
        load_viclip(openai_state(ViCLIP(SMALL)) | {"visual_projection_3": torch.zeros(1)})


@pytest.mark.parametrize("name", ["l14", "b16"])
def test_published_names_and_shapes(name: str) -> None:
    with torch.device("meta"):
        state = {n: tuple(p.shape) for n, p in ViCLIP(getattr(ViCLIPConfig, name)()).named_parameters()}
    width, patch, layers, text, embed = {"l14": (1024, 14, 24, 768, 768), "b16": (768, 16, 12, 512, 512)}[name]
    assert state["vision_encoder.conv1.weight"] == (width, 3, 1, patch, patch)
    assert state["vision_encoder.positional_embedding"] == ((224 // patch) ** 2 + 1, width)
    assert state["vision_encoder.temporal_positional_embedding"] == (1, 8, width)
    assert state[f"vision_encoder.transformer.resblocks.{layers - 1}.mlp.c_fc.weight"] == (4 * width, width)
    assert state["vision_encoder.transformer.resblocks.0.attn.in_proj_weight"] == (3 * width, width)
    assert state["text_encoder.positional_embedding"] == (32, text)
    assert state["text_encoder.text_projection"] == (text, embed) and state["temp"] == (1,)
    assert f"vision_encoder.transformer.resblocks.{layers}.ln_1.weight" not in state


def test_the_temporal_table_is_interpolated_and_the_text_table_cut_or_stretched() -> None:
    state = ViCLIP(SMALL).state_dict()
    ramp = torch.arange(4.0).view(1, 4, 1).expand(1, 4, 128)
    state["vision_encoder.temporal_positional_embedding"] = ramp
    twice = VisionConfig(8, 32, 8, 1, 128, 3, 2, 0.0)
    wide = load_viclip(state, ViCLIPConfig(twice, TextConfig(16, width=128, layers=2, heads=2), 96))
    table = wide.vision_encoder.temporal_positional_embedding[0, :, 0].tolist()
    assert table == pytest.approx([0.0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.0])
    old = state["text_encoder.positional_embedding"]
    assert torch.equal(wide.text_encoder.positional_embedding, old[:16])
    longer = load_viclip(state, WIDE_TEXT).text_encoder.positional_embedding
    assert longer.shape == (48, 128) and torch.allclose(longer[0], old[0]) and torch.allclose(longer[-1], old[-1])


def test_weights_are_averaged_but_for_the_temporal_table(tmp_path: Path) -> None:
    before, after = ViCLIP(SMALL), ViCLIP(SMALL)
    torch.nn.init.normal_(after.vision_encoder.temporal_positional_embedding)
    save_viclip(tmp_path / "after", after.state_dict(), SMALL)
    torch.save(openai_state(before), tmp_path / "clip.pt")
    assert average([str(tmp_path / "clip.pt"), str(tmp_path / "after"), "--alpha", "0.25", "--output", str(tmp_path / "out")]) == 0  # fmt: skip
    mixed = load_viclip(tmp_path / "out").state_dict()
    for name, new in after.state_dict().items():
        wanted = new if "temporal" in name else 0.75 * before.state_dict()[name] + 0.25 * new
        assert torch.allclose(mixed[name], wanted, atol=1e-6), name
    assert json.loads((tmp_path / "out/average.json").read_text())["alpha"] == 0.25
    same = wise_ft(before.state_dict(), after.state_dict(), 1.0)
    assert all(torch.equal(same[name], tensor) for name, tensor in after.state_dict().items())


@pytest.mark.parametrize(
    ("changes", "alpha", "message"),
    [({}, 1.5, "within 0 and 1"), ({"more": 1}, 0.5, "different names"), ({"temp": 2}, 0.5, r"temp has shapes \(1,\)")],
)
def test_averages_of_strangers_are_refused(changes: dict[str, int], alpha: float, message: str) -> None:
    state = ViCLIP(SMALL).state_dict()
    with pytest.raises(ValueError, match=message):
        wise_ft(state, state | {name: torch.zeros(size) for name, size in changes.items()}, alpha)


def test_wrong_use_of_average_is_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert average([str(tmp_path / "a"), str(tmp_path / "b"), "--output", str(tmp_path / "c")]) == 2
    assert "no weights at" in capsys.readouterr().err


def test_an_exported_folder_comes_back_and_explains_itself(tmp_path: Path) -> None:
    model = ViCLIP(SMALL).eval()
    save_viclip(tmp_path / "run", model.state_dict(), SMALL)
    facts = {"recipe": {"name": "demo"}, "shards_id": "abc", "subset": "s", "snapshot_id": 4, "seed": 0}
    (tmp_path / "run/run.json").write_text(json.dumps(facts | {"git_commit": "f00", "num_samples_seen": 9}))
    assert export([str(tmp_path / "run"), "--output", str(tmp_path / "hf"), "--name", "My ViCLIP"]) == 0
    back = load_viclip(tmp_path / "hf")
    assert back.config == SMALL
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), back.state_dict().values(), strict=True))
    card = (tmp_path / "hf/README.md").read_text()
    assert (
        card.startswith("---\nlicense: apache-2.0") and "# My ViCLIP" in card and "recipe `demo`; shards_id abc" in card
    )
    assert json.loads((tmp_path / "hf/config.json").read_text())["model_type"] == "viclip"
    theirs = CLIPTokenizer.from_pretrained(tmp_path / "hf")
    text = "a photo of a dog"
    assert theirs(text)["input_ids"] == tokenize([text])[0, :7].tolist()
    assert theirs.model_max_length == 32

"""The model against independent implementations and published facts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import CLIPConfig, CLIPModel

from training.viclip import (
    TextConfig,
    ViCLIP,
    ViCLIPConfig,
    VisionConfig,
    clean_caption,
    load_viclip,
    save_viclip,
    tokenize,
)
from training.viclip.attention import attention
from training.viclip.tokenizer import _ids, _tokenizer, shortened
from training.viclip.vision import kept_tokens, num_kept_tokens

SMALL = ViCLIPConfig(
    VisionConfig(num_frames=4, image_size=32, patch_size=8, width=128, layers=2, heads=2),
    TextConfig(width=128, layers=2, heads=2),
    embed_dim=96,
)


@pytest.fixture(scope="module")
def clip() -> CLIPModel:
    torch.manual_seed(0)
    tower = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config={**tower, "max_position_embeddings": 77, "vocab_size": 49408, "eos_token_id": 49407},
        vision_config={**tower, "image_size": 32, "patch_size": 8},
        projection_dim=96,
    )
    return CLIPModel(config).eval()


@torch.no_grad()
def test_one_frame_and_text_equal_clip(clip: CLIPModel) -> None:
    model = load_viclip(clip.state_dict(), SMALL)
    picture = torch.randn(3, 3, 32, 32)
    theirs = clip.vision_model(picture).pooler_output @ clip.visual_projection.weight.T
    assert torch.allclose(model.vision_encoder(picture.unsqueeze(1)), theirs, atol=1e-5)
    assert float(model.temp) == pytest.approx(float((-clip.logit_scale).exp()))
    tokens = tokenize(["a photo of a dog", "two cats"])
    theirs = clip.text_model(tokens).pooler_output @ clip.text_projection.weight.T
    assert torch.allclose(model.text_encoder(tokens), theirs, atol=1e-5)


@torch.no_grad()
def test_the_order_of_frames_matters_only_through_the_temporal_table(clip: CLIPModel) -> None:
    model = load_viclip(clip.state_dict(), SMALL)
    video = torch.randn(2, 4, 3, 32, 32)
    assert torch.allclose(model.encode_video(video), model.encode_video(video.flip(1)), atol=1e-5)
    torch.nn.init.normal_(model.vision_encoder.temporal_positional_embedding)
    assert not torch.allclose(model.encode_video(video), model.encode_video(video.flip(1)), atol=1e-4)


def test_sizes_are_those_of_the_paper() -> None:
    with torch.device("meta"):
        counts = {
            name: sum(p.numel() for p in ViCLIP(getattr(ViCLIPConfig, name)()).parameters()) for name in ("l14", "b16")
        }
    assert 427e6 < counts["l14"] < 428.5e6
    assert 149e6 < counts["b16"] < 151e6
    assert (num_kept_tokens(2048, 0.9), num_kept_tokens(1568, 0.9)) == (205, 157)


def test_dropping_keeps_a_random_ordered_subset() -> None:
    kept = kept_tokens(3, 40, 0.75, torch.device("cpu"))
    assert kept.shape == (3, 10)
    assert all(torch.equal(row, row.sort().values) and len(row.unique()) == 10 for row in kept)
    assert torch.equal(kept_tokens(2, 5, 0.0, torch.device("cpu")), torch.arange(5).expand(2, 5))


def test_saved_weights_come_back_and_give_the_same_bytes(tmp_path: Path) -> None:
    model = ViCLIP(SMALL).eval()
    for name in ("a", "b"):
        save_viclip(tmp_path / name, model.state_dict(), SMALL)
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()
    back = load_viclip(tmp_path / "a")
    assert back.config == SMALL
    assert all(torch.equal(x, y) for x, y in zip(model.state_dict().values(), back.state_dict().values(), strict=True))


def test_a_published_file_loads_without_a_config(tmp_path: Path) -> None:
    state = ViCLIP(SMALL).state_dict() | {"temp": torch.tensor(0.02)}
    torch.save({"model": state}, tmp_path / "ViClip.pth")
    model = load_viclip(tmp_path / "ViClip.pth")
    assert model.config.vision.heads == 2 and float(model.temp.detach()) == pytest.approx(0.02)


def test_weights_for_other_sizes_are_fitted_and_strangers_refused() -> None:
    state = ViCLIP(SMALL).state_dict()
    wide = ViCLIPConfig(VisionConfig(8, 64, 8, 1, 128, 2, 2), TextConfig(16, width=128, layers=2, heads=2), 96)
    model = load_viclip(state, wide)
    assert model.encode_video(torch.randn(1, 8, 3, 64, 64)).shape == (1, 96)
    del state["text_encoder.ln_final.weight"]
    with pytest.raises(ValueError, match=r"missing .*ln_final"):
        load_viclip(state, SMALL)


def test_a_folder_of_clip_is_a_start(clip: CLIPModel, tmp_path: Path) -> None:
    clip.save_pretrained(tmp_path)
    model = load_viclip(tmp_path)
    assert (model.config.vision.num_frames, model.config.text.context_length) == (8, 77)
    assert not model.vision_encoder.temporal_positional_embedding.any()
    state = clip.state_dict()
    del state["visual_projection.weight"]
    with pytest.raises(ValueError, match=r"not the weights of a CLIPModel: 'visual_projection\.weight' is missing"):
        load_viclip(state)


def test_wrong_shapes_say_what_is_wanted() -> None:
    model = ViCLIP(SMALL)
    with pytest.raises(ValueError, match=r"\(2, 5, 3, 32, 32\).*\[B, 4, 3, 32, 32\]"):
        model.encode_video(torch.randn(2, 5, 3, 32, 32))
    with pytest.raises(ValueError, match="list of strings"):
        model.encode_text("a dog")
    with pytest.raises(ValueError, match="multiple"):
        VisionConfig(image_size=225)


def test_tokens_are_clips() -> None:
    assert tokenize(["a photo of a dog"])[0, :8].tolist() == [49406, 320, 1125, 539, 320, 1929, 49407, 0]
    long = tokenize(["word " * 100], 32)[0]
    assert long.shape == (32,) and long[-1] == 49407
    tokens = tokenize(["a dog", "two small cats"])
    model = ViCLIP(SMALL).eval()
    with torch.no_grad():
        assert torch.allclose(model.encode_text(tokens), model.encode_text(shortened(tokens)), atol=1e-6)
    assert clean_caption('A dog, jumping--over/under "it"!') == "a dog jumping over under it"


@given(st.text(st.sampled_from("abc de'1 2.!<>|é\t"), max_size=40))
def test_tokens_word_by_word_are_those_of_the_whole_text(text: str) -> None:
    assert _ids(text) == _tokenizer()(text)["input_ids"][1:-1]


@pytest.mark.parametrize("causal", [False, True])
def test_attention_is_the_formula(causal: bool) -> None:
    q, k, v = torch.randn(3, 2, 4, 9, 16)
    logits = q @ k.mT / 4
    if causal:
        logits = logits.masked_fill(torch.ones(9, 9).triu(1).bool(), float("-inf"))
    assert torch.allclose(attention(q, k, v, causal), logits.softmax(-1) @ v, atol=1e-6)

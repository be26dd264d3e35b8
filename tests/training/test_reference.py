"""The model against the same architecture written plainly, with `nn.MultiheadAttention`: values, gradients, arithmetic."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tests.training.reference import Reference, reference_loss
from training.flops import forward_flops, training_flops
from training.loss import contrastive_loss
from training.viclip import TextConfig, ViCLIP, ViCLIPConfig, VisionConfig, linear, normalise
from training.viclip.tokenizer import shortened
from training.viclip.transformer import Block

SMALL = ViCLIPConfig(
    VisionConfig(num_frames=4, image_size=32, patch_size=8, width=128, layers=3, heads=2, drop_path=0.0),
    TextConfig(width=128, layers=2, heads=2),
    embed_dim=96,
    init_temperature=0.07,
)


@pytest.fixture(params=["onednn", "torch"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "torch":
        monkeypatch.setattr(linear, "_has_onednn", lambda: False)
    elif not linear._has_onednn():
        pytest.skip("this torch has no oneDNN")
    return request.param


def twins() -> tuple[ViCLIP, Reference]:
    torch.manual_seed(0)
    model, reference = ViCLIP(SMALL), Reference(SMALL)
    torch.nn.init.normal_(model.vision_encoder.temporal_positional_embedding, std=0.1)
    assert list(model.state_dict()) and model.state_dict().keys() == reference.state_dict().keys()
    reference.load_state_dict(model.state_dict())
    return model, reference


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    video = torch.randint(0, 256, (6, 4, 3, 32, 32), dtype=torch.uint8)
    tokens = torch.randint(1, 49000, (6, 32))
    for row in range(6):
        tokens[row, 5 + row], tokens[row, 6 + row :] = 49407, 0
    return video, tokens


@pytest.mark.parametrize("mask_ratio", [0.0, 0.75])
def test_values_and_gradients_are_the_references(backend: str, mask_ratio: float) -> None:
    (model, reference), (video, tokens) = twins(), inputs()
    outputs, losses = [], []
    for net, words, loss in ((model, shortened(tokens), contrastive_loss), (reference, tokens, reference_loss)):
        torch.manual_seed(7)  # both draw the dropped tokens from it
        outputs.append(net(video, words, mask_ratio))
        losses.append(loss(*outputs[-1]))
        losses[-1].backward()
    for ours, theirs in zip(*outputs, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)
    assert torch.allclose(*losses, atol=1e-5)
    theirs = dict(reference.named_parameters())
    for name, parameter in model.named_parameters():
        assert torch.allclose(parameter.grad, theirs[name].grad, atol=1e-5), name


def test_without_gradients_the_numbers_are_the_same(backend: str) -> None:
    (model, reference), (video, tokens) = twins(), inputs()
    with torch.no_grad():
        assert torch.allclose(model.encode_video(video), reference(video, tokens)[0], atol=1e-5)
        assert torch.allclose(model.encode_video(normalise(video)), model.encode_video(video), atol=1e-6)


def test_all_tokens_of_a_video(backend: str) -> None:
    (model, _), (video, _) = twins(), inputs()
    tokens = model.encode_video_tokens(video)
    assert tokens.shape == (6, 1 + 4 * 16, 128)
    pooled = tokens[:, 0] @ model.vision_encoder.proj
    assert torch.allclose(torch.nn.functional.normalize(pooled, dim=-1), model.encode_video(video), atol=1e-5)


def test_checkpointing_changes_nothing() -> None:
    (model, _), (video, tokens) = twins(), inputs()
    gradients = []
    for _ in range(2):
        model.train().zero_grad()
        torch.manual_seed(7)
        contrastive_loss(*model(video, tokens, 0.5)).backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
        model.use_checkpointing()
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_drop_path_leaves_whole_branches_out() -> None:
    torch.manual_seed(0)
    block, x = Block(64, 1, False, 0.5).train(), torch.randn(200, 3, 64)
    unchanged = (block(x) == x).flatten(1).all(1).float().mean()
    assert 0.15 < unchanged < 0.35  # both branches left out
    assert torch.equal(block.eval()(x), block(x))


@pytest.mark.parametrize("mask_ratio", [0.0, 0.75])
def test_flops_are_those_that_torch_counts(monkeypatch: pytest.MonkeyPatch, mask_ratio: float) -> None:
    monkeypatch.setattr(linear, "_has_onednn", lambda: False)
    (model, _), (video, tokens) = twins(), inputs()
    words = shortened(tokens)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as forward:
        outputs = model(video, words, mask_ratio)
    assert forward.get_total_flops() == 6 * forward_flops(SMALL, mask_ratio, words.shape[1])
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as backward:
        sum(x.sum() for x in outputs).backward()
    total = forward.get_total_flops() + backward.get_total_flops()
    assert total == 6 * training_flops(SMALL, mask_ratio, words.shape[1])


def test_masking_nine_tenths_costs_about_a_tenth() -> None:
    full, masked = (forward_flops(ViCLIPConfig.l14(), ratio, 0) for ratio in (0.0, 0.9))
    assert 0.05 < masked / full < 0.11


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device for bf16 autocast and flash-attn")
def test_bf16_on_a_gpu_is_near_float32() -> None:
    from training.viclip.attention import _has_flash, attention_backend

    (model, _), (video, tokens) = twins(), inputs()
    model, video, tokens = model.cuda(), video.cuda(), tokens.cuda()
    with torch.no_grad():
        exact = model(video, tokens)[0]
        with torch.autocast("cuda", torch.bfloat16):
            near = model(video, tokens)[0]
    assert torch.allclose(exact, near.float(), atol=3e-2)
    half = torch.zeros(1, 1, 1, 64, device="cuda", dtype=torch.bfloat16)
    assert attention_backend(half) == ("flash_attn" if _has_flash() else "sdpa")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device: flash-attn does not run on a CPU")
def test_flash_attention_is_the_formula() -> None:
    pytest.importorskip("flash_attn", reason="needs flash-attn")
    from training.viclip.attention import attention

    q, k, v = torch.randn(3, 2, 4, 100, 64, device="cuda", dtype=torch.bfloat16)
    wanted = torch.nn.functional.scaled_dot_product_attention(q.float(), k.float(), v.float())
    assert torch.allclose(attention(q, k, v).float(), wanted, atol=2e-2)

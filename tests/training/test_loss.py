"""The contrastive loss against the naive one: value and gradients, chunks, choices, and several processes against one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn import functional

from training.loss import contrastive_loss

B, E = 10, 6


def inputs() -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    video, text = torch.randn(2, B, E, generator=generator)
    videos = torch.tensor([0, 0, 1, 2, 3, 3, 3, 4, 5, 6])
    texts = torch.tensor([0, 1, 0, 2, 3, 4, 4, 5, 6, 7])
    return video, text, torch.tensor([0.1]), videos, texts


def naive(video, text, temperature, videos=None, texts=None, same_video="negatives"):
    """The whole matrix, row by row."""
    video, text = functional.normalize(video, dim=-1), functional.normalize(text, dim=-1)
    total = 0.0
    for a, b in ((video, text), (text, video)):
        for i in range(len(a)):
            logits = a[i] @ b.T / temperature
            right = torch.arange(len(a)) == i
            if texts is not None:
                right = right | (texts == texts[i])
            kept = torch.ones(len(a), dtype=torch.bool)
            if videos is not None and same_video == "positives":
                right = right | (videos == videos[i])
            if videos is not None and same_video == "ignored":
                kept = right | (videos != videos[i])
            total = total - functional.log_softmax(logits[kept], 0)[right[kept]].mean()
    return total / (2 * len(video))


def fast(video, text, temperature, *more, **options):
    return contrastive_loss(
        functional.normalize(video, dim=-1), functional.normalize(text, dim=-1), temperature, *more, **options
    )


@pytest.mark.parametrize("chunk_rows", [None, 3, 10, 64])
@pytest.mark.parametrize("same_video", ["negatives", "ignored", "positives"])
def test_value_and_gradients_are_the_naive_ones(chunk_rows: int | None, same_video: str) -> None:
    video, text, temperature, videos, texts = inputs()
    gradients = []
    for loss, options in ((naive, {}), (fast, {"chunk_rows": chunk_rows})):
        leaves = [x.clone().requires_grad_() for x in (video, text, temperature)]
        value = loss(*leaves, videos, texts, same_video=same_video, **options)
        value.backward()
        gradients.append([value.detach().reshape(1), *(leaf.grad for leaf in leaves)])
    for wanted, got in zip(*gradients, strict=True):
        assert torch.allclose(wanted.flatten(), got.flatten(), atol=1e-5)


def test_without_ids_only_the_own_pair_is_right() -> None:
    video, text, temperature, *_ = inputs()
    assert torch.allclose(fast(video, text, temperature), naive(video, text, temperature), atol=1e-6)


def test_no_gradient_is_computed_for_what_needs_none() -> None:
    video, text, temperature, *_ = inputs()
    video, text = functional.normalize(video, dim=-1).requires_grad_(), functional.normalize(text, dim=-1)
    loss = contrastive_loss(video, text, temperature)
    loss.backward()
    assert video.grad is not None and text.grad is None
    with torch.no_grad():
        assert contrastive_loss(video, text, temperature) == loss


def test_one_process_of_64_needs_less_than_two_gib() -> None:
    """Its 512 rows against 32,768 columns of 768 numbers, with the gradients of all gathered features."""
    command = [sys.executable, "-m", "bench.training", "loss"]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["peak_mib"] < 2048  # a matrix of 32,768 x 32,768 alone is 4096
    assert figures["loss"] == pytest.approx(figures["expected"], rel=1e-4)


def _process(rank: int, world_size: int, port: int, folder: str, same_video: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=world_size)
    inputs_ = [x.repeat(2, 1)[:N] if x.ndim == 2 else x for x in inputs()[:3]]
    rows = slice(rank * N // world_size, (rank + 1) * N // world_size)
    leaves = [x[rows].clone().requires_grad_() for x in noisy(inputs_[:2])]
    leaves.append(inputs_[2].clone().requires_grad_())
    loss = fast(*leaves, VIDEOS[rows], TEXTS[rows], same_video=same_video, chunk_rows=2)
    loss.backward()
    dist.all_reduce(leaves[2].grad)
    torch.save([loss.detach(), *(leaf.grad for leaf in leaves)], Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


N = 12
VIDEOS = torch.tensor([0, 0, 1, 2, 3, 3, 3, 4, 5, 6, 0, 5])
TEXTS = torch.tensor([0, 1, 0, 2, 3, 4, 4, 5, 6, 7, 8, 2])


def noisy(features: list[torch.Tensor]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [x + torch.randn(x.shape, generator=generator) for x in features]


@pytest.mark.parametrize(("world_size", "same_video"), [(2, "ignored"), (4, "positives")])
def test_several_processes_are_one_joined_batch(tmp_path: Path, world_size: int, same_video: str) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = (world_size, port, str(tmp_path), same_video)
    mp.start_processes(_process, arguments, nprocs=world_size, start_method="spawn")
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in range(world_size)]
    features = [x.repeat(2, 1)[:N] for x in inputs()[:2]]
    leaves = [x.requires_grad_() for x in (*noisy(features), inputs()[2])]
    whole = fast(*leaves, VIDEOS, TEXTS, same_video=same_video)
    whole.backward()
    assert torch.allclose(sum(part[0] for part in parts) / world_size, whole.detach(), atol=1e-6)
    for place in (1, 2):  # each process's gradient is of the mean over processes once averaged
        joined = torch.cat([part[place] for part in parts]) / world_size
        assert torch.allclose(joined, leaves[place - 1].grad, atol=1e-6)
    assert torch.allclose(parts[0][3] / world_size, leaves[2].grad, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices for NCCL")
def test_nccl_gathers_as_gloo_does(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.start_processes(_nccl_process, (port, str(tmp_path)), nprocs=2, start_method="spawn")
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    video, text, temperature, *_ = inputs()
    assert torch.allclose((parts[0] + parts[1]) / 2, fast(video, text, temperature), atol=1e-5)


def _nccl_process(rank: int, port: int, folder: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.cuda.set_device(rank)
    dist.init_process_group("nccl", rank=rank, world_size=2)
    video, text, temperature, *_ = (x.cuda() for x in inputs())
    rows = slice(rank * B // 2, (rank + 1) * B // 2)
    torch.save(fast(video[rows], text[rows], temperature).cpu(), Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()

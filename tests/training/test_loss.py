"""The contrastive loss against the naive one: value and gradients, chunks, choices, and two processes against one."""

from __future__ import annotations

import os
import socket
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


def _process(rank: int, port: int, folder: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=2)
    video, text, temperature, videos, texts = inputs()
    rows = slice(rank * B // 2, (rank + 1) * B // 2)
    leaves = [
        video[rows].clone().requires_grad_(),
        text[rows].clone().requires_grad_(),
        temperature.clone().requires_grad_(),
    ]
    loss = fast(*leaves, videos[rows], texts[rows], same_video="ignored", chunk_rows=2)
    loss.backward()
    dist.all_reduce(leaves[2].grad)
    torch.save([loss.detach(), *(leaf.grad for leaf in leaves)], Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_are_one_joined_batch(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.start_processes(_process, (port, str(tmp_path)), nprocs=2, start_method="spawn")
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    video, text, temperature, videos, texts = inputs()
    leaves = [x.clone().requires_grad_() for x in (video, text, temperature)]
    whole = fast(*leaves, videos, texts, same_video="ignored")
    whole.backward()
    assert torch.allclose((parts[0][0] + parts[1][0]) / 2, whole.detach(), atol=1e-6)
    for place in (1, 2):  # each process's gradient is of the mean over processes once averaged
        joined = torch.cat([part[place] for part in parts]) / 2
        assert torch.allclose(joined, leaves[place - 1].grad, atol=1e-6)
    assert torch.allclose(parts[0][3] / 2, leaves[2].grad, atol=1e-5)

"""The contrastive loss over every process's clips.

b clips of this process, B clips of all processes, E embedding.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

SameVideo = Literal["negatives", "ignored", "positives"]


class _Gather(torch.autograd.Function):
    """All processes' rows in rank order; the gradient of a row is summed over the processes that used it."""

    @staticmethod
    def forward(ctx, x_bE: Tensor) -> Tensor:  # type: ignore[override]
        parts = [torch.empty_like(x_bE) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, x_bE.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, grad_BE: Tensor) -> Tensor:  # type: ignore[override]
        grad_BE = grad_BE.contiguous()
        dist.all_reduce(grad_BE)
        return grad_BE.chunk(dist.get_world_size())[dist.get_rank()]


def gather(x_bE: Tensor) -> Tensor:
    """[b, …] of every process as [B, …], differentiable; every process must bring the same b."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return x_bE
    return _Gather.apply(x_bE) if x_bE.requires_grad else _Gather.forward(None, x_bE)


def contrastive_loss(
    video_bE: Tensor,
    text_bE: Tensor,
    temperature: Tensor,
    video_ids_b: Tensor | None = None,
    text_ids_b: Tensor | None = None,
    same_video: SameVideo = "negatives",
    chunk_rows: int | None = None,
) -> Tensor:
    """Symmetric InfoNCE with negatives from every process; averaged over processes it is the loss of the joined batch.

    Each process computes its own rows against all columns, so no process holds a B x B matrix.

    Args:
        video_bE, text_bE: unit length.
        temperature: [1], divides the cosine.
        video_ids_b: int64, equal for clips of one video.
        text_ids_b: int64, equal for equal texts; equal texts count as positives, in shares that sum to 1, since
            calling a word-for-word right caption wrong teaches nothing.
        same_video: other clips of the same video are negatives (the paper), left out, or positives.
        chunk_rows: rows computed at a time and recomputed in the backward pass, to bound memory.

    Source: InternVid (arXiv 2307.06942) eq. 1, averaged over both directions as its code does.
    Differs: the paper keeps same-video clips as negatives and suspects that it hurts (section 4.1); here it is a choice.
    """
    videos_BE, texts_BE = gather(video_bE), gather(text_bE)
    rank = dist.get_rank() if videos_BE.shape[0] != video_bE.shape[0] else 0
    own_b = torch.arange(len(video_bE), device=video_bE.device) + rank * len(video_bE)
    ids = [(i, gather(i)) if i is not None else None for i in (video_ids_b, text_ids_b)]
    step = chunk_rows or len(video_bE)
    total = video_bE.new_zeros(())
    for start in range(0, len(video_bE), step):
        rows = slice(start, start + step)
        weights_bB, ignored_bB = _targets(rows, own_b, ids[0], ids[1], same_video, len(videos_BE))
        for own_bE, all_BE in ((video_bE, texts_BE), (text_bE, videos_BE)):
            arguments = (own_bE[rows], all_BE, temperature, weights_bB, ignored_bB)
            total = total + (
                _cross_entropy(*arguments)
                if chunk_rows is None
                else checkpoint(_cross_entropy, *arguments, use_reentrant=False)
            )
    return total / (2 * len(video_bE))


def _cross_entropy(
    own_bE: Tensor, all_BE: Tensor, temperature: Tensor, weights_bB: Tensor, ignored_bB: Tensor
) -> Tensor:
    """Summed over rows, in float32."""
    logits_bB = (own_bE.float() @ all_BE.float().T / temperature.float()).masked_fill(ignored_bB, float("-inf"))
    log_shares = functional.log_softmax(logits_bB, dim=1).masked_fill(ignored_bB, 0.0)
    return -(weights_bB * log_shares).sum()


def _targets(
    rows: slice,
    own_b: Tensor,
    video_ids: tuple[Tensor, Tensor] | None,
    text_ids: tuple[Tensor, Tensor] | None,
    same_video: SameVideo,
    num_columns: int,
) -> tuple[Tensor, Tensor]:
    """How much each column is the right answer of each row (rows sum to 1), and which columns do not count."""
    columns = torch.arange(num_columns, device=own_b.device)
    positive_bB = own_b[rows].unsqueeze(1) == columns
    ignored_bB = torch.zeros_like(positive_bB)
    if text_ids is not None:
        positive_bB = positive_bB | (text_ids[0][rows].unsqueeze(1) == text_ids[1])
    if video_ids is not None and same_video != "negatives":
        same_bB = video_ids[0][rows].unsqueeze(1) == video_ids[1]
        if same_video == "positives":
            positive_bB = positive_bB | same_bB
        else:
            ignored_bB = same_bB & ~positive_bB
    weights_bB = positive_bB.float()
    return weights_bB / weights_bB.sum(1, keepdim=True), ignored_bB

"""The contrastive loss over every process's clips.

b clips of this process, B clips of all processes, E embedding.
"""

from __future__ import annotations

from functools import partial
from typing import Literal, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

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
        chunk_rows: rows computed at a time, to bound memory.

    Source: InternVid (arXiv 2307.06942) eq. 1, averaged over both directions as its code does.
    Differs: the paper keeps same-video clips as negatives and suspects that it hurts (section 4.1); here it is a choice.
    """
    videos_BE, texts_BE = gather(video_bE), gather(text_bE)
    first_row = dist.get_rank() * len(video_bE) if len(videos_BE) != len(video_bE) else 0
    ids = [(i, gather(i)) if i is not None else None for i in (video_ids_b, text_ids_b)]
    return local_loss(
        video_bE, text_bE, videos_BE, texts_BE, temperature, first_row, ids[0], ids[1], same_video, chunk_rows
    )


def local_loss(
    video_bE: Tensor,
    text_bE: Tensor,
    videos_BE: Tensor,
    texts_BE: Tensor,
    temperature: Tensor,
    first_row: int = 0,
    video_ids: tuple[Tensor, Tensor] | None = None,
    text_ids: tuple[Tensor, Tensor] | None = None,
    same_video: SameVideo = "negatives",
    chunk_rows: int | None = None,
) -> Tensor:
    """One process's part of `contrastive_loss`: its rows, which are rows `first_row` on of all, against all columns.

    Beside the features and their gradients, memory is a few matrices of chunk_rows x B. Ids are (own, all).
    """
    own_b = torch.arange(len(video_bE), device=video_bE.device) + first_row
    targets = partial(
        _targets, own_b=own_b, video_ids=video_ids, text_ids=text_ids, same_video=same_video, num_columns=len(videos_BE)
    )
    inputs = (video_bE, texts_BE, text_bE, videos_BE, temperature)
    return cast(Tensor, _InfoNCE.apply(*inputs, targets, chunk_rows or len(video_bE)))


class _InfoNCE(torch.autograd.Function):
    """The loss and, in the same pass over the rows, its gradients: no matrix is kept or computed twice.

    With p = softmax(s / T) and targets w that sum to 1, d loss / d s = (p - w) / T, and d loss / d T = -sum((p - w) s) / T^2.
    """

    @staticmethod
    def forward(ctx, video, texts, text, videos, temperature, targets, chunk_rows):  # type: ignore[no-untyped-def, override]
        inputs = (video, texts, text, videos, temperature)
        needed = ctx.needs_input_grad[:5]
        gradients = [
            torch.zeros_like(x, dtype=torch.float32) if n else None for x, n in zip(inputs, needed, strict=True)
        ]
        total = torch.zeros((), device=video.device)
        for start in range(0, len(video), chunk_rows):
            rows = slice(start, start + chunk_rows)
            weights_cB, ignored_cB = targets(rows)
            for own, other in ((0, 1), (2, 3)):
                own_gradient = gradients[own]
                total += _add_rows(
                    inputs[own][rows], inputs[other], temperature, weights_cB, ignored_cB,
                    None if own_gradient is None else own_gradient[rows], gradients[other], gradients[4],
                )  # fmt: skip
        scale = 1 / (2 * len(video))
        ctx.save_for_backward(
            *(g if g is None else g.mul_(scale).to(x.dtype) for g, x in zip(gradients, inputs, strict=True))
        )
        return total * scale

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):  # type: ignore[no-untyped-def, override]
        return *(saved if saved is None else saved * gradient for saved in ctx.saved_tensors), None, None


def _add_rows(
    own_cE: Tensor, all_BE: Tensor, temperature: Tensor, weights_cB: Tensor, ignored_cB: Tensor,
    own_gradient_cE: Tensor | None, all_gradient_BE: Tensor | None, temperature_gradient: Tensor | None,
) -> Tensor:  # fmt: skip
    """Cross entropy summed over some rows, in float32; adds to the gradients that are wanted, in place."""
    own_cE, all_BE, temperature = own_cE.float(), all_BE.float(), temperature.float()
    logits_cB = (own_cE @ all_BE.T).div_(temperature)
    largest_c1 = logits_cB.masked_fill(ignored_cB, float("-inf")).amax(1, keepdim=True)
    shares_cB = (logits_cB - largest_c1).exp_().masked_fill_(ignored_cB, 0.0)
    sums_c1 = shares_cB.sum(1, keepdim=True)
    loss = (weights_cB * (sums_c1.log() + largest_c1 - logits_cB)).sum()
    slope_cB = shares_cB.div_(sums_c1).sub_(weights_cB).div_(temperature)
    if own_gradient_cE is not None:
        own_gradient_cE.addmm_(slope_cB, all_BE)
    if all_gradient_BE is not None:
        all_gradient_BE.addmm_(slope_cB.T, own_cE)
    if temperature_gradient is not None:
        temperature_gradient.sub_(torch.dot(slope_cB.flatten(), logits_cB.flatten()))
    return loss


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

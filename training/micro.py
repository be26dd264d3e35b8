"""One training step: the contrastive loss of the whole batch, through micro-batches where memory asks for it.

b clips of this process, T frames, C channels, H W pixels, L tokens, E embedding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Video and text embeddings [b, E] and the temperature to the loss."""


def backward_step(
    engine: Any, video_bTCHW: Tensor, tokens_bL: Tensor, mask_ratio: float, loss_of: Loss, micro_batch: int, seed: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Forward, backward and update of one batch; gives loss, both embeddings and the temperature before the update.

    Plain accumulation would contrast each micro-batch with itself only. Instead every micro-batch is first embedded
    without keeping activations, the loss of the whole batch gives the gradient of each embedding, and a second forward
    pass, with the same dropped tokens, carries them into the weights. It costs a forward pass more and gives the same gradients.

    Source: GradCache (Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup, arXiv 2101.06983).
    """
    parts = list(zip(video_bTCHW.split(micro_batch), tokens_bL.split(micro_batch), strict=True))

    def embedded(number: int) -> tuple[Tensor, Tensor, Tensor]:
        torch.manual_seed(seed + number)
        return engine(*parts[number], mask_ratio)

    if len(parts) == 1:
        video_bE, text_bE, temperature = embedded(0)
        loss = loss_of(video_bE, text_bE, temperature)
        engine.backward(loss, scale_wrt_gas=False)
        engine.step()
        return loss.detach(), video_bE.detach(), text_bE.detach(), temperature.detach()

    with torch.no_grad():
        videos, texts, temperatures = zip(*(embedded(number) for number in range(len(parts))), strict=True)
    video_bE, text_bE, temperature = (
        x.requires_grad_() for x in (torch.cat(videos), torch.cat(texts), temperatures[0])
    )
    loss = loss_of(video_bE, text_bE, temperature)
    gradients = torch.autograd.grad(loss, (video_bE, text_bE, temperature))
    for number, (video_gradient, text_gradient) in enumerate(
        zip(*(g.split(micro_batch) for g in gradients[:2]), strict=True)
    ):
        video_mE, text_mE, again = embedded(number)
        share = (video_mE * video_gradient).sum() + (text_mE * text_gradient).sum()
        share = share + (again * gradients[2]).sum() / len(parts)
        engine.backward(share, scale_wrt_gas=False)
        engine.step()
    return loss.detach(), video_bE.detach(), text_bE.detach(), temperature.detach()

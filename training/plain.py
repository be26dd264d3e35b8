"""The engine of one process, or of several with whole copies (ZeRO stage 0): torch only, nothing held twice."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from training.viclip import ViCLIP


class PlainEngine:
    """Has what the loop uses of DeepSpeed's engine: call, `backward`, `step`, `module`, `optimizer`, `device`.

    A single process without gradient clipping updates each parameter as soon as its gradient is known and drops the
    gradient, so gradients never add up in memory; the numbers are the same.
    """

    def __init__(self, model: ViCLIP, optimizer: torch.optim.AdamW, bf16: bool, max_grad_norm: float, num_micro: int):
        self.device = torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else model.device
        self.module, self.optimizer = model.to(self.device), optimizer
        self._bf16, self._max_grad_norm, self._num_micro = bf16, max_grad_norm, num_micro
        self._num_backward = 0
        self._world_size = dist.get_world_size() if dist.is_initialized() else 1
        self._trained = [p for group in optimizer.param_groups for p in group["params"]]
        self.updates_at_once = self._world_size == 1 and max_grad_norm == 0.0 and num_micro == 1
        trained = self._trained if self.updates_at_once else []
        self._hooks = [parameter.register_post_accumulate_grad_hook(self._update) for parameter in trained]

    def __call__(self, *inputs: Any) -> Any:
        """The model's outputs; bf16 by autocast, with weights in float32, as the released code."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._bf16):
            return self.module(*inputs)

    def backward(self, loss: Tensor, scale_wrt_gas: bool = False) -> None:
        """Add the loss's gradients. `scale_wrt_gas` is DeepSpeed's name; here a loss is never scaled."""
        loss.backward()

    def step(self) -> None:
        """Update the weights, at the last micro-batch of a step."""
        self._num_backward += 1
        if self.updates_at_once or self._num_backward % self._num_micro:
            return
        self._average_gradients()
        if self._max_grad_norm:
            torch.nn.utils.clip_grad_norm_(self._trained, self._max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def destroy(self) -> None:
        """Leave the model alone: for another engine on the same model (DeepSpeed's engines have this too)."""
        for hook in self._hooks:
            hook.remove()

    def _update(self, parameter: Tensor) -> None:
        """The optimiser leaves parameters without a gradient alone, and no other has one at this moment."""
        self.optimizer.step()
        parameter.grad = None

    def _average_gradients(self) -> None:
        if self._world_size == 1:
            return
        for parameter in self._trained:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        waiting = [dist.all_reduce(p.grad, async_op=True) for p in self._trained]
        for work, parameter in zip(waiting, self._trained, strict=True):
            work.wait()
            parameter.grad.div_(self._world_size)

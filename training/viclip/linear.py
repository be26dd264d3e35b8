"""Products with weights: the faster kernel at hand, and no activation kept twice.

L tokens (any number of leading dimensions), I inputs, O outputs.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional


@cache
def _has_onednn() -> bool:
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def linear_backend(x: Tensor) -> str:
    """`onednn` for float32 on a CPU, else `torch`.

    torch sends float32 products to MKL, which leaves AVX-512 unused on AMD: there oneDNN is twice as fast. Its entry is a
    private name of torch's (the one that its compiler calls); without it the numbers are the same and come slower.
    """
    return "onednn" if x.device.type == "cpu" and x.dtype == torch.float32 and _has_onednn() else "torch"


def product(x_LI: Tensor, weight_OI: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """x weight^T + bias, without a gradient on oneDNN; any strides."""
    if linear_backend(x_LI) == "onednn":
        return torch.ops.mkldnn._linear_pointwise(x_LI, weight_OI, bias_O, "none", [], "")
    return functional.linear(x_LI, weight_OI, bias_O)


def linear(x_LI: Tensor, weight_OI: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """x weight^T + bias."""
    return _apply(x_LI, weight_OI, bias_O, False)


def quick_gelu_linear(x_LI: Tensor, weight_OI: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """QuickGELU(x) weight^T + bias. Only x is kept for the backward pass; when there is none, x is overwritten."""
    return _apply(x_LI, weight_OI, bias_O, True)


def _apply(x: Tensor, weight: Tensor, bias: Tensor | None, activate: bool) -> Tensor:
    device = x.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        x, weight, bias = x.to(dtype), weight.to(dtype), bias if bias is None else bias.to(dtype)
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (x, weight, bias)):
        return _Linear.apply(x, weight, bias, activate)
    return product(quick_gelu(x, out=x) if activate else x, weight, bias)


def quick_gelu(x: Tensor, out: Tensor | None = None) -> Tensor:
    """x * sigmoid(1.702 x), the activation of OpenAI's CLIP (arXiv 2103.00020); weights trained with it need it."""
    if out is x:
        return x.mul_(torch.mul(x, 1.702).sigmoid_())
    return torch.mul(x, 1.702, out=out).sigmoid_().mul_(x)


def _quick_gelu_backward(x: Tensor, grad: Any) -> tuple[Tensor, Tensor]:
    """QuickGELU(x) and its gradient: with s = sigmoid(1.702 x), y = x s and dy/dx = s + 1.702 y (1 - s)."""
    s = torch.mul(x, 1.702).sigmoid_()
    y = s * x
    # s + 1.702 y (1 - s), in the memory of s
    return y, s.addcmul_(y, 1 - s, value=1.702).mul_(grad)


class _Linear(torch.autograd.Function):
    """The product, optionally of the activated input, which is computed again in the backward pass and not kept."""

    @staticmethod
    def forward(ctx, x, weight, bias, activate):  # type: ignore[no-untyped-def, override]
        ctx.save_for_backward(x, weight)
        ctx.activate = activate
        return product(quick_gelu(x) if activate else x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):  # type: ignore[no-untyped-def, override]
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias, _ = ctx.needs_input_grad
        grad_x = product(grad, weight.T) if needs_x or ctx.activate else None
        if ctx.activate:
            x, grad_x = _quick_gelu_backward(x, grad_x)
        rows = grad.reshape(-1, grad.shape[-1])
        grad_weight = product(rows.T, x.reshape(-1, x.shape[-1]).T) if needs_weight else None
        return grad_x, grad_weight, rows.sum(0) if needs_bias else None, None


class Linear(nn.Linear):
    """`nn.Linear` through `linear`."""

    def forward(self, x_LI: Tensor) -> Tensor:
        """[…, I] to […, O]."""
        return linear(x_LI, self.weight, self.bias)


class QuickGELULinear(nn.Linear):
    """`nn.Linear` of the activated input."""

    def forward(self, x_LI: Tensor) -> Tensor:
        """[…, I] to […, O]; without a gradient x is overwritten."""
        return quick_gelu_linear(x_LI, self.weight, self.bias)

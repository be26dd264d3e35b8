"""The pre-norm transformer that both towers share. Parameter names are those of CLIP, so its weights load unchanged.

B clips or texts, L tokens, D width.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from training.viclip.attention import attention
from training.viclip.linear import Linear, QuickGELULinear, linear

_ROWS = 512


class SelfAttention(nn.Module):
    """Multi-head self-attention with the parameter names of `nn.MultiheadAttention`."""

    def __init__(self, width: int, heads: int, causal: bool):
        super().__init__()
        self.heads = heads
        self.causal = causal
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = Linear(width, width)
        nn.init.normal_(self.in_proj_weight, std=width**-0.5)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x_BLD: Tensor, only_first: bool = False) -> Tensor:
        """[B, L, D] to [B, L, D], or to [B, 1, D]: what the first token gathers."""
        d = x_BLD.shape[-1]
        if only_first:
            weights, biases = self.in_proj_weight.split([d, 2 * d]), self.in_proj_bias.split([d, 2 * d])
            q_BLD = linear(x_BLD[:, :1], weights[0], biases[0])
            k_BLD, v_BLD = linear(x_BLD, weights[1], biases[1]).chunk(2, dim=-1)
        else:
            q_BLD, k_BLD, v_BLD = linear(x_BLD, self.in_proj_weight, self.in_proj_bias).chunk(3, dim=-1)
        q, k, v = (x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in (q_BLD, k_BLD, v_BLD))
        return self.out_proj(attention(q, k, v, self.causal).transpose(1, 2).flatten(2))


class DropPath(nn.Module):
    """Adds a residual branch, but leaves it out for some samples while training (stochastic depth, arXiv 1603.09382)."""

    def __init__(self, probability: float):
        super().__init__()
        self.probability = probability

    def forward(self, x_BLD: Tensor, branch_BLD: Tensor) -> Tensor:
        """The sum of both; kept branches are scaled so that the mean stays."""
        if not self.training or self.probability == 0.0:
            return x_BLD + branch_BLD
        keep = 1.0 - self.probability
        kept_B = torch.empty(x_BLD.shape[0], 1, 1, dtype=x_BLD.dtype, device=x_BLD.device).bernoulli_(keep)
        return x_BLD + branch_BLD * (kept_B / keep)


class Mlp(nn.Sequential):
    """Two products with QuickGELU between; `gelu` has no weights and belongs to the second product."""

    def __init__(self, width: int):
        super().__init__(OrderedDict(c_fc=Linear(width, 4 * width), c_proj=QuickGELULinear(4 * width, width)))

    def initialise(self, num_layers: int) -> None:
        """As CLIP starts (arXiv 2103.00020, `initialize_parameters` of its code)."""
        c_fc, c_proj = self
        assert isinstance(c_fc, Linear) and isinstance(c_proj, QuickGELULinear)
        nn.init.normal_(c_fc.weight, std=(2 * c_fc.in_features) ** -0.5)
        nn.init.normal_(c_proj.weight, std=c_proj.out_features**-0.5 * (2 * num_layers) ** -0.5)

    def forward(self, x_BLD: Tensor) -> Tensor:
        """[B, L, D] to [B, L, D]; without a gradient some rows at a time, since all at once fall out of the cache."""
        if torch.is_grad_enabled() or x_BLD.device.type != "cpu":
            return super().forward(x_BLD)
        x_LD = x_BLD.flatten(0, -2)
        out_LD = torch.empty_like(x_LD)
        for rows, out in zip(x_LD.split(_ROWS), out_LD.split(_ROWS), strict=True):
            out.copy_(super().forward(rows))
        return out_LD.view_as(x_BLD)


class Block(nn.Module):
    """Attention and MLP, each behind a norm and beside a residual."""

    def __init__(self, width: int, heads: int, causal: bool, drop_path: float):
        super().__init__()
        self.attn = SelfAttention(width, heads, causal)
        self.ln_1 = nn.LayerNorm(width)
        self.mlp = Mlp(width)
        self.ln_2 = nn.LayerNorm(width)
        self.drop_path = DropPath(drop_path)

    def forward(self, x_BLD: Tensor, only_first: bool = False) -> Tensor:
        """[B, L, D] to [B, L, D], or to [B, 1, D]: the first token only."""
        y_BLD = self.attn(self.ln_1(x_BLD), only_first)
        x_BLD = self.drop_path(x_BLD[:, :1] if only_first else x_BLD, y_BLD)
        return self.drop_path(x_BLD, self.mlp(self.ln_2(x_BLD)))


class Transformer(nn.Module):
    """Blocks in a row. `checkpointing` recomputes activations in the backward pass to save memory."""

    def __init__(self, width: int, layers: int, heads: int, causal: bool = False, drop_path: float = 0.0):
        super().__init__()
        rates = [drop_path * i / max(1, layers - 1) for i in range(layers)]
        self.resblocks = nn.ModuleList(Block(width, heads, causal, rate) for rate in rates)
        self.checkpointing = False
        for block in self.resblocks:
            assert isinstance(block, Block)
            nn.init.normal_(block.attn.out_proj.weight, std=width**-0.5 * (2 * layers) ** -0.5)
            block.mlp.initialise(layers)

    def forward(self, x_BLD: Tensor, only_first: bool = False) -> Tensor:
        """[B, L, D] to [B, L, D], or to [B, 1, D]: the last block then works for the first token only."""
        for number, block in enumerate(self.resblocks, 1):
            last_only = only_first and number == len(self.resblocks)
            if self.checkpointing and self.training:
                x_BLD = checkpoint(block, x_BLD, last_only, use_reentrant=False)
            else:
                x_BLD = block(x_BLD, last_only)
        return x_BLD

"""The pre-norm transformer that both towers share. Parameter names are those of CLIP, so its weights load unchanged.

B clips or texts, L tokens, D width.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from training.viclip.attention import attention


class QuickGELU(nn.Module):
    """x * sigmoid(1.702 x), the activation of OpenAI's CLIP; weights trained with it need it."""

    def forward(self, x: Tensor) -> Tensor:
        """Elementwise."""
        return x * torch.sigmoid(1.702 * x)


class SelfAttention(nn.Module):
    """Multi-head self-attention with the parameter names of `nn.MultiheadAttention`."""

    def __init__(self, width: int, heads: int, causal: bool):
        super().__init__()
        self.heads = heads
        self.causal = causal
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.normal_(self.in_proj_weight, std=width**-0.5)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x_BLD: Tensor) -> Tensor:
        """[B, L, D] to [B, L, D]."""
        b, n, d = x_BLD.shape
        qkv = functional.linear(x_BLD, self.in_proj_weight, self.in_proj_bias)
        q, k, v = qkv.view(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        return self.out_proj(attention(q, k, v, self.causal).transpose(1, 2).reshape(b, n, d))


class DropPath(nn.Module):
    """Leaves a residual branch out for some samples while training (stochastic depth, arXiv 1603.09382)."""

    def __init__(self, probability: float):
        super().__init__()
        self.probability = probability

    def forward(self, x_BLD: Tensor) -> Tensor:
        """[B, L, D]; kept samples are scaled so that the mean stays."""
        if not self.training or self.probability == 0.0:
            return x_BLD
        keep = 1.0 - self.probability
        kept_B = torch.empty(x_BLD.shape[0], 1, 1, dtype=x_BLD.dtype, device=x_BLD.device).bernoulli_(keep)
        return x_BLD * kept_B / keep


class Block(nn.Module):
    """Attention and MLP, each behind a norm and beside a residual."""

    def __init__(self, width: int, heads: int, causal: bool, drop_path: float):
        super().__init__()
        self.attn = SelfAttention(width, heads, causal)
        self.ln_1 = nn.LayerNorm(width)
        layers = OrderedDict(
            c_fc=nn.Linear(width, 4 * width), gelu=QuickGELU(), c_proj=nn.Linear(4 * width, width)
        )  # fmt: skip
        self.mlp = nn.Sequential(layers)
        self.ln_2 = nn.LayerNorm(width)
        self.drop_path = DropPath(drop_path)

    def forward(self, x_BLD: Tensor) -> Tensor:
        """[B, L, D] to [B, L, D]."""
        x_BLD = x_BLD + self.drop_path(self.attn(self.ln_1(x_BLD)))
        return x_BLD + self.drop_path(self.mlp(self.ln_2(x_BLD)))


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
            nn.init.normal_(block.mlp[0].weight, std=(2 * width) ** -0.5)  # type: ignore[arg-type]
            nn.init.normal_(block.mlp[2].weight, std=width**-0.5 * (2 * layers) ** -0.5)  # type: ignore[arg-type]

    def forward(self, x_BLD: Tensor) -> Tensor:
        """[B, L, D] to [B, L, D]."""
        for block in self.resblocks:
            if self.checkpointing and self.training:
                x_BLD = checkpoint(block, x_BLD, use_reentrant=False)
            else:
                x_BLD = block(x_BLD)
        return x_BLD

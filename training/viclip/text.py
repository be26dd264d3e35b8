"""The text tower: CLIP's causal transformer, read at the end token.

B texts, L tokens, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.viclip.config import TextConfig
from training.viclip.transformer import Transformer


class TextTransformer(nn.Module):
    """Source: CLIP (arXiv 2103.00020); context of 32 tokens as in InternVid's released code."""

    def __init__(self, config: TextConfig, embed_dim: int):
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocab_size, config.width)
        self.positional_embedding = nn.Parameter(0.01 * torch.randn(config.context_length, config.width))
        self.transformer = Transformer(config.width, config.layers, config.heads, causal=True)
        self.ln_final = nn.LayerNorm(config.width)
        self.text_projection = nn.Parameter(config.width**-0.5 * torch.randn(config.width, embed_dim))
        nn.init.normal_(self.token_embedding.weight, std=0.02)

    def forward(self, tokens_BL: Tensor) -> Tensor:
        """Token ids [B, L] (int64, 0 after the end token) to an embedding [B, E], not of unit length."""
        x_BLD = self.token_embedding(tokens_BL) + self.positional_embedding[: tokens_BL.shape[1]]
        x_BLD = self.ln_final(self.transformer(x_BLD))
        end_B = tokens_BL.argmax(dim=-1)  # the end token has the highest id
        return x_BLD[torch.arange(len(x_BLD), device=x_BLD.device), end_B] @ self.text_projection

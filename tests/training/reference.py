"""ViCLIP as a reader of the paper and the released code would write it: the measure of `training` in tests and benches.

It shares only the sizes with `training`. B clips, T frames, C channels, H W pixels, L tokens, D width, E embedding.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.viclip.config import TextConfig, ViCLIPConfig, VisionConfig

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class ReferenceBlock(nn.Module):
    """Pre-norm block on [L, B, D], with torch's own attention."""

    def __init__(self, width: int, heads: int, mask_LL: Tensor | None = None):
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads)
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)})
        self.mask_LL = mask_LL

    def forward(self, x: Tensor) -> Tensor:
        """[L, B, D] to the same."""
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False, attn_mask=self.mask_LL)[0]
        h = self.mlp["c_fc"](self.ln_2(x))
        return x + self.mlp["c_proj"](h * torch.sigmoid(1.702 * h))


class ReferenceTower(nn.Module):
    """Holds blocks under the published names."""

    def __init__(self, width: int, heads: int, layers: int, mask_LL: Tensor | None = None):
        super().__init__()
        self.resblocks = nn.ModuleList(ReferenceBlock(width, heads, mask_LL) for _ in range(layers))

    def forward(self, x_BLD: Tensor) -> Tensor:
        """[B, L, D] to the same; inside it is [L, B, D], as in CLIP."""
        x = x_BLD.permute(1, 0, 2)
        for block in self.resblocks:
            x = block(x)
        return x.permute(1, 0, 2)


class ReferenceVision(nn.Module):
    """The video tower as paper and released code say it: all patches embedded, then dropped, then the blocks."""

    def __init__(self, c: VisionConfig, embed_dim: int):
        super().__init__()
        kernel = (c.tubelet_frames, c.patch_size, c.patch_size)
        self.conv1 = nn.Conv3d(3, c.width, kernel, kernel, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(c.width) * c.width**-0.5)
        self.positional_embedding = nn.Parameter(torch.randn(c.num_patches_per_frame + 1, c.width) * c.width**-0.5)
        self.temporal_positional_embedding = nn.Parameter(torch.zeros(1, c.num_tubelets, c.width))
        self.ln_pre, self.ln_post = nn.LayerNorm(c.width), nn.LayerNorm(c.width)
        self.transformer = ReferenceTower(c.width, c.heads, c.layers)
        self.proj = nn.Parameter(torch.randn(c.width, embed_dim) * c.width**-0.5)

    def forward(self, video_BTCHW: Tensor, mask_ratio: float) -> Tensor:
        """Normalised video to [B, E]."""
        x = self.conv1(video_BTCHW.transpose(1, 2))
        b, d = x.shape[:2]
        x = x.flatten(3).permute(0, 2, 3, 1)
        x = x + self.positional_embedding[1:] + self.temporal_positional_embedding.unsqueeze(2)
        x = x.reshape(b, -1, d)
        if mask_ratio:
            keep = x.shape[1] - int(mask_ratio * x.shape[1])
            order = torch.rand(b, x.shape[1]).argsort(dim=1)[:, :keep]
            x = x.gather(1, order.unsqueeze(-1).expand(-1, -1, d))
        cls = (self.class_embedding + self.positional_embedding[0]).expand(b, 1, -1)
        x = self.transformer(self.ln_pre(torch.cat([cls, x], dim=1)))
        return self.ln_post(x[:, 0]) @ self.proj


class ReferenceText(nn.Module):
    """CLIP's text tower on all positions."""

    def __init__(self, c: TextConfig, embed_dim: int):
        super().__init__()
        self.token_embedding = nn.Embedding(c.vocab_size, c.width)
        self.positional_embedding = nn.Parameter(torch.randn(c.context_length, c.width) * 0.01)
        mask = torch.full((c.context_length, c.context_length), float("-inf")).triu(1)
        self.transformer = ReferenceTower(c.width, c.heads, c.layers, mask)
        self.ln_final = nn.LayerNorm(c.width)
        self.text_projection = nn.Parameter(torch.randn(c.width, embed_dim) * c.width**-0.5)

    def forward(self, tokens_BL: Tensor) -> Tensor:
        """Token ids to [B, E]."""
        x = self.ln_final(self.transformer(self.token_embedding(tokens_BL) + self.positional_embedding))
        return x[torch.arange(len(x)), tokens_BL.argmax(dim=-1)] @ self.text_projection


class Reference(nn.Module):
    """What a reader of the paper and the released code would write: `nn.MultiheadAttention`, `nn.Linear`, `nn.Conv3d`.

    Parameter names are the published ones, so weights go both ways.
    """

    def __init__(self, c: ViCLIPConfig):
        super().__init__()
        self.vision_encoder = ReferenceVision(c.vision, c.embed_dim)
        self.text_encoder = ReferenceText(c.text, c.embed_dim)
        self.temp = nn.Parameter(torch.full((1,), c.init_temperature))

    def forward(self, video_BTCHW: Tensor, tokens_BL: Tensor, mask_ratio: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
        """uint8 video and token ids to unit embeddings, and the temperature."""
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
        video_BE = self.vision_encoder((video_BTCHW.float() / 255 - mean) / std, mask_ratio)
        return functional.normalize(video_BE, dim=-1), functional.normalize(self.text_encoder(tokens_BL), dim=-1), self.temp  # fmt: skip


def reference_loss(video_BE: Tensor, text_BE: Tensor, temperature: Tensor) -> Tensor:
    """Both directions of InfoNCE."""
    logits_BB = video_BE @ text_BE.T / temperature
    right_B = torch.arange(len(logits_BB))
    return (functional.cross_entropy(logits_BB, right_B) + functional.cross_entropy(logits_BB.T, right_B)) / 2

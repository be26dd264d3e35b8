"""The video tower: joint space-time attention over the patches of all frames.

B clips, T tubelets (frames for the released models), C channels, H W pixels, N patches of a frame, L tokens, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.viclip.config import VisionConfig
from training.viclip.transformer import Transformer


def num_kept_tokens(num_tokens: int, mask_ratio: float) -> int:
    """How many patch tokens stay. Worked example: 2048 tokens at 0.9 keep 2048 - int(1843.2) = 205.

    Source: InternVid (arXiv 2307.06942) section 4 and its released code, `mask_tokens`.
    """
    if not 0.0 <= mask_ratio < 1.0:
        raise ValueError(f"mask_ratio = {mask_ratio} must be in [0, 1)")
    return num_tokens - int(mask_ratio * num_tokens)


def drop_tokens(x_BLD: Tensor, mask_ratio: float) -> Tensor:
    """A uniform random subset of each sample's tokens, in their order; all of them at ratio 0.

    Source: as FLIP (arXiv 2212.00794): dropped tokens enter no block, nothing is reconstructed.
    """
    b, n, d = x_BLD.shape
    kept = num_kept_tokens(n, mask_ratio)
    if kept == n:
        return x_BLD
    order_BL = torch.rand(b, n, device=x_BLD.device).argsort(dim=1)[:, :kept].sort(dim=1).values
    return x_BLD.gather(1, order_BL.unsqueeze(-1).expand(-1, -1, d))


class VisionTransformer(nn.Module):
    """CLIP's ViT turned into a video encoder: 3-D patches, one class token a video, a zero-initialised temporal table.

    Source: InternVid (arXiv 2307.06942) section 4; parameter names of its released weights.
    """

    def __init__(self, config: VisionConfig, embed_dim: int):
        super().__init__()
        self.config = config
        width, scale = config.width, config.width**-0.5
        patch = (config.tubelet_frames, config.patch_size, config.patch_size)
        self.conv1 = nn.Conv3d(3, width, patch, patch, bias=False)
        self.class_embedding = nn.Parameter(scale * torch.randn(width))
        self.positional_embedding = nn.Parameter(scale * torch.randn(config.num_patches_per_frame + 1, width))
        self.temporal_positional_embedding = nn.Parameter(torch.zeros(1, config.num_tubelets, width))
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = Transformer(width, config.layers, config.heads, drop_path=config.drop_path)
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(scale * torch.randn(width, embed_dim))

    def tokens(self, video_BTCHW: Tensor, mask_ratio: float = 0.0) -> Tensor:
        """All output tokens [B, 1 + L, D] after the last norm, the class token first.

        Without masking the patch tokens are in (frame, row, column) order; with it their frame is unknown.

        Raises: ValueError when the picture size or the number of frames is not the model's (one frame is always fine).
        """
        x_BDTHW = self.conv1(self._checked(video_BTCHW).transpose(1, 2))
        x_BTND = x_BDTHW.flatten(3).permute(0, 2, 3, 1)
        x_BTND = x_BTND + self.positional_embedding[1:] + self._temporal(x_BTND.shape[1]).unsqueeze(2)
        x_BLD = drop_tokens(x_BTND.flatten(1, 2), mask_ratio)
        cls_BD = (self.class_embedding + self.positional_embedding[0]).expand(x_BLD.shape[0], 1, -1)
        x_BLD = self.ln_pre(torch.cat([cls_BD.to(x_BLD.dtype), x_BLD], dim=1))
        return self.ln_post(self.transformer(x_BLD))

    def forward(self, video_BTCHW: Tensor, mask_ratio: float = 0.0) -> Tensor:
        """Normalised RGB video [B, T, 3, H, W] to an embedding [B, E], not of unit length."""
        return self.tokens(video_BTCHW, mask_ratio)[:, 0] @ self.proj

    def _temporal(self, num_steps: int) -> Tensor:
        """[1, T, D]; a single picture takes the mean of the table, as the released code does."""
        table = self.temporal_positional_embedding
        return table.mean(1, keepdim=True) if num_steps == 1 else table

    def _checked(self, video_BTCHW: Tensor) -> Tensor:
        size, frames = self.config.image_size, self.config.num_frames
        right = video_BTCHW.ndim == 5 and tuple(video_BTCHW.shape[2:]) == (3, size, size)
        is_image = self.config.tubelet_frames == 1 and video_BTCHW.ndim == 5 and video_BTCHW.shape[1] == 1
        if not right or not (video_BTCHW.shape[1] == frames or is_image):
            raise ValueError(
                f"video has shape {tuple(video_BTCHW.shape)}; this model takes [B, {frames}, 3, {size}, {size}]"
            )
        return video_BTCHW

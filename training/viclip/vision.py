"""The video tower: joint space-time attention over the patches of all frames.

B clips, T tubelets (frames for the released models), C channels, H W pixels, N patches of a frame, L tokens, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.viclip.config import VisionConfig
from training.viclip.linear import linear
from training.viclip.pixels import normalise
from training.viclip.transformer import Transformer


def num_kept_tokens(num_tokens: int, mask_ratio: float) -> int:
    """How many patch tokens stay. Worked example: 2048 tokens at 0.9 keep 2048 - int(1843.2) = 205.

    Source: InternVid (arXiv 2307.06942) section 4 and its released code, `mask_tokens`.
    """
    if not 0.0 <= mask_ratio < 1.0:
        raise ValueError(f"mask_ratio = {mask_ratio} must be in [0, 1)")
    return num_tokens - int(mask_ratio * num_tokens)


def kept_tokens(num_samples: int, num_tokens: int, mask_ratio: float, device: torch.device) -> Tensor:
    """Places [B, K] of a uniform random subset of each sample's tokens, in order; all of them at ratio 0.

    Source: as FLIP (arXiv 2212.00794): dropped tokens enter no block, nothing is reconstructed.
    """
    kept = num_kept_tokens(num_tokens, mask_ratio)
    if kept == num_tokens:
        return torch.arange(num_tokens, device=device).expand(num_samples, -1)
    return torch.rand(num_samples, num_tokens, device=device).argsort(dim=1)[:, :kept].sort(dim=1).values


def patches(video_BTCHW: Tensor, config: VisionConfig) -> Tensor:
    """A view of the pixels patch by patch: [B, T, H, W, …] with a patch's [C, t, p, p] at the end."""
    p, t = config.patch_size, config.tubelet_frames
    return video_BTCHW.unflatten(4, (-1, p)).unflatten(3, (-1, p)).unflatten(1, (-1, t)).permute(0, 1, 4, 6, 3, 2, 5, 7)


class PatchEmbedding(nn.Conv3d):
    """Chosen patches times the kernel of CLIP's patch convolution, whose weights it has."""

    def forward(self, patches_BLP: Tensor) -> Tensor:
        """[B, L, C, t, p, p], uint8 RGB or normalised floats, to [B, L, D]."""
        if patches_BLP.dtype == torch.uint8:
            patches_BLP = normalise(patches_BLP, channel=2).to(self.weight.dtype)
        return linear(patches_BLP.flatten(2), self.weight.flatten(1))


class VisionTransformer(nn.Module):
    """CLIP's ViT turned into a video encoder: 3-D patches, one class token a video, a zero-initialised temporal table.

    Source: InternVid (arXiv 2307.06942) section 4; parameter names of its released weights.
    """

    def __init__(self, config: VisionConfig, embed_dim: int):
        super().__init__()
        self.config = config
        width, scale = config.width, config.width**-0.5
        patch = (config.tubelet_frames, config.patch_size, config.patch_size)
        self.conv1 = PatchEmbedding(3, width, patch, patch, bias=False)
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
        return self.ln_post(self.transformer(self._embedded(video_BTCHW, mask_ratio)))

    def forward(self, video_BTCHW: Tensor, mask_ratio: float = 0.0) -> Tensor:
        """Video [B, T, 3, H, W], uint8 RGB or normalised floats, to an embedding [B, E], not of unit length."""
        first_B1D = self.transformer(self._embedded(video_BTCHW, mask_ratio), only_first=True)
        return self.ln_post(first_B1D[:, 0]) @ self.proj

    def _embedded(self, video_BTCHW: Tensor, mask_ratio: float) -> Tensor:
        """What enters the first block, [B, 1 + L, D]."""
        patches_BTHWP = patches(self._checked(video_BTCHW), self.config)
        (b, t, h, w), device = patches_BTHWP.shape[:4], video_BTCHW.device
        kept_BL = kept_tokens(b, t * h * w, mask_ratio, device)
        step_BL, place_BL = kept_BL // (h * w), kept_BL % (h * w)
        sample_B1 = torch.arange(b, device=device).unsqueeze(1)
        # Dropped patches are not even embedded: a patch depends on no other, so the released code, which embeds first, gives the same.
        x_BLD = self.conv1(patches_BTHWP[sample_B1, step_BL, place_BL // w, place_BL % w])
        x_BLD = x_BLD + functional.embedding(place_BL + 1, self.positional_embedding)
        x_BLD = x_BLD + functional.embedding(step_BL, self._temporal(t)[0])
        cls_BD = (self.class_embedding + self.positional_embedding[0]).expand(b, 1, -1)
        return self.ln_pre(torch.cat([cls_BD.to(x_BLD.dtype), x_BLD], dim=1))

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

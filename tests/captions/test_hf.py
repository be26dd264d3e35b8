"""The hf backends on tiny random models in local folders: the real loading and generating code, without the network."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    BlipConfig,
    BlipForConditionalGeneration,
    BlipProcessor,
    CLIPConfig,
    CLIPModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from internvid_assets.captions.base import ClipInput, CoarseCaption, FineCaption, MergeInput
from internvid_assets.captions.hf import HfCaptioner
from internvid_assets.clips.packs import ClipFrames, PackedFrame
from internvid_assets.scores.base import ScoreItem
from internvid_assets.scores.similarity import ClipSimilarity

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "red", "circle", "moves", "summarize", ":", "."]
TOWER = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


def tokenizer() -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "eos_token": "[SEP]",
    }
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=16, **special)


def clip(seed: int) -> ClipFrames:
    rng = np.random.default_rng(seed)
    jpegs = [cv2.imencode(".jpg", rng.integers(0, 255, (48, 64, 3), dtype=np.uint8))[1].tobytes() for _ in range(4)]
    frames = tuple(PackedFrame(float(i), jpeg) for i, jpeg in enumerate(jpegs))
    return ClipFrames(f"clip{seed}", frames, frames[:3], 4.0)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models")
    text = {
        **TOWER,
        "vocab_size": len(WORDS),
        "bos_token_id": 2,
        "eos_token_id": 3,
        "pad_token_id": 0,
        "sep_token_id": 3,
    }
    blip = BlipConfig(
        text_config={**text, "max_position_embeddings": 32}, vision_config={**TOWER, "image_size": 32, "patch_size": 16}
    )
    BlipForConditionalGeneration(blip).save_pretrained(folder / "blip")
    BlipProcessor(BlipImageProcessorPil(size={"height": 32, "width": 32}), tokenizer()).save_pretrained(folder / "blip")
    t5 = T5Config(
        vocab_size=len(WORDS),
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=2,
        decoder_start_token_id=0,
        eos_token_id=3,
    )
    T5ForConditionalGeneration(t5).save_pretrained(folder / "t5")
    tokenizer().save_pretrained(folder / "t5")
    clip_text = {**TOWER, "vocab_size": len(WORDS), "max_position_embeddings": 16, "eos_token_id": 3}
    CLIPModel(
        CLIPConfig(
            text_config=clip_text, vision_config={**TOWER, "image_size": 32, "patch_size": 16}, projection_dim=16
        )
    ).save_pretrained(folder / "clip")
    from transformers import CLIPProcessor

    pictures = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    CLIPProcessor(pictures, tokenizer()).save_pretrained(folder / "clip")
    return {name: folder / name for name in ("blip", "t5", "clip")}


def test_frames_are_described_and_merged(folders: dict[str, Path]) -> None:
    options = {
        "image_model": str(folders["blip"]),
        "merge_model": str(folders["t5"]),
        "max_new_tokens": "5",
        "batch_size": "2",
    }
    captioner = HfCaptioner(**options)
    clips = [ClipInput(clip(i), None, None) for i in range(3)]
    coarse = captioner.coarse(clips)
    assert len(coarse) == 3 and captioner.coarse(clips) == coarse  # the same pictures give the same texts
    fine = captioner.fine(clips)
    assert [len(f.frame_texts) for f in fine if isinstance(f, FineCaption)] == [3, 3, 3]
    merged = captioner.merge(
        [
            MergeInput(
                f"clip{i}", CoarseCaption("a red circle"), FineCaption((0.0,), ("circle moves",)), "", None, None
            )
            for i in range(3)
        ]
    )
    assert len(merged) == 3 and merged[0] == merged[1]
    assert captioner.version != HfCaptioner(**(options | {"max_new_tokens": "6"})).version


def test_clip_scores_are_cosines(folders: dict[str, Path]) -> None:
    scorer = ClipSimilarity(str(folders["clip"]))
    items = [ScoreItem(clip(i), text) for i, text in enumerate(["a red circle", "a circle moves"])]
    together = scorer.score(items)
    alone = [scorer.score([item])[0] for item in items]
    assert together == pytest.approx(alone, abs=1e-5)
    assert all(isinstance(value, float) and -1 <= value <= 1 for value in together)

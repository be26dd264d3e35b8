"""Tiny random CLIP, SigLIP, SigLIP 2 and ViCLIP in folders: the real loading and scoring code, without the network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPProcessor,
    PreTrainedTokenizerFast,
    Siglip2Config,
    Siglip2Model,
    Siglip2Processor,
    Siglip2Tokenizer,
    SiglipConfig,
    SiglipModel,
    SiglipProcessor,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.siglip2.image_processing_pil_siglip2 import Siglip2ImageProcessorPil

from training.viclip import ViCLIP, ViCLIPConfig, save_viclip

WORDS = ["<pad>", "<end>", "<unk>", *["a", "red", "circle", "moves", "cat", "dog", "on", "the", "grass", "runs"]]
TOWER = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
TEXT = {**TOWER, "vocab_size": 20, "max_position_embeddings": 8, "pad_token_id": 0, "eos_token_id": 1}
DIMENSION = 16


def tokenizer(model_max_length: int) -> PreTrainedTokenizerFast:
    """Whole words, with an end token."""
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = TemplateProcessing(single="$A <end>", special_tokens=[("<end>", 1)])
    names = {"pad_token": "<pad>", "eos_token": "<end>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=model_max_length, **names)


def clip(folder: Path) -> Path:
    """A CLIP whose embeddings have 16 numbers and whose texts have room for 8 tokens."""
    vision = {**TOWER, "image_size": 32, "patch_size": 16}
    CLIPModel(CLIPConfig(text_config=TEXT, vision_config=vision, projection_dim=DIMENSION)).save_pretrained(folder)
    pictures = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    CLIPProcessor(pictures, tokenizer(1000)).save_pretrained(folder)
    return folder


def siglip(folder: Path) -> Path:
    """A SigLIP with room for 8 tokens."""
    vision = {**TOWER, "image_size": 32, "patch_size": 16}
    SiglipModel(SiglipConfig(text_config=TEXT, vision_config=vision)).save_pretrained(folder)
    SiglipProcessor(SiglipImageProcessorPil(size={"height": 32, "width": 32}), tokenizer(8)).save_pretrained(folder)
    return folder


def siglip2(folder: Path) -> Path:
    """A SigLIP 2 that takes pictures in their own aspect ratio, as at most 256 patches, which its processor insists on."""
    vision = {**TOWER, "num_patches": 256, "patch_size": 16}
    Siglip2Model(Siglip2Config(text_config=TEXT, vision_config=vision)).save_pretrained(folder)
    pictures = Siglip2ImageProcessorPil(patch_size=16, max_num_patches=256)
    # Its tokenizer is always loaded as this class: a vocabulary of letters is the least of byte pairs.
    letters = {mark: number for number, mark in enumerate([*WORDS[:3], *"▁abcdefghijkl"])}
    words = Siglip2Tokenizer(letters, [], unk_token="<unk>", eos_token="<end>", pad_token="<pad>", add_eos_token=True)
    Siglip2Processor(pictures, words).save_pretrained(folder)
    return folder


def viclip(folder: Path) -> Path:
    """A ViCLIP as training writes it."""
    config = ViCLIPConfig.tiny()
    save_viclip(folder, ViCLIP(config).state_dict(), config)
    return folder


MODELS: dict[str, Callable[[Path], Path]] = {m.__name__: m for m in (clip, siglip, siglip2, viclip)}


def saved(name: str, folder: Path, seed: int = 0) -> Path:
    """The folder of a model with the weights of a seed."""
    torch.manual_seed(seed)
    return MODELS[name](folder)

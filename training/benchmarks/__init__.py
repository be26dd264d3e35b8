"""Benchmarks: the public ones by name from a folder, our own plain files, and pairs of training shards."""

from training.benchmarks.benchmark import Benchmark
from training.benchmarks.plain import load_benchmark, training_pairs
from training.benchmarks.registry import STANDARDS, load_standard, told_registry
from training.benchmarks.templates import ACTIONCLIP, load_templates

__all__ = [
    "ACTIONCLIP",
    "STANDARDS",
    "Benchmark",
    "load_benchmark",
    "load_standard",
    "load_templates",
    "told_registry",
    "training_pairs",
]

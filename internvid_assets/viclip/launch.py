"""The commands that train and evaluate, and the keys that say whether it was done already."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import training
from internvid_assets.lake.stage import short_hash
from internvid_assets.settings import ViclipSettings
from internvid_assets.store.objects import file_sha256

FILES = ("model.safetensors", "viclip.json", "metrics.jsonl", "run.json")
"""What a finished training leaves; the last is written last."""


@dataclass(frozen=True)
class Training:
    """One model to train, wherever that happens; afterwards `output` holds `FILES`."""

    run_key: str
    role: str
    recipe: str
    shards_id: str
    output: Path

    @property
    def name(self) -> str:
        """The same for the same weights: who launches it again goes on with it."""
        return f"{self.run_key}-{self.role}"


def run_key(settings: ViclipSettings, shards_id: str) -> str:
    """Hash of everything that decides the weights."""
    return short_hash(
        settings.recipe, settings.control_recipe, settings.overrides, settings.seed, shards_id, settings.world_size,
        source_hash(),
    )  # fmt: skip


def evaluation_key(settings: ViclipSettings) -> str:
    """Hash of everything but the weights that decides the numbers."""
    benchmarks = {name: _benchmark_hash(name, Path(path)) for name, path in settings.benchmarks.items()}
    templates = _file_hash(Path(settings.templates)) if Path(settings.templates).is_file() else settings.templates
    return short_hash(benchmarks, templates, source_hash())


def source_hash() -> str:
    """Hash of the training code: a change of it is another run."""
    folder = Path(training.__file__).parent
    return short_hash({str(p.relative_to(folder)): p.read_text() for p in sorted(folder.rglob("*.py"))})


def recipes(settings: ViclipSettings) -> dict[str, str]:
    """Role to recipe."""
    named = {"viclip": settings.recipe, "control": settings.control_recipe}
    return {role: recipe for role, recipe in named.items() if recipe}


def check_settings(settings: ViclipSettings) -> None:
    """Find out before hours of work. Raises: ValueError naming the wrong recipe, override, benchmark or template."""
    from training.benchmarks import load_benchmark, load_standard, load_templates
    from training.recipe import with_overrides
    from training.recipes import load_recipe

    for recipe in recipes(settings).values():
        with_overrides(load_recipe(recipe), [f"{name}={value}" for name, value in settings.overrides.items()])
    for name, path in settings.benchmarks.items():
        load = load_standard if Path(path).is_dir() else load_benchmark
        load(name, path)
    load_templates(settings.templates)


def train_command(settings: ViclipSettings, recipe: str, shards: Path, output: Path) -> list[str]:
    """torchrun starts the processes on this machine; each runs DeepSpeed."""
    return [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(settings.num_processes),
        "-m", "training.train", "--shards", str(shards), "--output", str(output),
        *training_arguments(settings, recipe),
    ]  # fmt: skip


def training_arguments(settings: ViclipSettings, recipe: str) -> list[str]:
    """Of `training.train`, but for where shards and output lie."""
    sets = [part for name, value in settings.overrides.items() for part in ("--set", f"{name}={value}")]
    return ["--recipe", recipe, "--seed", str(settings.seed), *sets]


def evaluate_command(
    settings: ViclipSettings, checkpoints: Mapping[str, Path], shards: Sequence[Path] | None, output: Path
) -> list[str]:
    """One process; benchmarks from the settings (a file, or the folder of a public one), else pairs of the shards."""
    command = [sys.executable, "-m", "training.evaluate", "--templates", settings.templates, "--output", str(output)]
    for name, path in checkpoints.items():
        command += ["--checkpoint", f"{name}={path}"]
    for name, source in settings.benchmarks.items():
        command += ["--data" if Path(source).is_dir() else "--benchmark", f"{name}={source}"]
    return [*command, *(part for folder in shards or () for part in ("--shards", str(folder)))]


def environment() -> dict[str, str]:
    """For the processes that are started: one thread each, unless said otherwise (two that share cores crawl)."""
    return {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"), "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}


def check_finished(folder: Path, wanted: Sequence[str]) -> None:
    """Raises: RuntimeError naming the file that a finished process should have left."""
    for name in wanted:
        if not (folder / name).exists():
            raise RuntimeError(
                f"{folder / name} is missing although the process ended well: delete {folder} and repeat"
            )


def _benchmark_hash(name: str, path: Path) -> str:
    """Of the annotation file, or of those that a public benchmark's folder holds."""
    if not path.is_dir():
        return _file_hash(path)
    from training.benchmarks.registry import read_annotations

    return short_hash(*(_file_hash(file) for file in read_annotations(name, path)[3]))


def _file_hash(path: Path) -> str:
    return file_sha256(path) if path.is_file() else f"missing {path}"

"""`python -m internvid_assets.demo`: render the corpus, run the path on it, and compare with the truth."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from internvid_assets.cli import main as internvid
from internvid_assets.demo.accuracy import compare
from internvid_assets.demo.footage import copy_footage
from internvid_assets.demo.render import render_corpus
from internvid_assets.lake import Lake
from internvid_assets.settings import Settings

TEMPLATES = (
    "a red circle {}", "a green triangle {}", "a blue star {}", "a yellow circle {}", "a red star {}",
    "a blue triangle {}", "a red circle and a green triangle {}", "a blue star and a yellow circle {}",
)  # fmt: skip
"""Prompts in the words of the corpus: one object or two."""
_SETTINGS = """\
# Written by the demo; edit it, or delete it to get the defaults.
[release]
title = "InternVid demo"
license = "cc0-1.0"
training_subset = "internvid_10m"
shard_short_side = 80

# Rendered pictures, one shape on a smooth ground, are nearer to each other than footage (ADR 11).
[subsets.parameters]
near_duplicate_bits = 36

[viclip]
recipe = "demo_cpu"
control_recipe = "demo_cpu_single_frame"
templates = "{templates}"

[viclip.benchmarks]
actions = "{held_out}/actions.csv"
retrieval = "{held_out}/retrieval.json"
"""


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, default=Path(".internvid"))
    parser.add_argument("--scale", type=float, default=1.0)
    arguments = parser.parse_args()
    corpus = arguments.home / "demo"
    if not (corpus / "truth.json").exists():
        render_corpus(corpus, scale=arguments.scale)
        copy_footage(corpus / "videos")
    write_settings(arguments.home, corpus / "heldout")
    try:
        internvid(["run", str(corpus / "videos"), "--home", str(arguments.home), "--batch-size", "16"])
    except SystemExit as stop:
        if stop.code:
            raise
    print_accuracy(Lake(Settings(home=arguments.home)), json.loads((corpus / "truth.json").read_text())["videos"])


def write_settings(home: Path, held_out: Path) -> None:
    """Settings of the demo home: a small corpus trains on all its pairs and is evaluated on held-out combinations."""
    templates = held_out / "templates.txt"
    templates.write_text("".join(f"{line}\n" for line in TEMPLATES))
    (home / "internvid.toml").write_text(_SETTINGS.format(held_out=held_out.resolve(), templates=templates.resolve()))


def near_duplicates(lake: Lake) -> dict[str, str]:
    """File name of every near duplicate to that of the video it copies."""
    rows = lake.rows(
        "select a.source_uri as copy, b.source_uri as original from intermediate.int_near_duplicates as d "
        "join videos.raw_videos as a on d.video_id = a.video_id join videos.raw_videos as b on d.duplicate_of = b.video_id"
    )
    return {Path(row["copy"]).name: Path(row["original"]).name for row in rows}


def print_accuracy(lake: Lake, truth: dict) -> None:
    """Print what was found against the truth."""
    clips = lake.rows("select c.*, v.source_uri from clips.clips as c join videos.raw_videos as v using (video_id)")
    labels = {
        r["clip_id"]: r["motion_label"] for r in lake.rows("select clip_id, motion_label from captions.fine_captions")
    }
    texts = {r["clip_id"]: r["text"] for r in lake.rows("select clip_id, text from captions.captions")}
    print(f"\n{'against the truth':<52}{'value':>8}{'of':>8}")
    quarantine = lake.rows("select * from videos.quarantine")
    for measure in compare(truth, clips, quarantine, labels, texts, near_duplicates(lake)):
        print(f"{measure.stage:<10}{measure.name:<42}{measure.value:>8.3f}{measure.num_items:>8}")
    print_evaluation(lake)


def print_evaluation(lake: Lake) -> None:
    """Print what ViCLIP reached on held-out combinations, beside chance and the single-frame control."""
    print(f"\n{'on held-out combinations':<36}{'ViCLIP':>8}{'95 % interval':>18}{'one frame':>11}{'chance':>8}")
    for row in lake.rows(
        "select benchmark || ' ' || metric as name, v.value, v.low, v.high, v.chance, c.value as control "
        "from viclip.viclip_evaluation as v left join viclip.viclip_evaluation as c "
        "using (checkpoint_id, evaluation_key, benchmark, metric) where v.model = 'viclip' and c.model = 'control' "
        "and metric in ('top1', 't2v_R@1', 'v2t_R@1') order by checkpoint_id, name"
    ):
        interval = f"{row['low']:.3f} to {row['high']:.3f}"
        print(f"{row['name']:<36}{row['value']:>8.3f}{interval:>18}{row['control']:>11.3f}{row['chance']:>8.3f}")


if __name__ == "__main__":
    main()

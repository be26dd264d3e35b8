"""The report of one training run: one HTML page that stands alone, and the same as JSON and Markdown."""

from __future__ import annotations

import base64
import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import cv2
import jinja2
import numpy as np

from internvid_assets.clips.frames import FrameSource
from internvid_assets.clips.packs import ClipFrames
from internvid_assets.lake import Lake
from internvid_assets.lake.lineage import explain
from internvid_assets.status import stages
from internvid_assets.viclip import figures
from training.run_log import read_metrics

FIGURES = ("accuracy", "training_curves", "confusion", "dataset")
_NUM_SAMPLES = 8


def write_report(
    output: Path,
    lake: Lake,
    frames: FrameSource,
    checkpoint_id: str,
    checkpoints: Mapping[str, Path],
    evaluation: Mapping[str, Any],
) -> None:
    """Write `report.html`, `report.md`, `report.json` and the figures beside the evaluation's files.

    Args:
        output: holds evaluation.json and the pictures it names.
        checkpoints: role to the folder of its weights, metrics and run facts.
    """
    checkpoint = lake.rows("select * from viclip.viclip_checkpoint where checkpoint_id = ? limit 1", [checkpoint_id])[0]
    shards = lake.rows("select * from release.training_shards where shards_id = ?", [checkpoint["shards_id"]])
    facts = {
        "checkpoint": checkpoint,
        "run": json.loads((checkpoints["viclip"] / "run.json").read_text()),
        "dataset": _dataset(lake, checkpoint["shards_id"], shards[0]["subset"]),
        "stages": stages(lake),
        "evaluation": evaluation,
        "samples": _samples(output, lake, frames, checkpoint["shards_id"]),
        "lineage": explain(lake, checkpoint_id),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("internvid", "torch", "deepspeed", "duckdb", "dagster", "av")},
        },
    }
    _draw(output, lake, checkpoints, evaluation, checkpoint["shards_id"])
    (output / "report.json").write_text(json.dumps(facts, indent=1, default=str) + "\n")
    page = {
        **facts,
        "image": lambda name: _inline(output / name),
        "figures": [n for n in FIGURES if _has(output, n)],
        "paper_metrics": _paper_metrics,
    }
    for name in ("report.html", "report.md"):
        (output / name).write_text(_template(name).render(**page))


def _paper_metrics(evaluation: Mapping[str, Any], result: Mapping[str, Any]) -> set[str]:
    """Metrics of a result that the paper has of this benchmark."""
    return {name for row in evaluation["paper"] if row["benchmark"] == result["benchmark"] for name in row["figures"]}


def _dataset(lake: Lake, shards_id: str, subset: str) -> dict[str, Any]:
    """Figures of the whole lake and of what was trained on."""
    whole = lake.rows(
        "select (select count(*) from videos.raw_videos) as num_videos, count(*) as num_clips, "
        "coalesce(sum(end_seconds - start_seconds), 0) as clip_seconds, "
        "(select avg(num_words) from captions.captions) as mean_caption_words, "
        "(select count(*) from videos.quarantine) as num_refused from clips.clips"
    )[0]
    trained = lake.rows(
        "select count(*) as num_clips, count(distinct clips.video_id) as num_videos, sum(end_seconds - start_seconds) as "
        "clip_seconds from release.shard_samples join clips.clips using (clip_id) where shards_id = ?",
        [shards_id],
    )[0]
    return {"whole": whole, "trained": trained, "subset": subset}


def _samples(output: Path, lake: Lake, frames: FrameSource, shards_id: str) -> list[dict[str, Any]]:
    """A few trained clips with a strip of frames, caption and scores; chosen by hash."""
    rows = lake.rows(
        "select clip_id, caption, similarity, aesthetic, duration_seconds as seconds from release.shard_samples "
        "join subsets.filtered_pairs using (clip_id) "
        "where shards_id = ? order by md5(clip_id) limit ?",
        [shards_id, _NUM_SAMPLES],
    )
    strips = {clip.clip_id: clip for clip in frames.of_clips([row["clip_id"] for row in rows])}
    for row in rows:
        row["picture"] = f"sample_{row['clip_id']}.jpg"
        (output / row["picture"]).write_bytes(_strip(strips[row["clip_id"]]))
    return rows


def _strip(clip: ClipFrames, count: int = 4) -> bytes:
    """Some frames of a clip side by side."""
    chosen = [clip.uniform[int((i + 0.5) * len(clip.uniform) / count)].rgb() for i in range(count)]
    strip = np.concatenate([cv2.resize(f, (160, 120), interpolation=cv2.INTER_AREA) for f in chosen], axis=1)
    return cv2.imencode(".jpg", cv2.cvtColor(strip, cv2.COLOR_RGB2BGR))[1].tobytes()


def _draw(
    output: Path, lake: Lake, checkpoints: Mapping[str, Path], evaluation: Mapping[str, Any], shards_id: str
) -> None:
    curves = {role: read_metrics(folder) for role, folder in checkpoints.items()}
    figures.training_curves(output / "training_curves.png", curves["viclip"], curves.get("control", []))
    figures.accuracy(output / "accuracy.png", evaluation["results"])
    for table in list(evaluation["confusion"].values())[:1]:
        figures.confusion(output / "confusion.png", table["classes"], table["counts"])
    columns = {"duration_seconds": "clip seconds", "num_words": "caption words", "similarity": "similarity",
               "aesthetic": "aesthetic score"}  # fmt: skip
    table = lake.query(
        f"select {', '.join(columns)} from release.shard_samples join subsets.filtered_pairs using (clip_id) "
        "where shards_id = ?",
        [shards_id],
    )
    values = [[v for v in column.to_pylist() if v is not None] for column in table.columns]
    figures.histograms(output / "dataset.png", dict(zip(columns.values(), values, strict=True)))


def _has(output: Path, name: str) -> bool:
    return (output / f"{name}.png").exists()


def _inline(path: Path) -> str:
    kind = "png" if path.suffix == ".png" else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _template(name: str) -> jinja2.Template:
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=name.endswith(".html")
    )
    return environment.from_string(files("internvid_assets.viclip").joinpath(name).read_text())

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
    try:
        internvid(["run", str(corpus / "videos"), "--home", str(arguments.home), "--batch-size", "16"])
    except SystemExit as stop:
        if stop.code:
            raise
    print_accuracy(Lake(Settings(home=arguments.home)), json.loads((corpus / "truth.json").read_text())["videos"])


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


if __name__ == "__main__":
    main()

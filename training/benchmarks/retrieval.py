"""Readers of the standard annotation files of video-text retrieval. Each gives `Items`, or a ValueError for a bad file.

A paragraph joins all sentences of a video into one text; otherwise each sentence is a caption of its own.
"""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from training.benchmarks.action import Files
from training.benchmarks.items import Items


def captions(files: Files, split: str) -> Items:
    """A JSON list of {video, caption} (as InternVid, VindLU and UMT); a caption may be a list of captions."""
    return Items.captioned((video, texts) for video, texts in _entries(files["list"][0]))


def paragraphs(files: Files, split: str) -> Items:
    """The same JSON list; the sentences of a video are joined."""
    gathered = Items.captioned(_entries(files["list"][0]))
    return Items.captioned((v, [" ".join(texts)]) for v, texts in zip(gathered.videos, gathered.captions, strict=True))


def _entries(path: Path) -> list[tuple[str, list[str]]]:
    entries = _json(path)
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"{path} must hold a list of videos with captions")
    found = []
    for number, entry in enumerate(entries):
        text = entry.get("caption") or entry.get("description") if isinstance(entry, dict) else None
        if not text or "video" not in entry:
            raise ValueError(f"{path} entry {number} needs video and caption")
        found.append((entry["video"], [text] if isinstance(text, str) else list(text)))
    return found


def jsfusion(files: Files, split: str) -> Items:
    """`MSRVTT_JSFUSION_test.csv`, the 1K-A split: columns key, vid_key, video_id, sentence."""
    path = files["list"][0]
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows or not {"video_id", "sentence"} <= rows[0].keys():
        raise ValueError(f"{path} lacks the columns video_id and sentence")
    return Items.captioned((row["video_id"], [row["sentence"]]) for row in rows)


def msrvtt_with_sentences(files: Files, split: str) -> Items:
    """A list of video ids (`MSRVTT_train.9k.csv`) and all sentences (`MSRVTT_data.json`), as CLIP4Clip has them."""
    with files["list"][0].open(newline="") as file:
        videos = [row["video_id"] for row in csv.DictReader(file)]
    sentences = defaultdict(list)
    for sentence in _json(files["sentences"][0])["sentences"]:
        sentences[sentence["video_id"]].append(sentence["caption"])
    lacking = [video for video in videos if video not in sentences]
    if lacking:
        raise ValueError(f"{files['sentences'][0]} has no sentence of {lacking[0]} and {len(lacking) - 1} more")
    return Items.captioned((video, sentences[video]) for video in videos)


def lsmdc(files: Files, split: str) -> Items:
    """`LSMDC16_challenge_1000_publictect.csv`: tabs, no header, the clip's id first and its sentence last."""
    rows = [line.split("\t") for line in files["list"][0].read_text(errors="replace").splitlines() if line.strip()]
    if any(len(row) < 2 for row in rows):
        raise ValueError(f"{files['list'][0]} must be separated by tabs: clip id first, sentence last")
    return Items.captioned((f"{row[0].rpartition('_')[0]}/{row[0]}", [row[-1].strip()]) for row in rows)


def activitynet(files: Files, split: str) -> Items:
    """`val_1.json` of ActivityNet Captions: video id to its sentences, joined to a paragraph."""
    values = _json(files["list"][0])
    if not isinstance(values, dict) or not all("sentences" in value for value in values.values()):
        raise ValueError(f"{files['list'][0]} must map video ids to entries with sentences")
    return Items.captioned((v, [" ".join(s.strip() for s in entry["sentences"])]) for v, entry in values.items())


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error

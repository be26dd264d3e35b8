"""What the pipeline found against what was rendered: pure comparisons, one line a measure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TOLERANCE_FRAMES = 1


@dataclass(frozen=True)
class Measure:
    """One figure of one stage: `value` of `num_items`."""

    stage: str
    name: str
    value: float
    num_items: int


def compare(
    truth: Mapping[str, Any],
    clips: Sequence[Mapping[str, Any]],
    quarantine: Sequence[Mapping[str, Any]],
    motion_labels: Mapping[str, str],
    captions: Mapping[str, str],
    near_duplicates: Mapping[str, str],
) -> list[Measure]:
    """Compare rows with truth.json.

    Args:
        truth: its `videos` entry, by file name.
        clips: rows of clips.clips, each with the `source_uri` of its video.
        quarantine: rows of videos.quarantine.
        motion_labels, captions: by clip id.
        near_duplicates: file name of a copy to that of the video it copies.
    """
    by_video: dict[str, list[Mapping[str, Any]]] = {}
    for clip in clips:
        by_video.setdefault(Path(clip["source_uri"]).name, []).append(clip)
    matched = _matched(truth, by_video)
    motion = [(clip, shot) for clip, shot in matched if shot["kind"] == "motion"]
    return [
        _cuts(truth, by_video),
        _reasons(truth, quarantine),
        _duplicates(truth, near_duplicates),
        _found("stills", [clip["still_share"] >= 0.65 for clip, shot in matched if shot["kind"] == "still"]),
        _found(
            "slideshows",
            [
                clip["num_static_runs"] >= 2 and clip["still_share"] >= 0.5
                for clip, s in matched
                if s["kind"] == "slideshow"
            ],
        ),
        _share("captions", "motion class", [motion_labels.get(c["clip_id"]) == s["motion_class"] for c, s in motion]),
        _share("captions", "subject named", [s["subject"] in captions.get(c["clip_id"], "") for c, s in motion]),
        _share(
            "captions", "subject and motion named", [_is_told(s, captions.get(c["clip_id"], "")) for c, s in motion]
        ),
    ]


def _is_told(shot: Mapping[str, Any], caption: str) -> bool:
    """Whether a caption names what moves and how."""
    return shot["subject"] in caption and shot["motion_class"] in caption


def _cuts(truth: Mapping[str, Any], by_video: Mapping[str, Sequence[Mapping[str, Any]]]) -> Measure:
    """F1 of cuts within one frame, over the videos that were cut."""
    hits = num_found = num_true = 0
    for name, clips in by_video.items():
        wanted = truth.get(name, {}).get("cut_frames", [])
        found = sorted(clip["start_frame"] for clip in clips if clip["start_frame"] > 0)
        hits += sum(any(abs(f - w) <= _TOLERANCE_FRAMES for f in found) for w in wanted)
        num_found, num_true = num_found + len(found), num_true + len(wanted)
    return Measure("clips", "cuts F1", 2 * hits / max(1, num_found + num_true), num_true)


def _reasons(truth: Mapping[str, Any], quarantine: Sequence[Mapping[str, Any]]) -> Measure:
    """Share of the bad files that were refused for their own reason."""
    given = {Path(row["item_id"]).name: row["reason"] for row in quarantine if row["stage"] == "videos"}
    expected = {name: entry["expected_reason"] for name, entry in truth.items() if entry["expected_reason"]}
    duplicates = {name for name, entry in truth.items() if entry["expected_reason"] == "exact_duplicate"}
    originals = {truth[name]["duplicate_of"]: name for name in duplicates}
    right = [
        given.get(name) == reason or (name in duplicates and given.get(truth[name]["duplicate_of"]) == reason)
        for name, reason in expected.items()
    ]
    stray = [name for name in given if name not in expected and name not in originals]
    return Measure(
        "videos", "bad files refused for their reason", sum(right) / max(1, len(right) + len(stray)), len(right)
    )


def _duplicates(truth: Mapping[str, Any], found: Mapping[str, str]) -> Measure:
    """F1 of near duplicates: the right copies of the right originals, and no others among the rendered files."""
    found = {copy: of for copy, of in found.items() if copy in truth}
    same = {name: entry["duplicate_of"] for name, entry in truth.items() if entry["duplicate_of"]}
    expected = {name: same[name] for name in same if not truth[name]["expected_reason"]}
    exact = {name: same[name] for name in same if truth[name]["expected_reason"] == "exact_duplicate"}
    hits = sum(expected.get(copy) in (of, exact.get(of, of)) for copy, of in found.items() if copy in expected)
    return Measure("subsets", "near duplicates F1", 2 * hits / max(1, len(found) + len(expected)), len(expected))


def _matched(
    truth: Mapping[str, Any], by_video: Mapping[str, Sequence[Mapping[str, Any]]]
) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """(clip, shot) pairs that agree on both ends."""
    pairs = []
    for name, clips in by_video.items():
        for clip in clips:
            for shot in truth.get(name, {}).get("shots", []):
                gaps = (abs(clip[end] - shot[end]) for end in ("start_frame", "end_frame"))
                if max(gaps) <= _TOLERANCE_FRAMES:
                    pairs.append((clip, shot))
    return pairs


def _found(name: str, hits: Sequence[bool]) -> Measure:
    return _share("clips", f"{name} found", hits)


def _share(stage: str, name: str, hits: Sequence[bool]) -> Measure:
    return Measure(stage, name, sum(hits) / max(1, len(hits)), len(hits))

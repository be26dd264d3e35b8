"""Clips lie within the wanted sections of a video, cuts inside them still count."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from internvid_assets.clips.scan import ScanOptions, scan_video
from internvid_assets.clips.sections import Sections
from internvid_assets.clips.workers import ScanLimits, scan_videos
from tests.media import write_shots


def test_sections_bound_clips_and_cuts_divide_them(tmp_path: Path) -> None:
    """Shots of two seconds each; the second section is cut at 4 s, the third lies within a shot."""
    video = write_shots(tmp_path / "v.mp4", [50, 50, 50], (192, 128))
    wanted = [(0.4, 1.6), (3.0, 4.8), (5.0, 5.4)]
    scan = scan_video(video, ScanOptions(min_clip_seconds=0.3), wanted)
    spans = [(round(clip.start_seconds, 3), round(clip.end_seconds, 3)) for clip in scan.clips]
    assert spans == [(0.4, 1.6), (3.0, 4.0), (4.0, 4.8), (5.0, 5.4)]
    assert (scan.cut_frames, scan.too_short) == ([50, 100], [])
    assert all(len(clip.frames) >= 8 for clip in scan.clips)
    whole = scan_video(video, ScanOptions(min_clip_seconds=0.3))
    assert [clip.start_frame for clip in whole.clips] == [0, 50, 100]


def test_sections_reach_the_workers(tmp_path: Path) -> None:
    video = write_shots(tmp_path / "v.mp4", [50, 50], (192, 128))
    videos = [("some", video), ("all", video)]
    found = scan_videos(videos, ScanOptions(), ScanLimits(), 2, tmp_path / "packs", {"some": [(1.0, 1.8)]})
    spans = {scanned.video_id: [row["clip_id"][-17:] for row in scanned.clips] for scanned in found}
    assert spans == {"some": ["00001000_00001800"], "all": ["00000000_00002000", "00002000_00004000"]}


@given(
    st.lists(st.tuples(st.integers(0, 90), st.integers(1, 20)).map(lambda s: (s[0], s[0] + s[1])), max_size=6),
    st.integers(0, 120),
)
def test_a_frame_lies_in_a_section_exactly_when_one_has_it(sections: list[tuple[int, int]], second: int) -> None:
    found = Sections(sections)
    assert (found.at(second) is not None) == any(start <= second < end for start, end in sections)
    assert bool(found) == bool(sections)

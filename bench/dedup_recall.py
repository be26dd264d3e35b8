"""Copies of pieces of real footage through the scan, the look-up and the SQL models."""

from __future__ import annotations

import subprocess
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from internvid_assets.clips import ScanOptions
from internvid_assets.clips.matches import match_batches
from internvid_assets.clips.workers import ScanLimits, scan_videos
from internvid_assets.lake import Append, Lake, Write
from internvid_assets.lake.models import discover
from internvid_assets.settings import Settings
from internvid_assets.subsets.build import build_model

_EVEN = "scale=trunc(iw/2)*2:trunc(ih/2)*2"
KINDS: dict[str, tuple[str, ...]] = {
    "re-encoded, CRF 35": ("-crf", "35"),
    "half size": ("-vf", "scale=trunc(iw/4)*2:trunc(ih/4)*2", "-crf", "28"),
    "320x240, squeezed": ("-vf", "scale=320:240,setsar=1"),
    "1.5 times the size": ("-vf", "scale=trunc(iw*0.75)*2:trunc(ih*0.75)*2", "-crf", "28"),
    "letterboxed": ("-vf", f"{_EVEN},pad=iw:trunc(ih*1.3/2)*2:0:(oh-ih)/2", "-crf", "28"),
    "pillarboxed": ("-vf", f"{_EVEN},pad=trunc(iw*1.4/2)*2:ih:(ow-iw)/2:0", "-crf", "28"),
    "cropped by 5 %": ("-vf", "crop=trunc(iw*0.475)*2:trunc(ih*0.475)*2", "-crf", "28"),
    "cropped by 10 %": ("-vf", "crop=trunc(iw*0.45)*2:trunc(ih*0.45)*2", "-crf", "28"),
    "bottom 5 % cut": ("-vf", "crop=trunc(iw/2)*2:trunc(ih*0.475)*2:0:0", "-crf", "28"),
    "brighter, 24 fps": ("-vf", f"{_EVEN},eq=brightness=0.06:contrast=1.1", "-r", "24"),
    "trimmed": ("-ss", "0.83"),
    "trimmed, half size, letterboxed": ("-ss", "1.27", "-vf", "scale=trunc(iw/4)*2:trunc(ih/4)*2,pad=iw:trunc(ih*1.3/2)*2:0:(oh-ih)/2"),
}  # fmt: skip
"""What each copy went through, as arguments of ffmpeg."""
_ENCODER = ("-an", "-c:v", "libx264", "-preset", "veryfast", "-threads", "1", "-pix_fmt", "yuv420p")


def _ffmpeg(source: Path, target: Path, *arguments: str) -> None:
    seek, rest = (arguments[:2], arguments[2:]) if arguments[0] == "-ss" else ((), arguments)
    command = ["ffmpeg", "-v", "error", "-y", *seek, "-i", source, *_ENCODER, *rest, target]
    subprocess.run([str(part) for part in command], check=True, stdin=subprocess.DEVNULL)


def _seconds(path: Path) -> float:
    command = ["ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0", str(path)]
    return float(subprocess.run(command, capture_output=True, check=True, text=True).stdout)


def write_copies(videos: Sequence[Path], seconds: float, folder: Path) -> dict[str, tuple[Path, str]]:
    """Pieces of the videos, back to back, and a copy of each by every kind: name to (file, kind; empty: a piece)."""
    files: dict[str, tuple[Path, str]] = {}
    for video in videos:
        for number in range(int(_seconds(video) / seconds)):
            piece = folder / f"{video.stem}.{number}.mp4"
            _ffmpeg(video, piece, "-ss", str(number * seconds), "-t", str(seconds), "-vf", _EVEN, "-crf", "18")
            files[piece.stem] = piece, ""
            for place, (kind, arguments) in enumerate(KINDS.items()):
                copy = folder / f"{piece.stem}.copy{place}.mp4"
                _ffmpeg(piece, copy, *arguments)
                files[copy.stem] = copy, kind
    return files


def store_scans(lake: Lake, files: Mapping[str, tuple[Path, str]], folder: Path) -> None:
    """Scan the files as the clips stage does and store their rows; every video has a batch of its own."""
    pairs = [(name, path) for name, (path, _) in files.items()]
    videos, clips = [], []
    for scanned in scan_videos(pairs, ScanOptions(num_uniform=16), ScanLimits(), 2, folder / "packs"):
        if scanned.pack:
            scanned.pack.unlink()
        size = subprocess.run(
            ["ffprobe", "-v", "error", "-select_streams", "v:0", "-show_entries", "stream=width,height", "-of", "csv=p=0",
             str(files[scanned.video_id][0])], capture_output=True, check=True, text=True,
        ).stdout.strip().split(",")  # fmt: skip
        videos.append({"batch": "b", "video_id": scanned.video_id, "width": int(size[0]), "height": int(size[1])})
        clips += [{"batch": "b", **row} for row in scanned.clips]
    lake.commit(
        Write("clips.clips", "bench"),
        [
            Append("videos.raw_videos", lake.to_arrow("videos.raw_videos", videos), ("video_id",)),
            Append("clips.clips", lake.to_arrow("clips.clips", clips), ("clip_id",)),
        ],
    )


def recall(videos: Sequence[Path], seconds: float, folder: Path) -> None:
    """Print by kind of copy how many are found to be copies of their piece, and how many matches are of other pieces.

    Pieces of one video are different footage, also where one shot goes on from one to the next.
    """
    settings = Settings(home=folder / "home")
    lake = Lake(settings)
    files = write_copies(videos, seconds, folder)
    store_scans(lake, files, folder)
    result = match_batches(lake, settings.duplicates)
    lake.commit(result.write("clips.matches", "bench", None, 0, []), result.changes)
    for model in discover():
        if model.table in ("staging.stg_matches", "staging.stg_clips"):
            built = build_model(lake, model, settings)
            lake.commit(built.write(model.table, "bench", None, 0, []), built.changes)
    found: dict[str, set[str]] = defaultdict(set)
    for row in lake.rows(
        "select distinct video_id, like_video_id from staging.stg_matches where kind = 'clip' and (video_is_inside or clip_is_inside)"
    ):
        found[row["video_id"]].add(row["like_video_id"])
        found[row["like_video_id"]].add(row["video_id"])
    pieces = [name for name, (_, kind) in files.items() if not kind]
    print(f"{len(pieces)} pieces of {seconds:g} s from {len(videos)} videos, {len(files) - len(pieces)} copies")
    num_right = sum(_piece(one) == _piece(other) for one, others in found.items() for other in others)
    num_all = sum(len(others) for others in found.values())
    num_found = 0
    for kind in KINDS:
        copies = [name for name, (_, of) in files.items() if of == kind]
        hits = [name for name in copies if _piece(name) in found[name]]
        num_found += len(hits)
        print(f"  {kind:34} {len(hits):4} of {len(copies):4}  {', '.join(sorted(set(copies) - set(hits))[:4])}")
    print(
        f"recall {num_found / (len(files) - len(pieces)):.4f}, precision {num_right / max(1, num_all):.4f} of {num_all // 2} pairs"
    )
    wrong = {
        (one, other)
        for one, others in found.items()
        for other in others
        if one < other and _piece(one) != _piece(other)
    }
    for row in lake.rows(_WRONG):
        print(f"  wrong: {row}")
    lake.close()


_WRONG = """
select clip_id, like_clip_id, num_frames, num_hashed, num_frames_of_video, num_hashed_of_video, round(distance_bits) as bits,
    round(offset_seconds, 2) as offset_seconds
from staging.stg_matches
where kind = 'clip' and (video_is_inside or clip_is_inside) and clip_id < like_clip_id
    and split_part(video_id, '.copy', 1) <> split_part(like_video_id, '.copy', 1)
order by num_frames desc, bits limit 20
"""


def _piece(name: str) -> str:
    return name.partition(".copy")[0]

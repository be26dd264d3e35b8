"""Copies of pieces of real footage through the scan, the look-up and the SQL models."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from internvid_assets.clips import ScanOptions, scan_video
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
    """Print by kind of copy how many are found to be copies of their piece, and how many matches are of other footage.

    Two pieces of one continuing shot are other footage too, but hardly to be told apart: they are counted by themselves.
    """
    settings = Settings(home=folder / "home")
    lake = Lake(settings)
    files = write_copies(videos, seconds, folder)
    store_scans(lake, files, folder)
    with match_batches(lake, settings.duplicates) as result:
        lake.commit(result.write("clips.matches", "bench", None, 0, []), result.changes)
    for model in discover():
        if model.table in ("staging.stg_matches", "staging.stg_clips"):
            built = build_model(lake, model, settings)
            lake.commit(built.write(model.table, "bench", None, 0, []), built.changes)
    rows = lake.rows(_ALIKE)
    unrelated = lake.rows(_UNRELATED)[0]
    lake.close()
    found = {(row["video_id"], row["like_video_id"]) for row in rows}
    found |= {(other, one) for one, other in found}
    pieces = [name for name, (_, kind) in files.items() if not kind]
    print(f"{len(pieces)} pieces of {seconds:g} s from {len(videos)} videos, {len(files) - len(pieces)} copies")
    num_found = 0
    for kind in KINDS:
        copies = [name for name, (_, of) in files.items() if of == kind]
        missed = [name for name in copies if (name, _piece(name)) not in found]
        num_found += len(copies) - len(missed)
        print(f"  {kind:34} {len(copies) - len(missed):4} of {len(copies):4}  {' '.join(missed[:4])}")
    print(f"unrelated frames: {unrelated['num']} pairs of different videos differ in {unrelated['least']} bits or more")
    print(f"recall {num_found / (len(files) - len(pieces)):.4f}")
    _print_precision({tuple(sorted(pair)) for pair in found}, shared_shots(videos, seconds))


_ALIKE = """
select distinct video_id, like_video_id from staging.stg_matches
where kind = 'clip' and (video_is_inside or clip_is_inside)
"""


_UNRELATED = """
with places as (
    select split_part(video_id, '.', 1) as video, frame_hashes, frame_hash_details, unnest(range(len(frame_hashes))) as place
    from clips.clips where not contains(video_id, '.copy')
),
words as (
    select video, place % 3 as crop, list_prepend(frame_hashes[place + 1], frame_hash_details[3 * place + 1 : 3 * place + 3]) as words
    from places
)
select count(*) as num, min(list_sum(list_transform(list_zip(one.words, other.words), lambda w: bit_count(xor(w[1], w[2])))))::integer as least
from words as one inner join words as other on one.video < other.video and (one.crop = 0 or other.crop = 0)
"""


def _print_precision(found: set[tuple[str, ...]], continued: set[tuple[str, str]]) -> None:
    places = [(_piece(one), _piece(other)) for one, other in found]
    wrong = [pair for pair in places if pair[0] != pair[1]]
    in_one_shot = [pair for pair in wrong if pair in continued or pair[::-1] in continued]
    others = sorted(set(wrong) - set(in_one_shot))
    num_right, num_others = len(places) - len(wrong), len(wrong) - len(in_one_shot)
    print(
        f"precision {num_right / max(1, num_right + num_others):.4f} of {num_right + num_others} pairs; "
        f"{len(in_one_shot)} more are of different seconds of one shot; wrong: {others[:5]}"
    )


def shared_shots(videos: Sequence[Path], seconds: float) -> set[tuple[str, str]]:
    """Pairs of pieces that show the same shot, each at least a tenth of a second of it."""
    pairs = set()
    for video in videos:
        count = int(_seconds(video) / seconds)
        for shot in scan_video(video).clips:
            within = [
                f"{video.stem}.{n}"
                for n in range(count)
                if min(shot.end_seconds, (n + 1) * seconds) - max(shot.start_seconds, n * seconds) >= 0.1
            ]
            pairs |= {(one, other) for one in within for other in within if one < other}
    return pairs


def _piece(name: str) -> str:
    return name.partition(".copy")[0]

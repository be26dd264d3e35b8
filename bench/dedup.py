"""Near duplicates: are copies found, are others left alone, and what does a lake of millions take?

python -m bench.dedup scale [--videos 7000000] [--clips 10000000] [--folder DIR]
python -m bench.dedup recall VIDEO… [--seconds 6]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

from bench.dedup_recall import recall
from internvid_assets.clips.matches import match_batches
from internvid_assets.lake import Lake
from internvid_assets.lake.models import discover
from internvid_assets.settings import LakeSettings, Settings
from internvid_assets.subsets.build import build_model

_COPIED = 20
"""One clip of so many is a copy of an earlier one."""
_INTRO = 200
"""One clip of so many shows one of 100 intros, which a thousand videos share at the greatest scale."""
_VERDICTS = (
    "staging.stg_matches",
    "staging.stg_clips",
    "intermediate.int_duplicate_clips",
    "intermediate.int_near_duplicates",
)
_DRAWN = "hash((({clip} * 64 + place) * 4 + {word}) * 8 + {salt})"
_FLIPPED = " & ".join(_DRAWN.format(clip="clip", word="{word}", salt=salt) for salt in range(1, 5))
"""A sixteenth of the bits: what re-encoding and resizing changed of real footage."""


def fill(lake: Lake, num_videos: int, num_clips: int) -> None:
    """Videos and clips with drawn hashes, three to seven frames a clip, with planted copies and shared intros."""
    run = lake.connection.execute
    run(
        "insert into videos.raw_videos by name select format('batch_{:06d}', i // 100000) as batch, format('{:016x}', i) as "
        f"video_id, '/videos/' || i as source_uri, 640 as width, 360 as height from range({num_videos}) as t(i)"
    )
    shown = _DRAWN.format(clip="shown", word="{word}", salt=0)
    word = f"case when clip = shown then {shown} else xor({shown}, {_FLIPPED}) end"
    words = ", ".join(word.format(word=n) for n in range(1, 4))
    run(
        f"""
        insert into clips.clips by name
        with drawn as (
            select i as clip, i % {num_videos} as video,
                case when i % {_INTRO} = 7 then (hash(i) % 100)::bigint when i % {_COPIED} = 1 then i // 2 else i end as shown
            from range({num_clips}) as t(i)
        ),
        sized as (select *, 3 + (hash(shown) % 5)::integer as num_frames from drawn)
        select format('batch_{{:06d}}', video // 100000) as batch, format('{{:016x}}', video) as video_id,
            format('{{:016x}}_{{:08d}}_{{:08d}}', video, clip // {num_videos} * 5000, clip // {num_videos} * 5000 + 5000) as clip_id,
            0.0 as start_seconds, 5.0 as end_seconds, (clip // {num_videos})::integer as clip_index,
            list_transform(range(num_frames), lambda n: n * 0.7) as hash_seconds,
            list_transform(range(num_frames * 3), lambda place: {word.format(word=0)}) as frame_hashes,
            flatten(list_transform(range(num_frames * 3), lambda place: [{words}])) as frame_hash_details
        from sized
        """
    )


def _look_up(lake: Lake, settings: Settings) -> str:
    with match_batches(lake, settings.duplicates) as result:
        lake.commit(result.write("clips.matches", "bench", None, 0, []), result.changes)
    return f"{result.num_out} matches, {result.metadata['clips_looked_up_now']} clips looked up"


def _judge(lake: Lake, settings: Settings) -> str:
    """The SQL models that say which clips and videos are copies of which."""
    models = {model.table: model for model in discover()}
    for table in _VERDICTS:
        built = build_model(lake, models[table], settings)
        lake.commit(built.write(table, "bench", None, 0, []), built.changes)
    return ", ".join(f"{lake.value(f'select count(*) from {table}')} {table}" for table in _VERDICTS)


def _measured(settings: Settings, work: Callable[[Lake, Settings], str], results) -> None:
    """Some work in a process of its own: wall and CPU seconds, its peak memory in GiB, and what it says."""
    lake, began = Lake(settings), time.monotonic()
    said = work(lake, settings)
    status = Path("/proc/self/status").read_text()
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    results.put((time.monotonic() - began, time.process_time(), peak / 2**20, said))
    lake.close()


_PLANTED = """
with drawn as (select i, i % {videos} as video, i // 2 as shown from range({clips}) as t(i) where i % {copied} = 1 and i % {intro} <> 7),
named as (
    select format('{{:016x}}_{{:08d}}_{{:08d}}', video, i // {videos} * 5000, i // {videos} * 5000 + 5000) as copy,
        format('{{:016x}}_{{:08d}}_{{:08d}}', shown % {videos}, shown // {videos} * 5000, shown // {videos} * 5000 + 5000) as original
    from drawn where video <> shown % {videos} and shown % {intro} <> 7 and shown % {copied} <> 1
),
found as (
    select clip_id as one, like_clip_id as other from clips.matches union all select like_clip_id, clip_id from clips.matches
)
select count(*) as planted, count(found.one) as found
from named left join found on named.copy = found.one and named.original = found.other
"""


def scale(num_videos: int, num_clips: int, folder: Path) -> None:
    """Fill a lake, look everything up in a fresh process, judge, look again with nothing new, then with one new batch."""
    settings = Settings(home=folder, lake=LakeSettings(memory_limit_mib=4096))
    lake, began = Lake(settings), time.monotonic()
    fill(lake, num_videos, num_clips)
    lake.close()
    print(f"{num_videos} videos, {num_clips} clips: made in {time.monotonic() - began:.0f} s", flush=True)
    measure_passes(settings, num_videos, num_clips)


def measure_passes(settings: Settings, num_videos: int, num_clips: int) -> None:
    """Print what the look-ups of a filled lake take and find."""
    lake, context = Lake(settings), get_context("spawn")
    passes = {"everything": _look_up, "verdicts": _judge, "nothing new": _look_up, "one new batch": _look_up}
    for name, work in passes.items():
        if name == "one new batch":
            lake.connection.execute("delete from clips.compared where source = 'batch_000000'")
            lake.close()
        results = context.Queue()
        process = context.Process(target=_measured, args=(settings, work, results))
        process.start()
        seconds, cpu_seconds, gib, said = results.get()
        process.join()
        print(f"{name}: {seconds:.0f} s ({cpu_seconds:.0f} s of CPU), peak {gib:.2f} GiB, {said}", flush=True)
        if name == "everything":
            asked = {"videos": num_videos, "clips": num_clips, "copied": _COPIED, "intro": _INTRO}
            row = lake.rows(_PLANTED.format(**asked))[0]
            print(
                f"planted copies found: {row['found']} of {row['planted']} ({row['found'] / row['planted']:.4f})",
                flush=True,
            )
            lake.close()


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    at_scale = commands.add_parser("scale")
    at_scale.add_argument("--videos", type=int, default=7_000_000)
    at_scale.add_argument("--clips", type=int, default=10_000_000)
    at_scale.add_argument(
        "--folder", type=Path, help="an existing folder with room for some 25 GB; default: a temporary one"
    )
    of_copies = commands.add_parser("recall")
    of_copies.add_argument("videos", type=Path, nargs="+")
    of_copies.add_argument("--seconds", type=float, default=6.0, help="length of the pieces that are copied")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=getattr(given, "folder", None)) as folder:
        if given.command == "scale":
            scale(given.videos, given.clips, Path(folder))
        else:
            recall(given.videos, given.seconds, Path(folder))


if __name__ == "__main__":
    main()

"""What many writers lose or double, and what a takedown and the questions of lineage cost on a large lake.

    python -m bench.lake writers [--processes 8] [--commits 200]           PostgreSQL and S3
    python -m bench.lake writers --embedded --processes 2                  SQLite and a folder
    python -m bench.lake questions [--clips 1000000] [--videos 33333]      seconds of taking a video down, of `lineage`, `why`, `diff`
    python -m bench.lake questions --take 100                              of a hundred at once

`questions` fills the embedded lake by SQL, in batches of 60,000 clips; there are no objects.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from internvid_assets.lake import Append, CreateAs, Lake, Write
from internvid_assets.lake.diff import diff
from internvid_assets.lake.lineage import explain
from internvid_assets.lake.models import discover
from internvid_assets.lake.why import why
from internvid_assets.release.takedown import carry_out, make_plan
from internvid_assets.settings import Settings
from internvid_assets.store import open_store
from tests.servers import cluster, postgres_server, s3_server

_SCORERS = {"similarity": 2, "caption_loops": 2, "aesthetic": 0, "overlay_text": 0, "nsfw": 0}


def fill(lake: Lake, num_clips: int, num_videos: int) -> None:
    """A lake of `num_clips` clips, each with texts of two versions and seven scores, and every SQL model.

    Clips are shared out evenly; clip i is of video i * videos // clips.
    """
    run = lake.connection.execute
    given = (
        (
            "(select format('batch_{:06d}', i // 60000) as batch, format('{}_{:08d}_{:08d}', video, n * 5000, n * 5000 + 5000) "
            "as clip_id, i, n, hash(i) % 1000 / 1000.0 as share from (select i, md5((i * $videos // $clips)::varchar)[:16] as "
            "video, i - ((i * $videos // $clips) * $clips + $videos - 1) // $videos as n from range($clips) as t(i)))"
        )
        .replace("$videos", f"{num_videos}::bigint")
        .replace("$clips", f"{num_clips}::bigint")
    )
    run(
        "insert into videos.raw_videos by name select distinct batch, clip_id[:16] as video_id, '/videos/' || clip_id[:16] "
        f"|| '.mp4' as source_uri, sha256(clip_id[:16]) as content_sha256, 640 as width, 360 as height, "
        f"150.0 as duration_seconds from {given}"
    )
    run(
        "insert into clips.clips by name select batch, clip_id, clip_id[:16] as video_id, n as clip_index, "
        "n * 5.0 as start_seconds, n * 5.0 + 5 as end_seconds, share as motion_mean, "
        f"hash(clip_id) as perceptual_hash, 'frames/' || clip_id[:16] || '/a.tar' as frame_pack_key from {given}"
    )
    for captioner_version in ("v1", "v2"):
        run(
            "insert into captions.captions by name select batch, clip_id, 'embedded' as captioner, $version as "
            f"captioner_version, 'a man rides a horse across field ' || i as text, 8 as num_words from {given}",
            {"version": captioner_version},
        )
    for scorer, num_versions in _SCORERS.items():
        for version in ("v1", "v2") if num_versions else (None,):
            run(
                "insert into scores.clip_scores by name select batch, clip_id, case when $version is not null then "
                "'embedded' end as captioner, $version as captioner_version, $scorer as scorer, 'embedded' as "
                f"scorer_backend, 's1' as scorer_version, share / 3 as value from {given}",
                {"version": version, "scorer": scorer},
            )
    run(
        "insert into release.shard_samples by name select 'set1' as shards_id, 'shards/set1/train-' || i // 256 as "
        f"shard_key, clip_id, clip_id[:16] as video_id from {given}"
    )
    for model in discover():
        if model.name == "int_near_duplicates":  # its join over drawn hashes says nothing of a real lake
            select = "select video_id, video_id as duplicate_of, 1 as num_matching_clips, 1 as num_clips from staging.stg_clips limit 0"
        else:
            select = model.sql
        lake.commit(Write(model.table, "bench"), [CreateAs(model.table, select)])


@contextmanager
def timed(name: str) -> Iterator[None]:
    """Print how long the block took."""
    began = time.monotonic()
    yield
    print(f"{name:40} {time.monotonic() - began:8.2f} s", flush=True)


def questions(num_clips: int, num_videos: int, num_taken: int) -> None:
    """Print the seconds of each question, and of a takedown with its purge."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder))
        lake, store = Lake(settings), open_store(settings)
        with timed(f"a lake of {num_clips} clips of {num_videos} videos"):
            fill(lake, num_clips, num_videos)
        videos = [hashlib.md5(str(num_videos // 2 + n).encode()).hexdigest()[:16] for n in range(num_taken)]
        video = videos[0]
        clip = f"{video}_00000000_00005000"
        for name, answer in (("lineage of a clip", explain), ("lineage of a video", explain), ("why", why)):
            with timed(name):
                assert answer(lake, video if name.endswith("video") else clip)
        with timed("diff of two subsets"):
            diff(lake, "internvid_10m", "internvid_10m_flt")
        with timed("takedown: plan"):
            plan = make_plan(lake, store, videos, "bench")
        with timed("takedown: carry out"):
            receipt = carry_out(lake, store, plan, settings.cache_folder, lambda runs: None)
        print(receipt["rows_deleted"], receipt["purge"])
        lake.close()


_OWN, _SHARED, _PARTITIONS = 20, 5, 16


def write_many(settings: Settings, writer: int, num_commits: int) -> None:
    """Each commit appends rows of this writer's own and rows that every writer appends, to one of some partitions."""
    lake = Lake(settings)
    for number in range(num_commits):
        batch = f"batch_{number % _PARTITIONS:06d}"
        own = [f"w{writer}-{number}-{row}" for row in range(_OWN)]
        shared = [f"all-{number}-{row}" for row in range(_SHARED)]
        rows = [
            {"batch": batch, "clip_id": clip, "captioner": "bench", "captioner_version": "1", "text": clip}
            for clip in own + shared
        ]
        append = Append(
            "captions.captions", lake.to_arrow("captions.captions", rows), ("batch", "clip_id", "captioner_version")
        )
        lake.commit(Write("captions.captions", f"w{writer}", batch, num_in=len(rows), num_out=len(rows)), [append])
    lake.close()


def writers(settings: Settings, num_processes: int, num_commits: int) -> None:
    """Print how many commits a second the processes made together, and how many rows are there, lost and doubled."""
    lake = Lake(settings)
    lake.snapshot_id()  # makes the tables
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=write_many, args=(settings, n, num_commits)) for n in range(num_processes)]
    began = time.monotonic()
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    seconds = time.monotonic() - began
    failed = [process.exitcode for process in processes if process.exitcode]
    held = lake.rows("select count(*) as n, count(distinct clip_id) as num_distinct from captions.captions")[0]
    wanted = num_processes * num_commits * _OWN + num_commits * _SHARED
    told = lake.value("select count(*) from lineage.materializations")
    lake.close()
    print(
        f"{num_processes} writers x {num_commits} commits: {num_processes * num_commits / seconds:.1f} commits/s, {len(failed)} "
        f"failed; rows {held['n']}, lost {wanted - held['num_distinct']}, doubled {held['n'] - held['num_distinct']}; "
        f"lineage rows {told}"
    )


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["writers", "questions"])
    parser.add_argument("--clips", type=int, default=1_000_000)
    parser.add_argument("--videos", type=int, default=33_333)
    parser.add_argument("--take", type=int, default=1, help="how many videos are taken down at once")
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--commits", type=int, default=200)
    parser.add_argument("--embedded", action="store_true")
    given = parser.parse_args()
    if given.what == "questions":
        questions(given.clips, given.videos, given.take)
        return
    with tempfile.TemporaryDirectory() as name, ExitStack() as started:
        folder = Path(name)
        settings = Settings(home=folder / "home")
        if not given.embedded:
            postgres = started.enter_context(postgres_server())
            settings = cluster(postgres, started.enter_context(s3_server(folder)), "bench", folder / "home")
        writers(settings, given.processes, given.commits)


if __name__ == "__main__":
    main()

"""What a takedown and the questions of lineage cost on a large lake.

    python -m bench.takedown [--clips 1000000] [--videos 1]      seconds of taking videos down, and of `lineage`, `why` and `diff`

The lake is the embedded one: rows are made by SQL, there are no objects. Batches of 60,000 clips, 30 clips a video.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from internvid_assets.lake import CreateAs, Lake, Write
from internvid_assets.lake.diff import diff
from internvid_assets.lake.lineage import explain
from internvid_assets.lake.models import discover
from internvid_assets.lake.why import why
from internvid_assets.release.takedown import carry_out, make_plan
from internvid_assets.settings import Settings
from internvid_assets.store import open_store

_CLIP = "format('{}_{:08d}_{:08d}', md5((i // 30)::varchar)[:16], (i % 30) * 5000, (i % 30) * 5000 + 5000)"
_SCORERS = {"similarity": 2, "caption_loops": 2, "aesthetic": 0, "overlay_text": 0, "nsfw": 0}


def fill(lake: Lake, num_clips: int) -> None:
    """A lake of `num_clips` clips, each with texts of two versions and seven scores, and every SQL model."""
    run = lake.connection.execute
    given = (
        f"(select format('batch_{{:06d}}', i // 60000) as batch, {_CLIP} as clip_id, i, hash(i) % 1000 / 1000.0 as share "
        f"from range({num_clips}) as t(i))"
    )
    run(
        "insert into videos.raw_videos by name select distinct batch, clip_id[:16] as video_id, '/videos/' || clip_id[:16] "
        f"|| '.mp4' as source_uri, sha256(clip_id[:16]) as content_sha256, 640 as width, 360 as height, "
        f"150.0 as duration_seconds from {given}"
    )
    run(
        "insert into clips.clips by name select batch, clip_id, clip_id[:16] as video_id, i % 30 as clip_index, "
        "(i % 30) * 5.0 as start_seconds, (i % 30) * 5.0 + 5 as end_seconds, share as motion_mean, "
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


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--clips", type=int, default=1_000_000)
    parser.add_argument("--videos", type=int, default=1, help="how many are taken down at once")
    given = parser.parse_args()
    num_clips = given.clips
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder))
        lake, store = Lake(settings), open_store(settings)
        with timed(f"a lake of {num_clips} clips"):
            fill(lake, num_clips)
        videos = [hashlib.md5(str(num_clips // 60 + n).encode()).hexdigest()[:16] for n in range(given.videos)]
        video = videos[0]
        clip = f"{video}_00000000_00005000"
        for name, answer in (("lineage of a clip", explain), ("lineage of a video", explain), ("why", why)):
            with timed(name):
                answer(lake, video if name.endswith("video") else clip)
        with timed("diff of two subsets"):
            diff(lake, "internvid_10m", "internvid_10m_flt")
        with timed("takedown: plan"):
            plan = make_plan(lake, store, videos, "bench")
        with timed("takedown: carry out"):
            receipt = carry_out(lake, store, plan, settings.cache_folder, lambda runs: None)
        print(receipt["rows_deleted"], receipt["purge"])
        lake.close()


if __name__ == "__main__":
    main()

"""What would be made again, why and for how long: from the writes of a lake, and the assets as they now are."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from internvid_assets.lake import Append, Lake, Write
from internvid_assets.lake.stale import Asset, Stale, lines, stale
from internvid_assets.settings import Settings
from tests.captions.homes import put

VIDEOS = Asset("videos.raw_videos", "1", "gate", (), True)
CLIPS = Asset("clips.clips", "1", "cut", ("videos.raw_videos",), True)
TEXTS = Asset("captions.captions", "1", None, ("clips.clips",), True)
PAIRS = Asset("subsets.filtered_pairs", "1", "parameters", ("captions.captions",), False)
ASSETS = [VIDEOS, CLIPS, TEXTS, PAIRS]


def make(lake: Lake, asset: Asset, batch: str | None, seconds: float = 1.0, num_in: int = 10) -> None:
    """Write it as it now is, with a change of content."""
    row = {"batch": batch, "stage": asset.table, "item_id": str(lake.snapshot_id())}
    new = Append("videos.quarantine", lake.to_arrow("videos.quarantine", [row]), ("item_id",))
    lake.commit(
        Write(asset.table, "run", batch, code_version=asset.code_version, config_hash=asset.config_hash or "",
              num_in=num_in, seconds=seconds), [new]
    )  # fmt: skip


@pytest.fixture
def lake(embedded_settings: Settings) -> Iterator[Lake]:
    """Two batches, made in order of the data; the texts took 2 s for 10 clips."""
    lake = Lake(embedded_settings)
    put(lake, "videos.sources", [{"batch": batch, "source_uri": f"{batch}.mp4"} for batch in ("b0", "b1")])
    for batch in ("b0", "b1"):
        for asset, seconds in ((VIDEOS, 0.0), (CLIPS, 0.0), (TEXTS, 0.0)):
            make(lake, asset, batch, seconds)
    make(lake, PAIRS, None, 0.0)
    yield lake
    lake.close()


def why(found: list[Stale]) -> dict[tuple[str, str | None], tuple[str, ...]]:
    return {(item.table, item.batch): item.reasons for item in found}


def test_what_is_current_is_not_told(lake: Lake) -> None:
    assert stale(lake, ASSETS) == [] and lines([]) == ["nothing: every table is current"]


def test_other_settings_reach_all_that_follows(lake: Lake) -> None:
    changed = Asset("clips.clips", "1", "another cut", ("videos.raw_videos",), True)
    assert why(stale(lake, [VIDEOS, changed, TEXTS, PAIRS])) == {
        ("clips.clips", "b0"): ("other settings",),
        ("clips.clips", "b1"): ("other settings",),
        ("captions.captions", "b0"): ("clips.clips would be made again",),
        ("captions.captions", "b1"): ("clips.clips would be made again",),
        ("subsets.filtered_pairs", None): ("captions.captions would be made again",),
    }


def test_a_batch_that_changed_makes_its_own_followers_stale(lake: Lake) -> None:
    make(lake, CLIPS, "b1", 0.0)
    assert why(stale(lake, ASSETS)) == {
        ("captions.captions", "b1"): ("clips.clips changed since",),
        ("subsets.filtered_pairs", None): ("captions.captions would be made again",),
    }


def test_a_write_that_changed_nothing_makes_nothing_stale(lake: Lake) -> None:
    lake.commit(Write("clips.clips", "run", "b1", code_version="1", config_hash="cut"), [])
    assert stale(lake, ASSETS) == []


def test_other_code_and_a_batch_that_was_never_made(lake: Lake) -> None:
    put(lake, "videos.sources", [{"batch": "b2", "source_uri": "c.mp4"}])
    found = why(stale(lake, [VIDEOS, Asset("clips.clips", "2", "cut", ("videos.raw_videos",), True)]))
    assert found == {
        ("videos.raw_videos", "b2"): ("never made",),
        ("clips.clips", "b0"): ("other code",),
        ("clips.clips", "b1"): ("other code",),
        ("clips.clips", "b2"): ("never made",),
    }


def test_of_tables_that_only_grow_what_is_lacking_counts(lake: Lake) -> None:
    """Ten clips took two seconds, so four take 0.8; a batch that lacks nothing is current whatever the code."""
    make(lake, TEXTS, "b0", 2.0, num_in=10)
    other = Asset("captions.captions", "2", None, ("clips.clips",), True)
    missing = {("captions.captions", "b0"): 4, ("captions.captions", "b1"): 0}
    [texts] = stale(lake, [other], missing)
    assert (texts.table, texts.batch, texts.num_items) == ("captions.captions", "b0", 4)
    assert texts.reasons == ("4 items lack a row by the current versions",)
    commits = lake.rows(
        "select sum(seconds) as s, sum(num_in)::bigint as n from lineage.materializations where asset = 'captions.captions'"
    )[0]
    assert texts.seconds == pytest.approx(4 * commits["s"] / commits["n"])


def test_the_times_are_those_of_the_last_writes(lake: Lake) -> None:
    make(lake, PAIRS, None, 6.0)
    [pairs] = stale(lake, [Asset("subsets.filtered_pairs", "1", "others", (), False)])
    held = lake.rows("select seconds from lineage.materializations where asset = 'subsets.filtered_pairs'")
    assert pairs.seconds == pytest.approx(sum(row["seconds"] for row in held) / len(held))
    never = Asset("viclip.viclip_checkpoint", "1", None, ("subsets.filtered_pairs",), False)
    told = lines(stale(lake, [Asset("subsets.filtered_pairs", "1", "others", (), False), never]))
    assert "unmeasured" in told[2] and told[-1].endswith("without viclip.viclip_checkpoint, which were never made")

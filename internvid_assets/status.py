"""The table of stages: rows in, out, dropped by reason, seconds; and where things are."""

from __future__ import annotations

from typing import Any

from internvid_assets.lake import Lake
from internvid_assets.settings import Settings
from internvid_assets.store import ObjectStore, open_store
from internvid_assets.viclip.newest import newest_report
from internvid_assets.videos.ledger_queries import summary_lines

_LATEST = """
with latest as (
    select * from lineage.materializations
    qualify row_number() over (partition by asset, partition_key order by changed desc, written_at desc) = 1
), dropped as (
    select asset, string_agg(reason || ' ' || num, ', ' order by num desc, reason) as reasons from (
        select asset, entry.key as reason, sum(entry.value) as num
        from (select asset, unnest(map_entries(drops)) as entry from latest) group by all
    ) group by asset
)
select asset, sum(num_in)::bigint as num_in, sum(num_out)::bigint as num_out, coalesce(max(reasons), '') as reasons,
    sum(seconds) as seconds, min(written_at) as first_written
from latest left join dropped using (asset) group by asset order by first_written
"""


def stages(lake: Lake) -> list[dict[str, Any]]:
    """One row a stage, from the newest content-changing write of every partition, in the order they were first made."""
    return lake.rows(_LATEST)


def print_status(lake: Lake, settings: Settings) -> None:
    """Print the table of stages and where things are."""
    print(f"{'stage':<26}{'in':>9}{'out':>9}{'seconds':>10}  dropped")
    for row in stages(lake):
        print(f"{row['asset']:<26}{row['num_in']:>9}{row['num_out']:>9}{row['seconds']:>10.1f}  {row['reasons']}")
    home = settings.home.resolve()
    print("\n".join(["", *summary_lines(lake)]))
    print(f"home     {home}\ntables   {settings.catalog_uri}\nmedia    {settings.media_uri}")
    for name, uri in _published(lake, open_store(settings)):
        print(f"{name:<8} {uri}")
    print(f"UI       make dev HOME_FOLDER={home}")


def _published(lake: Lake, store: ObjectStore) -> list[tuple[str, str]]:
    """Newest release, newest shards and newest report, where there are any."""
    queries = {
        "release": "select manifest_key as key from release.dataset_release order by snapshot_id desc limit 1",
        "shards": "select shard_key as key from release.training_shards order by snapshot_id desc, shard_key limit 1",
    }
    folders = {name: rows[0]["key"].rpartition("/")[0] for name, query in queries.items() if (rows := lake.rows(query))}
    if report := newest_report(lake):
        folders["report"] = f"{report}/report.html"
    return [(name, store.uri(key)) for name, key in folders.items()]

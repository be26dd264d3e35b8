"""Which report is the newest."""

from __future__ import annotations

from internvid_assets.lake import Lake


def newest_report(lake: Lake) -> str | None:
    """Folder key of the report of the checkpoint whose shards were cut last; None when nothing was evaluated."""
    rows = lake.rows(
        "select e.report_key from viclip.viclip_evaluation as e join viclip.viclip_checkpoint as c using (checkpoint_id) "
        "join release.training_shards as s using (shards_id) where e.report_key like 'reports/%' order by s.snapshot_id desc, e.report_key desc limit 1"
    )
    return rows[0]["report_key"] if rows else None

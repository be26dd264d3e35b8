"""Deleted rows leave the disk: no snapshot, data file or leftover of a killed writer holds them any more."""

from __future__ import annotations

import contextlib
import sqlite3

from internvid_assets.lake.catalog import Lake

_BUSY_SECONDS = 60


def purge(lake: Lake) -> dict[str, int]:
    """Rewrite the data files that have deletions, forget every snapshot but the newest, delete all that none needs.

    Time travel ends here for all tables. Files that no snapshot ever knew go when they are older than an hour: a writer
    at work may own a younger one, so those are only counted, as `young_orphans`.

    Returns: how many files or snapshots each step touched.
    """
    steps = {
        "inlined_flushed": "call ducklake_flush_inlined_data('lake')",
        "files_rewritten": "call ducklake_rewrite_data_files('lake', delete_threshold => 0.0)",
        "snapshots_forgotten": "call ducklake_expire_snapshots('lake', older_than => now())",
        "files_deleted": "call ducklake_cleanup_old_files('lake', cleanup_all => true)",
        "orphans_deleted": "call ducklake_delete_orphaned_files('lake', older_than => now() - interval '1 hour')",
        "young_orphans": "call ducklake_delete_orphaned_files('lake', cleanup_all => true, dry_run => true)",
    }
    touched = {name: lake.query(step).num_rows for name, step in steps.items()}
    if lake.settings.catalog_uri.startswith("sqlite:"):
        _vacuum(lake.settings.catalog_uri.removeprefix("sqlite:"))
    return touched


def _vacuum(path: str) -> None:
    """Write the catalog file anew: its free pages keep what column statistics said of deleted rows."""
    with contextlib.closing(sqlite3.connect(path, timeout=_BUSY_SECONDS)) as catalog:
        catalog.execute("vacuum")

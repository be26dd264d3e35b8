"""The one assembly point: every slice, in the order data flows."""

from __future__ import annotations

import dagster as dg

from internvid_assets import automation
from internvid_assets.lake import Lake
from internvid_assets.settings import Settings
from internvid_assets.store import open_store
from internvid_assets.videos import assets as videos, checks as videos_checks

settings = Settings()

SLICES = [videos]
CHECKS = [videos_checks]

defs = dg.Definitions(
    assets=[asset for part in SLICES for asset in part.assets],
    asset_checks=[check for part in CHECKS for check in part.checks],
    jobs=automation.jobs,
    sensors=automation.sensors,
    schedules=automation.schedules,
    resources={"settings": settings, "lake": Lake(settings), "store": open_store(settings)},
)

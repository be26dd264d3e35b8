"""The one assembly point: every slice, in the order data flows."""

import dagster as dg

from internvid_assets import automation
from internvid_assets.captions import assets as captions
from internvid_assets.captions import checks as captions_checks
from internvid_assets.clips import assets as clips
from internvid_assets.clips import checks as clips_checks
from internvid_assets.executor import executor, shared_resources
from internvid_assets.lake import Lake
from internvid_assets.release import assets as release
from internvid_assets.release import checks as release_checks
from internvid_assets.scores import assets as scores
from internvid_assets.scores import checks as scores_checks
from internvid_assets.settings import Settings
from internvid_assets.store import open_store
from internvid_assets.subsets import assets as subsets
from internvid_assets.subsets import checks as subsets_checks
from internvid_assets.viclip import assets as viclip
from internvid_assets.viclip import checks as viclip_checks
from internvid_assets.videos import assets as videos
from internvid_assets.videos import checks as videos_checks

settings = Settings()

SLICES = [videos, clips, captions, scores, subsets, release, viclip]
CHECKS = [videos_checks, clips_checks, captions_checks, scores_checks, subsets_checks, release_checks, viclip_checks]

defs = dg.Definitions(
    assets=[asset for part in SLICES for asset in part.assets],
    asset_checks=[check for part in CHECKS for check in part.checks],
    jobs=automation.jobs,
    sensors=automation.sensors,
    schedules=automation.schedules(settings.execution.running_schedules),
    executor=executor(settings),
    resources={
        "settings": settings,
        "lake": Lake(settings),
        "store": open_store(settings),
        **shared_resources(settings),
    },
)

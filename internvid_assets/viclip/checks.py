"""Claims about trained models."""

import dagster as dg

from internvid_assets.lake import Lake
from internvid_assets.lake.assets import claim, table_key
from internvid_assets.store import ObjectStore
from internvid_assets.viclip.verify import torn_checkpoints


@dg.asset_check(asset=table_key("viclip.viclip_checkpoint"), blocking=True)
def checkpoints_have_their_hashes(
    lake: dg.ResourceParam[Lake], store: dg.ResourceParam[ObjectStore]
) -> dg.AssetCheckResult:
    """The weights in the store are those whose hash the table gives."""
    torn = torn_checkpoints(lake, store)
    return dg.AssetCheckResult(passed=not torn, metadata={"torn_checkpoints": torn[:5]})


@dg.asset_check(asset=table_key("viclip.viclip_checkpoint"))
def loss_is_below_chance(lake: dg.ResourceParam[Lake]) -> dg.AssetCheckResult:
    """Training ended under the loss of guessing: the log of its mean batch, and never above that of 64 candidates."""
    return claim(
        lake,
        "select checkpoint_id from viclip.viclip_checkpoint "
        "where not final_loss < ln(least(64, num_samples_seen / num_steps))",
        "untrained",
    )._replace(severity=dg.AssetCheckSeverity.WARN)


@dg.asset_check(asset=table_key("viclip.viclip_evaluation"), blocking=True)
def figures_are_shares_within_their_intervals(lake: dg.ResourceParam[Lake]) -> dg.AssetCheckResult:
    """Every value lies in its interval, and both in [0, 1]."""
    return claim(
        lake,
        "select metric from viclip.viclip_evaluation where not (0 <= low and low <= value and value <= high and high <= 1)",
        "impossible figures",
    )


checks = [checkpoints_have_their_hashes, loss_is_below_chance, figures_are_shares_within_their_intervals]

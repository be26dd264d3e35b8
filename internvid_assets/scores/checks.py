"""Claims about scores that would be wrong to filter by if false."""

import dagster as dg

from internvid_assets.lake import Lake
from internvid_assets.lake.assets import claim, table_key


@dg.asset_check(asset=table_key("scores.clip_scores"), blocking=True)
def scores_are_finite(lake: dg.ResourceParam[Lake]) -> dg.AssetCheckResult:
    """Every score is a number."""
    return claim(
        lake, "select clip_id from scores.clip_scores where value is null or not isfinite(value)", "bad scores"
    )


@dg.asset_check(asset=table_key("scores.clip_scores"), blocking=True)
def scores_lie_in_their_ranges(lake: dg.ResourceParam[Lake]) -> dg.AssetCheckResult:
    """Similarities and agreements are cosines, shares and probabilities lie in 0..1, aesthetic scores about 0..10."""
    return claim(
        lake,
        "select clip_id from scores.clip_scores where case "
        "when scorer in ('similarity', 'scale_agreement') then abs(value) > 1.0001 "
        "when scorer = 'aesthetic' and scorer_backend = 'embedded' then value not between 0 and 10 "
        "when scorer = 'aesthetic' then value not between -5 and 15 "  # a regression: a head of another CLIP is far off
        "else value not between 0 and 1 end",
        "out of range",
    )


checks = [scores_are_finite, scores_lie_in_their_ranges]

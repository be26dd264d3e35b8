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
def similarity_lies_in_its_range(lake: dg.ResourceParam[Lake]) -> dg.AssetCheckResult:
    """Similarities are cosines, aesthetic scores lie in 0..10, text shares in 0..1."""
    return claim(
        lake,
        "select clip_id from scores.clip_scores where (scorer = 'similarity' and abs(value) > 1.0001) "
        "or (scorer = 'aesthetic' and value not between 0 and 10) or (scorer = 'overlay_text' and value not between 0 and 1)",
        "out of range",
    )


checks = [scores_are_finite, similarity_lies_in_its_range]

"""Claims about captions that would poison a release if false."""

import dagster as dg

from internvid_assets.lake import Lake
from internvid_assets.lake.assets import claim, table_key

CAPTIONS = table_key("captions.captions")


@dg.asset_check(asset=CAPTIONS, blocking=True)
def captions_are_not_empty(lake: dg.ResourceParam[Lake]) -> dg.AssetCheckResult:
    """Every caption has at least one letter."""
    return claim(lake, "select clip_id from captions.captions where not regexp_matches(text, '[[:alpha:]]')", "empty")


@dg.asset_check(asset=CAPTIONS, blocking=True)
def one_caption_a_version(lake: dg.ResourceParam[Lake]) -> dg.AssetCheckResult:
    """No clip has two captions by one captioner version."""
    return claim(
        lake,
        "select clip_id from captions.captions group by clip_id, captioner, captioner_version having count(*) > 1",
        "doubled",
    )


@dg.asset_check(asset=CAPTIONS)
def no_caption_dominates(lake: dg.ResourceParam[Lake]) -> dg.AssetCheckResult:
    """No text serves more than a tenth of the clips, once there are a hundred of a version."""
    return claim(
        lake,
        "select text from captions.captions group by captioner_version, text having count(*) > 0.1 * (select "
        "greatest(count(*), 100) from captions.captions as every where every.captioner_version = "
        "captions.captioner_version)",
        "repeated texts",
    )


checks = [captions_are_not_empty, one_caption_a_version, no_caption_dominates]

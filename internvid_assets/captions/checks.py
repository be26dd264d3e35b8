"""Claims about captions that would poison a release if false."""

import dagster as dg

from internvid_assets.captions.recipe import load_recipe
from internvid_assets.lake import Lake
from internvid_assets.lake.assets import claim, table_key
from internvid_assets.settings import Settings

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
def captions_are_current(lake: dg.ResourceParam[Lake], settings: dg.ResourceParam[Settings]) -> dg.AssetCheckResult:
    """Every captioned clip has a caption by the current recipe; `recaption` works off those that lack one."""
    recipe = load_recipe(settings.captions)
    counts = lake.rows(
        "select count(distinct clip_id) as num_captioned, count(distinct clip_id) filter (captioner = $name and "
        "captioner_version = $version) as num_current from captions.captions",
        {"name": recipe.name, "version": recipe.version("merge")},
    )[0]
    num_stale = counts["num_captioned"] - counts["num_current"]
    return dg.AssetCheckResult(
        passed=num_stale == 0,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"num_stale": num_stale, "current_version": recipe.version("merge")},
    )


checks = [captions_are_not_empty, one_caption_a_version, captions_are_current]

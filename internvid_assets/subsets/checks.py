"""Claims about subsets that would publish a wrong dataset if false."""

import dagster as dg

from internvid_assets.lake import Lake
from internvid_assets.lake.assets import claim, table_key

SAMPLED = ("internvid_10m", "internvid_10m_div", "internvid_10m_flt", "internvid_18m_aes")


@dg.asset_check(asset=table_key("intermediate.int_pair_verdicts"), blocking=True)
def every_clip_has_one_verdict(lake: dg.ResourceParam[Lake]) -> dg.AssetCheckResult:
    """Each clip is kept or has a reason, exactly once."""
    return claim(
        lake,
        "select clip_id from clips.clips left join intermediate.int_pair_verdicts as verdicts using (clip_id) "
        "group by clip_id having count(verdicts.clip_id) <> 1",
        "wrong verdicts",
    )


def _subset_check(name: str) -> dg.AssetChecksDefinition:
    @dg.asset_check(asset=table_key(f"subsets.{name}"), name="pairs_come_from_the_pool_once", blocking=True)
    def check(lake: dg.ResourceParam[Lake]) -> dg.AssetCheckResult:
        """Every pair is in filtered_pairs, and none twice."""
        return claim(
            lake,
            f"select clip_id from subsets.{name} left join subsets.filtered_pairs as pool using (clip_id) "
            "group by clip_id having count(*) > 1 or count(pool.video_id) = 0",
            "stray pairs",
        )

    return check


checks = [every_clip_has_one_verdict, *(_subset_check(name) for name in SAMPLED)]

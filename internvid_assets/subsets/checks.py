"""Claims about subsets that would publish a wrong dataset if false."""
# No `from __future__ import annotations` here: Dagster reads the annotations.

from collections.abc import Iterator

import dagster as dg

from internvid_assets.captions.recipe import load_recipe
from internvid_assets.lake import Lake
from internvid_assets.lake.assets import claim, table_key
from internvid_assets.settings import Settings
from internvid_assets.subsets.trust import CLAIMS, Finding, captions_of_subset, captions_of_version, findings

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


def _specs(asset: dg.AssetKey, blocking: bool) -> list[dg.AssetCheckSpec]:
    return [dg.AssetCheckSpec(name, asset=asset, blocking=blocking, description=told) for name, told in CLAIMS.items()]


def _results(
    found: list[Finding], asset: dg.AssetKey, severity: dg.AssetCheckSeverity
) -> Iterator[dg.AssetCheckResult]:
    """One result a claim; a claim about no texts holds."""
    by_name = {finding.claim: finding for finding in found}
    for name in CLAIMS:
        finding = by_name.get(name)
        yield dg.AssetCheckResult(
            passed=finding is None or finding.passed,
            asset_key=asset,
            check_name=name,
            severity=severity,
            description=finding.told() if finding else "There are no texts.",
            metadata=_figures(finding) if finding else {"num_texts": 0},
        )


def _figures(finding: Finding) -> dict[str, float | int | list[str]]:
    told = {name: value for name in ("value", "low", "high") if (value := getattr(finding, name)) is not None}
    return told | {"limit": finding.limit, "num_texts": finding.num_texts, "examples": list(finding.examples)}


def _trust_checks(name: str) -> dg.AssetChecksDefinition:
    """The captions of a subset can be trusted: blocks its release."""
    asset = table_key(f"subsets.{name}")

    @dg.multi_asset_check(name=f"trust_{name}", specs=_specs(asset, blocking=True))
    def check(lake: dg.ResourceParam[Lake], settings: dg.ResourceParam[Settings]) -> Iterator[dg.AssetCheckResult]:
        found = findings(lake, captions_of_subset(name), settings.trust, settings.subsets.parameters)
        yield from _results(found, asset, dg.AssetCheckSeverity.ERROR)

    return check


_BEST = table_key("intermediate.best_captions")


@dg.multi_asset_check(name="trust_captioner", specs=_specs(_BEST, blocking=False))
def trust_captioner(
    lake: dg.ResourceParam[Lake], settings: dg.ResourceParam[Settings]
) -> Iterator[dg.AssetCheckResult]:
    """All texts of the current captioner version, what the filters drop included: a warning, since they do drop it."""
    version = load_recipe(settings.captions).version("merge")
    found = findings(lake, captions_of_version(version), settings.trust, settings.subsets.parameters)
    yield from _results(found, _BEST, dg.AssetCheckSeverity.WARN)


trust_checks = {name: _trust_checks(name) for name in SAMPLED}
"""By subset, for the job that releases it."""

checks = [
    every_clip_has_one_verdict,
    *(_subset_check(name) for name in SAMPLED),
    *trust_checks.values(),
    trust_captioner,
]

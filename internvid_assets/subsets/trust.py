"""May these captions be released? Claims about the texts of a subset, or of a captioner version, as figures with intervals.

A share fails only when its whole 95 % interval lies beyond the limit, so that one odd text among twenty does not block a
release, and one in a hundred thousand does not hide in a mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scipy.stats import binomtest

from internvid_assets.captions.review import precisions
from internvid_assets.lake import Lake
from internvid_assets.settings import TrustSettings

_MIN_TEXTS = 100  # fewer texts than these repeat themselves by chance


@dataclass(frozen=True)
class Finding:
    """One claim about captions: the figure, its 95 % interval where there is one, the limit, and texts that break it."""

    claim: str
    passed: bool
    value: float | None
    limit: float
    num_texts: int
    low: float | None = None
    high: float | None = None
    examples: tuple[str, ...] = ()

    def told(self) -> str:
        """One sentence: the claim, the figure and the limit with the setting that moves it."""
        figure = "no texts" if self.value is None else f"{self.value:.4g} over {self.num_texts} texts"
        shown = f", for example {self.examples[0]}" if self.examples and not self.passed else ""
        return f"{CLAIMS[self.claim]} Found {figure}, limit {self.limit:g}{shown}"


def captions_of_subset(subset: str) -> str:
    """SELECT of the captions of a subset with what is known of each."""
    return (
        "select quality.* from staging.stg_captions as quality "
        f"semi join subsets.{subset} using (clip_id, captioner, captioner_version)"
    )


def captions_of_version(captioner_version: str) -> str:
    """SELECT of all captions of one captioner version."""
    return f"select * from staging.stg_captions where captioner_version = '{captioner_version}'"


def findings(
    lake: Lake, captions: str, limits: TrustSettings, parameters: Mapping[str, Any] | None = None
) -> list[Finding]:
    """Every claim about the texts of a SELECT from stg_captions; none about no texts.

    Args:
        parameters: `subsets.parameters`: what counts as a loop or another language, as in `best_captions`.

    A text whose quality was not scored counts as good for that claim.
    """
    texts, given = f"({captions})", {"max_caption_loops": 0.5, "min_caption_language": 0.5, **(parameters or {})}
    max_loops, min_language = float(given["max_caption_loops"]), float(given["min_caption_language"])
    if not lake.value(f"select count(*) from {texts}"):
        return []
    shares = [
        ("captions_are_not_empty", "not regexp_matches(caption, '[[:alnum:]]|[^\\x00-\\x7F]')", 0.0),
        ("captions_do_not_loop", f"loops >= {max_loops}", limits.max_loop_share),
        ("captions_do_not_refuse", "refusal > 0", limits.max_refusal_share),
        ("captions_are_in_the_language", f"language_probability < {min_language}", limits.max_wrong_language_share),
    ]
    return [
        _repeated(lake, texts, limits.max_repeated_share),
        *[_share(lake, texts, *share) for share in shares],
        _agreement(lake, texts, limits.min_scale_agreement),
        _drift(lake, texts, limits.max_similarity_drop),
        _precision(lake, texts, limits.min_precision),
    ]


CLAIMS: dict[str, str] = {
    "no_caption_is_repeated_too_often": "No text serves more than its share of the clips (trust.max_repeated_share).",
    "captions_are_not_empty": "Every caption has at least one letter or digit.",
    "captions_do_not_loop": "Texts that repeat themselves are few (trust.max_loop_share).",
    "captions_do_not_refuse": "Texts in which a model refuses are few (trust.max_refusal_share).",
    "captions_are_in_the_language": "Texts in another language are few (trust.max_wrong_language_share).",
    "captions_agree_with_their_scales": "Captions say what their coarse and fine texts say (trust.min_scale_agreement).",
    "captions_fit_no_worse_than_before": "On the same clips, no version fits worse than the one before "
    "(trust.max_similarity_drop).",
    "reviewed_captions_are_right": "Of the captions that people reviewed, enough were accepted (trust.min_precision).",
}
"""Every claim, with what it says."""


def _share(lake: Lake, texts: str, claim: str, broken: str, limit: float) -> Finding:
    row = lake.rows(f"select count(*) filter ({broken}) as num_broken, count(*) as num from {texts}")[0]
    examples = lake.rows(
        f"select clip_id || ': ' || caption as text from {texts} where {broken} order by clip_id limit 5"
    )
    interval = binomtest(row["num_broken"], row["num"]).proportion_ci(method="wilson")
    passed = row["num_broken"] == 0 or bool(limit > 0 and interval.low <= limit)
    return Finding(
        claim, passed, row["num_broken"] / row["num"], limit, row["num"], float(interval.low), float(interval.high),
        tuple(example["text"] for example in examples),
    )  # fmt: skip


def _repeated(lake: Lake, texts: str, limit: float) -> Finding:
    row = lake.rows(
        f"select caption, count(*) as num_same, sum(count(*)) over () as num from {texts} group by caption "
        "order by num_same desc, caption limit 1"
    )[0]
    share = row["num_same"] / max(float(row["num"]), _MIN_TEXTS)
    told = (f"{row['num_same']} times: {row['caption']}",)
    return Finding("no_caption_is_repeated_too_often", share <= limit, share, limit, int(row["num"]), examples=told)


def _agreement(lake: Lake, texts: str, limit: float) -> Finding:
    row = lake.rows(f"select avg(scale_agreement) as mean, count(scale_agreement) as num from {texts}")[0]
    worst = lake.rows(
        f"select clip_id || ': ' || caption as text from {texts} where scale_agreement < {limit} "
        "order by scale_agreement, clip_id limit 5"
    )
    passed = row["num"] == 0 or row["mean"] >= limit
    return Finding(
        "captions_agree_with_their_scales",
        passed,
        row["mean"],
        limit,
        row["num"],
        examples=tuple(w["text"] for w in worst),
    )


_DRIFT = """
with versions as (
    select config_hash as captioner_version, min(written_at) as first_written from lineage.materializations
    where asset = 'captions.captions' and num_out > 0 group by config_hash
),
texts as (
    select clip_id, captioner_version, similarity, first_written
    from staging.stg_captions join versions using (captioner_version) where similarity is not null
),
pairs as (
    select new.captioner_version, new.similarity - old.similarity as change from texts as new
    join texts as old on old.clip_id = new.clip_id and old.first_written < new.first_written
    where new.captioner_version in (select captioner_version from {texts})
    qualify row_number() over (partition by new.clip_id, new.captioner_version order by old.first_written desc) = 1
)
select captioner_version, avg(change) as change, count(*) as num, 1.96 * coalesce(stddev_samp(change), 0) / sqrt(count(*)) as margin
from pairs group by captioner_version order by change limit 1
"""


def _drift(lake: Lake, texts: str, limit: float) -> Finding:
    """The version that lost most against the one before it, on the clips that have texts of both."""
    claim, rows = "captions_fit_no_worse_than_before", lake.rows(_DRIFT.format(texts=texts))
    if not rows:
        return Finding(claim, True, None, limit, 0)
    drop, margin = -rows[0]["change"], rows[0]["margin"]
    told = (f"version {rows[0]['captioner_version']}",)
    return Finding(claim, drop - margin <= limit, drop, limit, rows[0]["num"], drop - margin, drop + margin, told)


def _precision(lake: Lake, texts: str, limit: float) -> Finding:
    """Of the version that people accepted least."""
    claim = "reviewed_captions_are_right"
    versions = lake.rows(f"select distinct captioner_version from {texts}")
    reviewed = [p for p in precisions(lake) if p["captioner_version"] in {v["captioner_version"] for v in versions}]
    if not reviewed:
        return Finding(claim, True, None, limit, 0)
    worst = min(reviewed, key=lambda p: p["precision"])
    told = (f"version {worst['captioner_version']}",)
    return Finding(
        claim, worst["high"] >= limit, worst["precision"], limit, worst["num"], worst["low"], worst["high"], told
    )

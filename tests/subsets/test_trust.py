"""Claims about captions: each has rows that break it and rows that do not."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pytest

from internvid_assets.captions.review import record_verdict
from internvid_assets.lake import Lake, Write
from internvid_assets.settings import Settings, TrustSettings
from internvid_assets.subsets.trust import (
    CLAIMS,
    Finding,
    captions_of_subset,
    captions_of_version,
    findings,
)

LIMITS = TrustSettings()


def rows(count: int = 200, version: str = "v1", **columns) -> list[dict]:
    """Captions of clips 0, 1, …; a column is a value or a function of the clip's number."""
    base = {
        "caption": lambda n: f"a man with {n} horses", "similarity": 0.3, "loops": 0.0, "refusal": 0.0,
        "language_probability": 1.0, "scale_agreement": 0.6,
    }  # fmt: skip
    values = base | columns
    return [
        {"clip_id": f"clip{n}", "captioner": "writer", "captioner_version": version, "num_words": 5}
        | {name: value(n) if callable(value) else value for name, value in values.items()}
        for n in range(count)
    ]


@pytest.fixture
def lake(embedded_settings: Settings) -> Iterator[Lake]:
    lake = Lake(embedded_settings)
    yield lake
    lake.close()


def judged(lake: Lake, *groups: list[dict], limits: TrustSettings = LIMITS, version: str = "v1") -> dict[str, Finding]:
    schema = pa.schema(
        [(name, pa.string()) for name in ("clip_id", "captioner", "captioner_version", "caption")] + [("num_words", pa.int32())]
        + [(name, pa.float64()) for name in ("similarity", "loops", "refusal", "language_probability", "scale_agreement")]
    )  # fmt: skip
    lake.connection.register("made", pa.Table.from_pylist([row for group in groups for row in group], schema=schema))
    lake.connection.execute("create or replace table staging.stg_captions as select * from made")
    return {finding.claim: finding for finding in findings(lake, captions_of_version(version), limits)}


def broken(found: dict[str, Finding]) -> list[str]:
    return [claim for claim, finding in found.items() if not finding.passed]


def test_good_captions_break_no_claim_and_every_claim_is_made(lake: Lake) -> None:
    found = judged(lake, rows())
    assert list(found) == list(CLAIMS) or set(found) == set(CLAIMS)
    assert broken(found) == [] and found["captions_do_not_loop"].num_texts == 200


def test_no_texts_no_claims(lake: Lake) -> None:
    assert judged(lake, rows(), version="other") == {}


@pytest.mark.parametrize(
    ("claim", "columns", "fine"),
    [
        ("no_caption_is_repeated_too_often", {"caption": lambda n: "a cat" if n < 21 else f"text {n}"},
         {"caption": lambda n: "a cat" if n < 20 else f"text {n}"}),
        ("captions_are_not_empty", {"caption": lambda n: " ." if n == 7 else f"text {n}"},
         {"caption": lambda n: "猫" if n == 7 else f"text {n}"}),
        ("captions_do_not_loop", {"loops": lambda n: 0.9 if n < 8 else 0.0}, {"loops": lambda n: 0.9 if n < 2 else 0.4}),
        ("captions_do_not_refuse", {"refusal": lambda n: float(n < 2)}, {"refusal": 0.0}),
        ("captions_are_in_the_language", {"language_probability": lambda n: 0.1 if n < 12 else 1.0},
         {"language_probability": lambda n: 0.1 if n < 3 else 0.6}),
        ("captions_agree_with_their_scales", {"scale_agreement": 0.05}, {"scale_agreement": lambda n: 0.05 if n else 1.0}
         | {"caption": lambda n: f"text {n}"}),
    ],
)  # fmt: skip
def test_each_claim_is_broken_by_its_own_fault(lake: Lake, claim: str, columns: dict, fine: dict) -> None:
    assert broken(judged(lake, rows(**columns))) == [claim]
    if claim != "captions_agree_with_their_scales":
        assert broken(judged(lake, rows(**fine))) == []


def test_what_was_not_scored_counts_as_good(lake: Lake) -> None:
    nothing = dict.fromkeys(("similarity", "loops", "refusal", "language_probability", "scale_agreement"))
    assert broken(judged(lake, rows(**nothing))) == []


def test_what_counts_as_a_fault_is_the_settings_parameter(lake: Lake) -> None:
    judged(lake, rows(loops=0.4, language_probability=0.6))
    strict = {"max_caption_loops": 0.3, "min_caption_language": 0.7}
    found = findings(lake, captions_of_version("v1"), LIMITS, strict)
    assert [f.claim for f in found if not f.passed] == ["captions_do_not_loop", "captions_are_in_the_language"]


def test_few_texts_may_repeat_themselves_and_one_loop_in_twenty_blocks_nothing(lake: Lake) -> None:
    assert broken(judged(lake, rows(10, caption="the same"))) == []
    assert broken(judged(lake, rows(20, loops=lambda n: float(n == 0)))) == []


def test_a_failure_says_what_where_and_which_setting(lake: Lake) -> None:
    found = judged(lake, rows(caption="the same"))["no_caption_is_repeated_too_often"]
    assert found.told() == (
        "No text serves more than its share of the clips (trust.max_repeated_share). Found 1 over 200 texts, limit 0.1, "
        "for example 200 times: the same"
    )
    assert broken(judged(lake, rows(caption="the same"), limits=TrustSettings(max_repeated_share=1))) == []


def written(lake: Lake, *versions: str) -> None:
    for version in versions:
        lake.commit(Write("captions.captions", "run", config_hash=version, num_in=1, num_out=1), [])


def test_a_version_that_fits_worse_than_the_one_before_is_found(lake: Lake) -> None:
    written(lake, "v0", "v1")
    for new, expected in ((0.2, ["captions_fit_no_worse_than_before"]), (0.27, []), (0.5, [])):
        old = rows(version="v0", similarity=lambda n: 0.3 + 0.001 * (n % 7))
        found = judged(lake, old, rows(similarity=new))
        assert broken(found) == expected
    assert judged(lake, old, rows(similarity=0.2), version="v0")["captions_fit_no_worse_than_before"].num_texts == 0


def test_drift_is_measured_on_the_same_clips(lake: Lake) -> None:
    written(lake, "v0", "v1")
    easy = [row for row in rows(version="v0", similarity=0.9) if row["clip_id"] not in ("clip1", "clip2")]
    same = rows(3, version="v0", similarity=0.2)[1:]
    found = judged(lake, same, rows(3, similarity=0.2), [row | {"clip_id": f"other{row['clip_id']}"} for row in easy])
    assert found["captions_fit_no_worse_than_before"].num_texts == 2 and broken(found) == []


def test_what_people_rejected_blocks(lake: Lake) -> None:
    pairs = rows(20)
    for number, pair in enumerate(pairs):
        record_verdict(lake, pair, "ann", "seed 0", "accept" if number < 3 else "reject")
    found = judged(lake, pairs)
    assert broken(found) == ["reviewed_captions_are_right"]
    assert found["reviewed_captions_are_right"].value == pytest.approx(0.15)
    assert broken(judged(lake, rows(version="v2"), version="v2")) == []  # another version's reviews


def test_only_the_texts_of_the_subset_are_judged(lake: Lake) -> None:
    judged(lake, rows(loops=lambda n: float(n >= 100)))
    lake.connection.execute(
        "create or replace table subsets.internvid_10m as select clip_id, captioner, captioner_version "
        "from staging.stg_captions where loops = 0"
    )
    found = findings(lake, captions_of_subset("internvid_10m"), LIMITS)
    assert all(finding.passed for finding in found) and found[0].num_texts == 100

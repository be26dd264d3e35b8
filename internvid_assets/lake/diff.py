"""What changed between two states of a subset, and which rule is to blame, clip by clip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import duckdb

from internvid_assets.lake.catalog import Lake
from internvid_assets.lake.takedown import SALT

_VERDICTS = "intermediate.int_pair_verdicts"
_TAKEN = "select clip_key from lineage.taken_clips"
_SALTED = f"sha256('{SALT}' || clip_id)"
_COMPARED = """
with old as ({old}), new as ({new}), old_verdicts as ({old_verdicts}), new_verdicts as ({new_verdicts}),
compared as (
    select
        coalesce(old.clip_id, new.clip_id) as clip_id,
        case
            when old.clip_id is null then 'added'
            when new.clip_id is null then 'dropped'
            when (old.captioner, old.captioner_version) is distinct from (new.captioner, new.captioner_version)
                then 're-captioned'
            when old.similarity <> new.similarity or old.aesthetic <> new.aesthetic then 're-scored'
            else 'same'
        end as change,
        old.captioner || ' ' || old.captioner_version || ' -> ' || new.captioner || ' ' || new.captioner_version as versions,
        concat_ws(' and ',
            case when old.similarity <> new.similarity then 'similarity' end,
            case when old.aesthetic <> new.aesthetic then 'aesthetic' end
        ) as scores,
        old.caption as old_caption, new.caption as new_caption,
        old.similarity as old_similarity, new.similarity as new_similarity,
        old.aesthetic as old_aesthetic, new.aesthetic as new_aesthetic
    from old full join new on old.clip_id = new.clip_id
)
select
    clip_id,
    change,
    case
        when change = 're-captioned' then versions
        when change = 're-scored' then scores
        when change = 'added' and before.clip_id is null then 'new clip'
        when change = 'added' then coalesce(before.drop_reason, 'not sampled')
        when change = 'dropped' and after.clip_id is not null then coalesce(after.drop_reason, 'not sampled')
        when change = 'dropped' and {salted} in ({taken}) then 'taken_down'
        when change = 'dropped' then 'clip is gone'
        else ''
    end as reason,
    old_caption, new_caption, old_similarity, new_similarity, old_aesthetic, new_aesthetic
from compared
left join old_verdicts as before using (clip_id)
left join new_verdicts as after using (clip_id)
"""


@dataclass(frozen=True)
class State:
    """One side of a comparison: SELECTs of its pairs and of the verdicts of its time."""

    name: str
    pairs: str
    verdicts: str
    told: str
    num_taken: int = 0
    """Pairs that a takedown removed from what was recorded of it."""


@dataclass(frozen=True)
class Difference:
    """How many pairs changed in which way and why, most first, and some of each."""

    old: str
    new: str
    counts: list[dict[str, Any]]
    examples: list[dict[str, Any]]

    def lines(self) -> list[str]:
        """For a terminal."""
        told = [f"from {self.old}", f"to   {self.new}"]
        for count in self.counts:
            reason = f" ({count['reason']})" if count["reason"] else ""
            told.append(f"{count['change']}{reason}: {count['num']}")
            same = [e for e in self.examples if (e["change"], e["reason"]) == (count["change"], count["reason"])]
            told += [f"  {example['clip_id']}{_shown(example)}" for example in same]
        return told


def _shown(example: dict[str, Any]) -> str:
    """The texts or numbers that changed."""
    old, new = example["old_caption"], example["new_caption"]
    if example["change"] == "re-captioned":
        return f": {old!r} -> {new!r}"
    if example["change"] == "re-scored":
        names = [n for n in ("similarity", "aesthetic") if example[f"old_{n}"] != example[f"new_{n}"]]
        return "".join(f" {n} {example[f'old_{n}']:.4g} -> {example[f'new_{n}']:.4g}" for n in names)
    return f": {old or new!r}"


def diff(lake: Lake, old: str, new: str, num_examples: int = 3) -> Difference:
    """Compare two states: each a release id, `SUBSET@SNAPSHOT`, or `SUBSET` as it now is.

    A dropped pair's reason is its clip's verdict in the new state, an added one's the verdict in the old.

    Raises: ValueError for a state that does not exist or can no longer be read.
    """
    before, after = state(lake, old), state(lake, new)
    compared = _COMPARED.format(
        old=before.pairs, new=after.pairs, old_verdicts=before.verdicts, new_verdicts=after.verdicts,
        salted=_SALTED, taken=_TAKEN,
    )  # fmt: skip
    counts = lake.rows(
        f"select change, reason, count(*) as num from ({compared}) group by all order by num desc, change, reason"
    )
    if before.num_taken:
        counts.append({"change": "dropped", "reason": "taken_down", "num": before.num_taken})
    examples = lake.rows(
        f"select * from ({compared}) where change <> 'same' "
        f"qualify row_number() over (partition by change, reason order by clip_id) <= {num_examples} order by change, reason, clip_id"
    )
    return Difference(before.told, after.told, counts, examples)


def state(lake: Lake, name: str) -> State:
    """A side by its name. Raises: ValueError when there is none, or its snapshot is forgotten and nothing else kept it."""
    released = lake.rows("select * from release.dataset_release where release_id = ?", [name])
    if released:
        return _of_release(lake, name, released[0])
    subset, _, snapshot = name.partition("@")
    if not subset.isidentifier() or not lake.has_table(f"subsets.{subset}"):
        raise ValueError(f"{name!r} is neither a release nor a subset: give a release id, SUBSET or SUBSET@SNAPSHOT")
    if not snapshot:
        return State(name, _pairs(subset), _verdicts(lake), f"{subset} as it now is")
    if not snapshot.isdigit():
        raise ValueError(f"snapshot {snapshot!r} of {name!r} must be a number")
    if _is_readable(lake, subset, int(snapshot)):
        return _at(lake, subset, int(snapshot), f"{subset} at snapshot {snapshot}")
    same = "select * from release.dataset_release where subset = ? and snapshot_id = ? limit 1"
    released = lake.rows(same, [subset, int(snapshot)])
    if released:
        return _of_release(lake, released[0]["release_id"], released[0])
    raise ValueError(
        f"snapshot {snapshot} of {subset} cannot be read: there is none, or it was forgotten (lake.keep_days, or a takedown), "
        "and no release kept its pairs"
    )


def _of_release(lake: Lake, release_id: str, row: dict[str, Any]) -> State:
    """By time travel, or from the pairs that the release recorded, which have no scores."""
    if _is_readable(lake, row["subset"], row["snapshot_id"]):
        return _at(lake, row["subset"], row["snapshot_id"], f"release {release_id}")
    recorded = (
        "select clip_id, captioner, captioner_version, text as caption, null::double as similarity, null::double as "
        "aesthetic from release.released_pairs left join (select clip_id, captioner, captioner_version, any_value(text) as text "
        "from captions.captions group by all) as texts using (clip_id, captioner, captioner_version) "
        f"where release_id = '{release_id}'"
    )
    withdrawn = f", withdrawn by takedown {row['withdrawn_by']}" if row["withdrawn_by"] else ""
    told = f"release {release_id} (its snapshot is forgotten: recorded pairs, scores unknown{withdrawn})"
    num_left = lake.value("select count(*) from release.released_pairs where release_id = ?", [release_id])
    num_taken = (row["num_pairs"] or num_left) - num_left if row["withdrawn_by"] else 0
    return State(release_id, recorded, _verdicts(lake), told, num_taken)


def _is_readable(lake: Lake, subset: str, snapshot_id: int) -> bool:
    """Whether the subset's table can still be read as it was then."""
    try:
        lake.query(f"select 1 from subsets.{subset} at (version => {snapshot_id}) limit 0")
    except duckdb.Error:
        return False
    return True


def _at(lake: Lake, subset: str, snapshot_id: int, told: str) -> State:
    when = f"at (version => {snapshot_id})"
    return State(
        f"{subset}@{snapshot_id}",
        f"{_pairs(subset)} {when}",
        f"select clip_id, drop_reason from {_VERDICTS} {when}",
        told,
    )


def _pairs(subset: str) -> str:
    return f"select clip_id, captioner, captioner_version, caption, similarity, aesthetic from subsets.{subset}"


def _verdicts(lake: Lake) -> str:
    """Today's, for a state without a time of its own."""
    return f"select clip_id, drop_reason from {_VERDICTS}"

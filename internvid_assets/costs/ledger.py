"""The cost ledger: what each stage used up, in all, for each clip that was kept and for each hour of video."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from internvid_assets.lake.catalog import Lake
from internvid_assets.settings import CostSettings

_BY_STAGE = """
with items as (
    select asset, item, amount, written_at from lineage.costs join lineage.materializations using (materialization_id)
    union all
    select asset, 'seconds', seconds, written_at from lineage.materializations
)
select asset, item, sum(amount) as amount, min(written_at) as began from items group by asset, item order by began, asset
"""
GIB = 2**30


@dataclass(frozen=True)
class Ledger:
    """Amounts by stage and item, over every write that ever was: re-runs and replaced rows count too."""

    stages: Mapping[str, Mapping[str, float]]
    num_kept: int  # clips with a pair in `filtered_pairs`, or clips where that is not made yet
    hours: float  # of held videos

    @classmethod
    def read(cls, lake: Lake) -> Ledger:
        """Of the lake as it now is."""
        stages: dict[str, dict[str, float]] = defaultdict(dict)
        for row in lake.rows(_BY_STAGE):
            stages[row["asset"]][row["item"]] = row["amount"]
        kept = "subsets.filtered_pairs" if lake.has_table("subsets.filtered_pairs") else "clips.clips"
        num_kept = lake.value(f"select count(distinct clip_id) from {kept}")
        hours = lake.value("select coalesce(sum(duration_seconds), 0) / 3600 from videos.raw_videos")
        return cls(stages, num_kept, hours)

    @property
    def total(self) -> dict[str, float]:
        """Amounts by item."""
        sums: dict[str, float] = defaultdict(float)
        for amounts in self.stages.values():
            for item, amount in amounts.items():
                sums[item] += amount
        return dict(sums)


def money(amounts: Mapping[str, float], prices: CostSettings) -> float:
    """What amounts cost: metered money (caption servers report it) and the priced hours; storage is by the month, apart."""
    return (
        amounts.get("money", 0.0)
        + amounts.get("cpu_seconds", 0.0) / 3600 * prices.cpu_hour_price
        + amounts.get("gpu_seconds", 0.0) / 3600 * prices.gpu_hour_price
    )


def short(amount: float) -> str:
    """Worked examples: 1234.5 gives 1,234; 0.01234 gives 0.0123."""
    return f"{amount:,.0f}" if amount >= 100 else f"{amount:.3g}"


def table(ledger: Ledger, prices: CostSettings) -> list[str]:
    """Printable: a line a stage, their sum, and the same for each kept clip and hour of video."""
    total = ledger.total
    rows = [*ledger.stages.items(), ("all", total)]
    for count, name in ((ledger.num_kept, "kept clip"), (ledger.hours, "hour of video")):
        if count:
            rows.append((f"per {name}, of {short(count)}", {item: amount / count for item, amount in total.items()}))
    row = "{:<34}{:>10}{:>10}{:>10}{:>13}{:>13}{:>11}{:>11}".format
    head = row("stage", "seconds", "CPU s", "GPU s", "stored MiB", "fetched MiB", "tokens", "money")
    return [head, *(row(name, *_figures(amounts, prices)) for name, amounts in rows)]


def _figures(amounts: Mapping[str, float], prices: CostSettings) -> list[str]:
    units = {"seconds": 1, "cpu_seconds": 1, "gpu_seconds": 1, "bytes_stored": 2**20, "bytes_fetched": 2**20}
    tokens = amounts.get("prompt_tokens", 0.0) + amounts.get("completion_tokens", 0.0)
    return [short(amounts.get(i, 0.0) / unit) for i, unit in units.items()] + [
        short(tokens),
        short(money(amounts, prices)),
    ]


class BudgetError(RuntimeError):
    """What may be spent is spent; the message says of what, and how to go on."""


def check_budget(lake: Lake, prices: CostSettings) -> None:
    """Raises: BudgetError when the home has used as much as the settings allow."""
    limits: dict[str, tuple[float | None, str]] = {
        "max_money": (prices.max_money, "money"),
        "max_cpu_hours": (prices.max_cpu_hours, "CPU hours"),
        "max_gpu_hours": (prices.max_gpu_hours, "GPU hours"),
    }
    if all(limit is None for limit, _ in limits.values()):
        return
    rows: list[dict[str, Any]] = lake.rows("select item, sum(amount) as amount from lineage.costs group by item")
    total = {row["item"]: row["amount"] for row in rows}
    spent = {
        "max_money": money(total, prices),
        "max_cpu_hours": total.get("cpu_seconds", 0.0) / 3600,
        "max_gpu_hours": total.get("gpu_seconds", 0.0) / 3600,
    }
    for name, (limit, unit) in limits.items():
        if limit is not None and spent[name] >= limit:
            raise BudgetError(
                f"budget spent: {spent[name]:.4g} {unit}, costs.{name} is {limit:g}; what is done stays. Raise the limit and "
                "repeat to go on"
            )

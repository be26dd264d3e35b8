"""What more videos would cost, from what was measured in this home: `internvid plan`."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import quantiles

from internvid_assets.costs.ledger import GIB, short
from internvid_assets.lake.catalog import Lake
from internvid_assets.settings import CostSettings

# Of a batch, what was written under the configuration that it was last written under: an earlier captioner's texts are not
# paid for again. Of a table without batches, the last write.
_MEASURED = """
with hours as (
    select batch, sum(duration_seconds) / 3600 as hours from videos.raw_videos group by batch
), writes as (
    select materialization_id, asset, partition_key from lineage.materializations
    where changed and asset not like 'viclip.%'
    window newest as (partition by asset, partition_key order by written_at desc)
    qualify case when partition_key is null then row_number() over newest = 1 else config_hash = first(config_hash) over newest end
), costs as (
    select materialization_id, coalesce(sum(amount) filter (item = 'cpu_seconds'), 0) as cpu_seconds,
        coalesce(sum(amount) filter (item = 'gpu_seconds'), 0) as gpu_seconds,
        coalesce(sum(amount) filter (item = 'money'), 0) as money,
        coalesce(sum(amount) filter (item = 'bytes_stored'), 0) as bytes_stored
    from lineage.costs group by materialization_id
)
select writes.asset, writes.partition_key, coalesce(any_value(hours.hours), (select sum(hours) from hours)) as hours,
    sum(cpu_seconds) as cpu_seconds, sum(coalesce(gpu_seconds, 0)) as gpu_seconds, sum(money) as money,
    sum(bytes_stored) as bytes_stored
from writes inner join costs using (materialization_id) left join hours on hours.batch = writes.partition_key
group by writes.asset, writes.partition_key
having any_value(hours.hours) > 0 or writes.partition_key is null
order by min(writes.partition_key), writes.asset
"""


@dataclass(frozen=True)
class StagePlan:
    """One stage at the planned size. Ranges are 95 % of resampled batches; None: fewer than three were measured."""

    stage: str
    measured_hours: float
    num_batches: int
    cpu_hours: float
    cpu_range: tuple[float, float] | None
    gpu_hours: float
    stored_gib: float
    money: float  # metered and priced, without storage


@dataclass(frozen=True)
class Plan:
    """A number of videos and hours through every stage that was measured."""

    num_videos: float
    hours: float
    stages: Sequence[StagePlan]
    table_gib: float

    @property
    def cpu_hours(self) -> float:
        """Of all stages."""
        return sum(stage.cpu_hours for stage in self.stages)

    @property
    def gpu_hours(self) -> float:
        """Of all stages."""
        return sum(stage.gpu_hours for stage in self.stages)


def make_plan(lake: Lake, prices: CostSettings, num_videos: float | None, hours: float | None, seed: int = 0) -> Plan:
    """Extrapolate in proportion to the hours of video; training is not part of it, since its recipe decides its length.

    Args:
        num_videos, hours: what is not given follows from the mean length of the held videos.

    Raises: ValueError when neither is given, or nothing was measured.
    """
    held = lake.rows("select count(*) as n, sum(duration_seconds) / 3600 as hours from videos.raw_videos")[0]
    if not held["n"] or not held["hours"]:
        raise ValueError("nothing was measured yet: take a sample of the videos through `internvid run` first")
    if num_videos is None and hours is None:
        raise ValueError("say how much: --videos N, --hours H or both")
    if hours is None:
        assert num_videos is not None
        hours = num_videos * held["hours"] / held["n"]
    if num_videos is None:
        num_videos = hours * held["n"] / held["hours"]
    by_stage: dict[str, list[Mapping[str, float]]] = {}
    for row in lake.rows(_MEASURED):
        by_stage.setdefault(row["asset"], []).append(row)
    stages = [_stage(name, batches, hours, prices, random.Random(seed)) for name, batches in by_stage.items()]
    table_bytes = lake.value("select coalesce(sum(file_size_bytes), 0)::double from ducklake_table_info('lake')")
    return Plan(num_videos, hours, stages, table_bytes / GIB / held["hours"] * hours)


def _stage(
    name: str, batches: Sequence[Mapping[str, float]], hours: float, prices: CostSettings, draw: random.Random
) -> StagePlan:
    measured = sum(batch["hours"] for batch in batches)

    def at_size(item: str, unit: float) -> float:
        return sum(batch[item] for batch in batches) / unit / measured * hours

    spread = None
    if len(batches) >= 3:
        draws = [draw.choices(batches, k=len(batches)) for _ in range(1000)]
        rates = [
            sum(b["cpu_seconds"] for b in drawn) / sum(b["hours"] for b in drawn) / 3600 * hours for drawn in draws
        ]
        cuts = quantiles(rates, n=40)
        spread = (cuts[0], cuts[-1])
    cpu_hours, gpu_hours = at_size("cpu_seconds", 3600), at_size("gpu_seconds", 3600)
    money = at_size("money", 1) + cpu_hours * prices.cpu_hour_price + gpu_hours * prices.gpu_hour_price
    return StagePlan(
        name, measured, len(batches), cpu_hours, spread, gpu_hours, at_size("bytes_stored", GIB), money
    )  # fmt: skip


def lines(plan: Plan, prices: CostSettings, days: float, cores_per_pod: int) -> list[str]:
    """Printable: a line a stage, their sum, the pods that end in so many days, and the storage."""
    row = "{:<34}{:>12}{:>24}{:>12}{:>12}{:>12}  {}".format
    told = [
        f"{plan.num_videos:,.0f} videos, {plan.hours:,.1f} hours, by what was measured here:",
        row("stage", "CPU hours", "95 % range", "GPU hours", "stored GiB", "money", "measured on"),
    ]
    for s in plan.stages:
        spread = "" if s.cpu_range is None else f"{short(s.cpu_range[0])} to {short(s.cpu_range[1])}"
        basis = f"{s.measured_hours:.3g} h, {s.num_batches} {'batch' if s.num_batches == 1 else 'batches'}"
        told.append(
            row(s.stage, short(s.cpu_hours), spread, short(s.gpu_hours), short(s.stored_gib), short(s.money), basis)
        )
    stored, money = sum(s.stored_gib for s in plan.stages), sum(s.money for s in plan.stages)
    told.append(row("all", short(plan.cpu_hours), "", short(plan.gpu_hours), short(stored), short(money), "").rstrip())
    cores, gpus = plan.cpu_hours / 24 / days, plan.gpu_hours / 24 / days
    monthly = (stored + plan.table_gib) * prices.gib_month_price
    return [
        *told,
        f"in {days:g} days: {math.ceil(cores):,} cores busy all the time, {math.ceil(cores / cores_per_pod):,} pods of "
        f"{cores_per_pod} cores, {math.ceil(gpus):,} GPUs",
        f"storage: {short(stored)} GiB of media, {short(plan.table_gib)} GiB of tables, {short(monthly)} of money a month",
        "training is not in it: its recipe decides how long it is (docs/scaling.md)",
    ]

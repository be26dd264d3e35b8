"""What is used up is measured, told by stage, extrapolated, and stopped at a budget."""
# No `from __future__ import annotations` here: Dagster reads the annotations.

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import dagster as dg
import pytest

from internvid_assets.costs.ledger import BudgetError, Ledger, check_budget, money, table
from internvid_assets.costs.meter import Reading
from internvid_assets.costs.plan import lines, make_plan
from internvid_assets.lake import Lake, Write
from internvid_assets.lake.assets import BATCHES, StageRun
from internvid_assets.lake.stage import StageResult
from internvid_assets.settings import CostSettings, Settings
from internvid_assets.store import LocalStore
from tests.captions.homes import put

PRICES = CostSettings(cpu_hour_price=0.5, gpu_hour_price=2.0, gib_month_price=0.1)


def burn(cpu_seconds: float) -> None:
    until = time.process_time() + cpu_seconds
    while time.process_time() < until:
        pass


def test_processor_time_of_this_process_and_of_children_is_counted() -> None:
    began = Reading.now()
    burn(0.1)
    own = began.costs()["cpu_seconds"]
    assert own >= 0.09
    code = "import time\nwhile time.process_time() < 0.3: pass"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert began.costs()["cpu_seconds"] >= own + 0.25
    assert "gpu_seconds" not in began.costs()


def test_bytes_are_counted_once_when_they_are_stored(tmp_path: Path) -> None:
    store, cache = LocalStore(tmp_path / "media"), LocalStore(tmp_path / "cache", is_cache=True)
    began = Reading.now()
    assert "bytes_stored" not in began.costs()
    for _ in range(2):  # the second finds them there
        store.put_bytes("a/b", b"x" * 1000)
        cache.put_bytes("a/b", b"x" * 1000)
    assert began.costs()["bytes_stored"] == 1000


def spend(lake: Lake, table: str, batch: str | None, costs: Mapping[str, float], config: str = "") -> None:
    """A write that changed something and used that up."""
    lake.commit(Write(table, "run", batch, config_hash=config, seconds=2.0, costs=costs), [])
    lake.connection.execute("update lineage.materializations set changed = true")


@pytest.fixture
def home(embedded_settings: Settings) -> Iterator[Lake]:
    """Three batches of half an hour, four clips."""
    lake = Lake(embedded_settings)
    put(lake, "videos.raw_videos", [
        {"batch": f"b{n}", "video_id": f"v{n}{m}", "duration_seconds": 900.0} for n in range(3) for m in range(2)
    ])  # fmt: skip
    put(lake, "clips.clips", [{"batch": "b0", "clip_id": f"c{n}", "video_id": "v00"} for n in range(4)])
    yield lake
    lake.close()


def test_the_ledger_adds_up(home: Lake) -> None:
    spend(home, "clips.clips", "b0", {"cpu_seconds": 3600, "bytes_stored": 2**20})
    spend(home, "clips.clips", "b1", {"cpu_seconds": 1800})
    spend(
        home,
        "captions.captions",
        "b0",
        {"gpu_seconds": 900, "prompt_tokens": 70, "completion_tokens": 30, "money": 4.0},
    )
    ledger = Ledger.read(home)
    assert (ledger.num_kept, ledger.hours) == (4, 1.5)
    assert ledger.stages["clips.clips"]["cpu_seconds"] == 5400
    assert ledger.total["money"] == 4.0 and ledger.total["seconds"] >= 6.0
    assert money(ledger.total, PRICES) == pytest.approx(4.0 + 1.5 * 0.5 + 0.25 * 2)
    told = {line.split()[0]: line.split() for line in table(ledger, PRICES)}
    assert told["clips.clips"][2:5] == ["5,400", "0", "1"]
    assert told["captions.captions"][-2:] == ["100", "4.5"]
    assert told["all"][-1] == "5.25" and told["per"][-1] == "3.5"  # of the last one: an hour of video


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        ({"max_cpu_hours": 1.0}, "1.5 CPU hours, costs.max_cpu_hours is 1"),
        ({"max_gpu_hours": 0.25}, "0.25 GPU hours, costs.max_gpu_hours is 0.25"),
        ({"max_money": 5.0, "cpu_hour_price": 1.0}, "5.5 money, costs.max_money is 5"),
        ({"max_money": 5.0}, None),
        ({"max_cpu_hours": 1.6, "max_gpu_hours": 0.3}, None),
        ({}, None),
    ],
)
def test_a_spent_budget_is_told(home: Lake, limits: dict[str, float], told: str | None) -> None:
    spend(home, "clips.clips", "b0", {"cpu_seconds": 5400, "gpu_seconds": 900, "money": 4.0})
    if told is None:
        check_budget(home, CostSettings(**limits))
    else:
        with pytest.raises(BudgetError, match=told):
            check_budget(home, CostSettings(**limits))


def test_batches_begin_only_while_the_budget_lasts(home: Lake, tmp_path: Path) -> None:
    """The first batch uses it up, the second does not begin; what is cheap still runs."""
    settings = home.settings.model_copy(update={"costs": CostSettings(max_cpu_hours=0.1 / 3600)})
    began = []

    @dg.asset(key=["clips", "clips"], partitions_def=BATCHES)
    def costly(context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake]) -> dg.MaterializeResult:
        stage = StageRun(context, lake)
        began.append(context.partition_key)
        burn(0.2)
        return stage.finish(StageResult([], 1, 1))

    @dg.asset(key=["subsets", "cheap"])
    def cheap(context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake]) -> dg.MaterializeResult:
        lake.connection.execute("create table if not exists subsets.cheap as select 1 as one")
        return StageRun(context, lake).finish(StageResult([], 1, 1))

    lake = Lake(settings)
    instance = dg.DagsterInstance.ephemeral()
    instance.add_dynamic_partitions("batch", ["b0", "b1"])
    outcomes = [
        dg.materialize([costly], instance=instance, partition_key=batch, resources={"lake": lake}, raise_on_error=False)
        for batch in ("b0", "b1")
    ]
    assert [outcome.success for outcome in outcomes] == [True, False] and began == ["b0"]
    assert dg.materialize([cheap], instance=instance, resources={"lake": lake}).success
    assert 0.15 <= lake.value("select amount from lineage.costs where item = 'cpu_seconds'") < 30
    lake.close()


def test_a_plan_is_in_proportion_to_the_hours(home: Lake) -> None:
    for batch, cpu_seconds in (("b0", 900), ("b1", 1800), ("b2", 2700)):
        spend(home, "clips.clips", batch, {"cpu_seconds": cpu_seconds, "bytes_stored": 2**30}, "now")
    spend(home, "captions.captions", "b0", {"cpu_seconds": 99999}, "old")
    spend(home, "captions.captions", "b0", {"cpu_seconds": 360, "money": 1.0}, "new")
    spend(home, "captions.captions", "b0", {"cpu_seconds": 360, "gpu_seconds": 1800}, "new")
    spend(home, "subsets.filtered_pairs", None, {"cpu_seconds": 77777})
    spend(home, "subsets.filtered_pairs", None, {"cpu_seconds": 54})
    plan = make_plan(home, PRICES, None, 3000.0)
    assert (plan.num_videos, plan.hours) == (12000, 3000)
    clips, captions, pairs = (
        next(s for s in plan.stages if s.stage.endswith(n)) for n in ("clips", "captions", "pairs")
    )
    assert clips.cpu_hours == pytest.approx(5400 / 3600 / 1.5 * 3000)
    assert clips.cpu_range is not None and clips.cpu_range[0] < clips.cpu_hours < clips.cpu_range[1]
    assert clips.stored_gib == pytest.approx(3 / 1.5 * 3000)
    assert captions.cpu_hours == pytest.approx(720 / 3600 / 0.5 * 3000) and captions.cpu_range is None
    assert captions.money == pytest.approx((1.0 + 0.2 * 0.5 + 0.5 * 2.0) / 0.5 * 3000)
    assert pairs.cpu_hours == pytest.approx(54 / 3600 / 1.5 * 3000)
    double = make_plan(home, PRICES, 24000, None)
    assert double.hours == 6000 and double.cpu_hours == pytest.approx(2 * plan.cpu_hours)
    told = "\n".join(lines(plan, PRICES, days=1, cores_per_pod=16))
    assert "12,000 videos, 3,000.0 hours" in told and "0.5 h, 1 batch" in told
    assert f"{-(-int(plan.cpu_hours) // 24):,} cores" in told


def test_a_plan_needs_something_measured_and_a_size(home: Lake, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--videos N, --hours H"):
        make_plan(home, PRICES, None, None)
    empty = Lake(Settings(home=tmp_path / "empty"))
    with pytest.raises(ValueError, match="through `internvid run` first"):
        make_plan(empty, PRICES, 10, None)
    empty.close()

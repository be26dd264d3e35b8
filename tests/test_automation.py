"""Jobs, schedule, sensor and the asset graph as Dagster sees them."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from internvid_assets.automation import new_sources
from internvid_assets.definitions import defs
from internvid_assets.lake import Lake
from internvid_assets.settings import Settings

GRAPH = """
captions.captions <- captions.coarse_captions captions.fine_captions captions.transcripts
captions.coarse_captions <- clips.clips
captions.fine_captions <- clips.clips
captions.transcripts <- clips.clips videos.raw_videos
clips.clips <- videos.raw_videos
clips.matches <- clips.clips
release.dataset_release <- subsets.internvid_10m subsets.internvid_10m_div subsets.internvid_10m_flt subsets.internvid_18m_aes
release.training_shards <- clips.clips subsets.internvid_10m subsets.internvid_10m_div subsets.internvid_10m_flt subsets.internvid_18m_aes
scores.clip_scores <- captions.captions captions.coarse_captions captions.fine_captions clips.clips
scores.semantic_duplicates <- clips.clips
viclip.viclip_checkpoint <- release.training_shards
viclip.viclip_evaluation <- viclip.viclip_checkpoint
"""
"""What Python makes; the SQL models' references are checked where they are parsed."""


def test_the_graph_is_the_reviewed_one() -> None:
    graph = defs.resolve_asset_graph()
    lines = [
        f"{'.'.join(key.path)} <- {' '.join(sorted('.'.join(parent.path) for parent in graph.get(key).parent_keys))}"
        for key in sorted(graph.executable_asset_keys)
        if key.path[0] not in ("staging", "intermediate", "subsets") and graph.get(key).parent_keys
    ]
    assert lines == GRAPH.strip().splitlines()


def test_every_asset_says_what_it_is() -> None:
    graph = defs.resolve_asset_graph()
    for key in graph.executable_asset_keys:
        node = graph.get(key)
        assert node.description and node.kinds and node.owners and node.code_version and node.group_name, key


def test_the_jobs_of_the_design_exist() -> None:
    names = {job.name for job in defs.resolve_all_job_defs()}
    assert {"build_dataset", "recaption", "train_viclip", "release_dataset", "maintain_lake"} <= names
    schedule = defs.resolve_schedule_def("nightly_recaption")
    assert (schedule.cron_schedule, schedule.job_name) == ("0 2 * * *", "recaption")


def test_the_sensor_opens_a_batch_once(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        (tmp_path / "in" / name).write_bytes(name.encode())
    settings = Settings(home=tmp_path / "home", sources=(str(tmp_path / "in"),), batch_size=2)
    with dg.DagsterInstance.ephemeral() as instance:
        seen = []
        for _ in range(2):
            context = dg.build_sensor_context(
                instance=instance, resources={"lake": Lake(settings), "settings": settings}
            )
            result = new_sources(context)
            assert isinstance(result, dg.SensorResult)
            seen.append([request.partition_key for request in result.run_requests or []])
            for request in result.dynamic_partitions_requests or []:
                instance.add_dynamic_partitions("batch", list(request.partition_keys))
    assert len(seen[0]) == 2 and seen[1] == []


def test_maintaining_keeps_every_row(embedded_settings: Settings) -> None:
    from internvid_assets.lake import Append, Write

    lake = Lake(embedded_settings)
    for number in range(4):
        row = lake.to_arrow("videos.sources", [{"batch": "b", "source_uri": f"/{number}"}])
        lake.commit(Write("videos.sources", "run"), [Append("videos.sources", row, ("source_uri",))])
    done = lake.maintain(keep_days=0)
    assert done["snapshots_forgotten"] > 0
    assert lake.value("select count(*) from videos.sources") == 4

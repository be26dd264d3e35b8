"""A clip's page names the numbers, the rule and the threshold that decided."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest

from internvid_assets.cli import main
from internvid_assets.lake import Lake
from internvid_assets.lake.lineage import explain
from internvid_assets.lake.models import discover
from internvid_assets.lake.why import RULES, threshold, why
from internvid_assets.release.publish import build_shards, publish_release
from internvid_assets.release.takedown import carry_out, make_plan
from internvid_assets.settings import ReleaseSettings, ScoreSettings, Settings, SubsetSettings, TrustSettings
from internvid_assets.store import ObjectStore, open_store
from internvid_assets.subsets.build import build_model
from tests.captions.homes import make_home, put

RELEASE = ReleaseSettings(shard_size=6, shard_frames=2, shard_short_side=16, training_subset="internvid_10m",
                          release_subset="internvid_10m")  # fmt: skip
SCORES = ScoreSettings(**dict.fromkeys(set(ScoreSettings.model_fields) - {"options"}, "none"))


def quiet(items, *_, **__):
    return items


@pytest.fixture
def home(embedded_settings: Settings, tmp_path: Path) -> Iterator[tuple[Lake, ObjectStore, list[str]]]:
    """Two videos of three clips: the first clip has two texts, the fourth is dark and dropped."""
    settings = embedded_settings.model_copy(
        update={"scores": SCORES, "subsets": SubsetSettings(parameters={"max_still_share": 0.5})}
    )
    lake, store = Lake(settings), open_store(settings)
    ids = make_home(lake, store, 2, 3)
    lake.connection.execute(f"update clips.clips set black_share = 0.95, still_share = 0.2 where clip_id = '{ids[3]}'")
    lake.connection.execute(f"update clips.clips set still_share = 0.6 where clip_id = '{ids[4]}'")
    texts = [(clip, "v1", f"a cat on mat {clip}") for clip in ids] + [(ids[0], "v2", "a striped cat")]
    put(lake, "captions.captions", [
        {"batch": "b", "clip_id": clip, "captioner": "embedded", "captioner_version": version, "text": text, "num_words": 3}
        for clip, version, text in texts
    ])  # fmt: skip
    put(lake, "captions.coarse_captions", [{"batch": "b", "clip_id": ids[0], "captioner": "embedded",
                                            "captioner_version": "c1", "text": "a cat seen"}])  # fmt: skip
    put(lake, "scores.clip_scores", [
        {"batch": "b", "clip_id": ids[0], "captioner": captioner, "captioner_version": version, "scorer": scorer,
         "scorer_backend": "embedded", "scorer_version": "s1", "value": value}
        for captioner, version, scorer, value in (
            ("embedded", "v1", "similarity", 0.2), ("embedded", "v2", "similarity", 0.6), (None, None, "aesthetic", 4.5),
        )
    ])  # fmt: skip
    for model in discover():
        result = build_model(lake, model, settings)
        lake.commit(result.write(model.table, "test", None, 0, []), result.changes)
    for result in (
        publish_release(
            lake, store, settings.model_copy(update={"release": RELEASE, "trust": TrustSettings(max_repeated_share=1)})
        ),
        build_shards(lake, store, RELEASE, tmp_path / "cache", quiet),
    ):
        lake.commit(result.write("release", "test", None, 0, []), result.changes)
    shards_id = lake.value("select shards_id from release.training_shards limit 1")
    put(lake, "viclip.viclip_checkpoint", [{"checkpoint_id": "tiny-1", "shards_id": shards_id, "role": "viclip"}])
    yield lake, store, ids
    lake.close()


def test_a_page_tells_the_whole_life(
    home: tuple[Lake, ObjectStore, list[str]], tmp_path: Path, monkeypatch, capsys
) -> None:
    lake, store, ids = home
    page = "\n".join(why(lake, ids[0]))
    for told in ("from /videos/0.mp4", "seconds [0.000, 1.000)", "a striped cat", "a cat on mat", "a cat seen", "aesthetic 4.5 by embedded s1",
                 "kept: no rule speaks against it", "subset subsets.internvid_10m", "release internvid_10m-", "shard shards/", "checkpoint tiny-1",
                 "black: black_share unknown (limit 0.9)"):  # fmt: skip
        assert told in page, told
    dropped = "\n".join(why(lake, ids[3]))
    assert "dropped: black: black_share 0.95, max_black_share 0.9" in dropped and "release" not in dropped
    assert "dropped: still: still_share 0.6, max_still_share 0.5" in "\n".join(why(lake, ids[4]))  # the setting
    monkeypatch.setattr("internvid_assets.home._export", lambda *_: None)
    lake.close()
    with pytest.raises(SystemExit) as ended:
        main(["why", ids[0], "--sheet", str(tmp_path / "sheet.jpg"), "--home", str(lake.settings.home)])
    assert ended.value.code == 0 and "frames: " in capsys.readouterr().out
    assert cv2.imread(str(tmp_path / "sheet.jpg")).shape[1] == 640
    carry_out(lake, store, make_plan(lake, store, [ids[1]], ""), tmp_path / "cache", lambda runs: None)
    with pytest.raises(ValueError, match=f"clip {ids[1]} was taken down: takedown "):
        why(lake, ids[1])
    told = explain(lake, ids[1])
    assert told[0] == f"{ids[1]} was taken down" and told[1].startswith(
        "  clip of 1 clips, reason: none given, receipt takedowns/"
    )
    assert explain(lake, lake.value("select takedown_id from lineage.takedowns"))[0].startswith("takedown ")
    assert "(withdrawn by takedown " in "\n".join(why(lake, ids[0]))
    release_id = lake.value("select release_id from release.dataset_release")
    assert any("withdrawn by takedown" in line for line in explain(lake, release_id))
    with pytest.raises(ValueError, match="no clip is known as 'nobody'"):
        why(lake, "nobody")


def test_the_rules_are_those_of_the_models(embedded_settings: Settings) -> None:
    """Every reason a model gives is explained, and every parameter that explains has a default in a model's header."""
    lake = Lake(embedded_settings)
    sql = "".join(model.sql for model in discover())
    for reason, parts in RULES.items():
        for column, parameter in parts:
            assert f"getvariable('{parameter}')" in sql and isinstance(threshold(lake, parameter), float)
            assert column == "duration_seconds" or column in sql
        assert f"'{reason}'" in sql
    spoken = {"in_benchmark", "near_duplicate", "no_caption", "refusal", "semantic_duplicate", "taken_down"}
    verdicts = "".join(m.sql for m in discover() if m.name in ("stg_clips", "int_pair_verdicts", "best_captions"))
    assert set(re.findall(r"then '(\w+)'", verdicts)) == set(RULES) | spoken

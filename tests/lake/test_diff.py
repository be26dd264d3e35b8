"""Between two states of a subset every change has its kind and its reason."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from internvid_assets.cli import main
from internvid_assets.lake import CreateAs, Lake, Write
from internvid_assets.lake.diff import Difference, diff
from internvid_assets.lake.purge import purge
from internvid_assets.lake.takedown import Target, delete_rows
from internvid_assets.settings import Settings
from tests.captions.homes import put

PAIRS = [  # clip, captioner version, text, similarity; none: not in the subset
    ("kept_0_1", ("v1", "a cat", 0.5), ("v1", "a cat", 0.5)),
    ("text_0_1", ("v1", "a cat", 0.5), ("v2", "a striped cat", 0.7)),
    ("score_0_1", ("v1", "a dog", 0.5), ("v1", "a dog", 0.4)),
    ("bad_0_1", ("v1", "a cow", 0.5), None),
    ("unlucky_0_1", ("v1", "a fox", 0.5), None),
    ("taken_0_1", ("v1", "a man", 0.5), None),
    ("recut_0_1", ("v1", "a bird", 0.5), None),
    ("found_0_1", None, ("v1", "a hen", 0.5)),
    ("lucky_0_1", None, ("v1", "a pig", 0.5)),
    ("fresh_0_1", None, ("v1", "a bee", 0.5)),
]
OLD_VERDICTS = {"bad_0_1": None, "found_0_1": "black", "lucky_0_1": None}
NEW_VERDICTS = {"bad_0_1": "nsfw", "unlucky_0_1": None, "found_0_1": None, "lucky_0_1": None, "fresh_0_1": None}
EXPECTED = {
    ("same", ""): 1, ("re-captioned", "embedded v1 -> embedded v2"): 1, ("re-scored", "similarity"): 1,
    ("dropped", "nsfw"): 1, ("dropped", "not sampled"): 1, ("dropped", "taken_down"): 1, ("dropped", "clip is gone"): 1,
    ("added", "black"): 1, ("added", "not sampled"): 1, ("added", "new clip"): 1,
}  # fmt: skip


def write_state(lake: Lake, side: int, verdicts: dict[str, str | None]) -> int:
    """Write one side of `PAIRS` as the subset, with verdicts; its snapshot."""
    pairs = [(pair[0], *pair[side]) for pair in PAIRS if pair[side]]  # type: ignore[misc]
    rows = ", ".join(f"('{c}', '{c[:-4]}', 'embedded', '{v}', '{t}', {s}e0, 5e0)" for c, v, t, s in pairs)
    names = "clip_id, video_id, captioner, captioner_version, caption, similarity, aesthetic"
    reasons = {clip: "null" if reason is None else f"'{reason}'" for clip, reason in verdicts.items()}
    judged = ", ".join(f"('{clip}', '{clip[:-4]}', {reason})" for clip, reason in reasons.items())
    tables = {
        "subsets.internvid_10m": (rows, names),
        "intermediate.int_pair_verdicts": (judged, "clip_id, video_id, drop_reason"),
    }
    changes = [CreateAs(t, f"select * from (values {r}) as t({n})") for t, (r, n) in tables.items()]
    return lake.commit(Write("test", "test"), changes).snapshot_id


@pytest.fixture
def states(lake: Lake) -> tuple[Lake, int]:
    """A lake whose subset was written twice, and the first snapshot; a video was taken down between."""
    put(lake, "clips.clips", [{"batch": "b", "clip_id": "taken_0_1", "video_id": "taken"}])
    first = write_state(lake, 1, OLD_VERDICTS)
    released = [{"release_id": "rel-1", "clip_id": c, "video_id": c[:-4], "captioner": "embedded", "captioner_version": a[0]}
                for c, a, _ in PAIRS if a]  # fmt: skip
    put(lake, "release.released_pairs", released)
    put(lake, "release.dataset_release", [{"release_id": "rel-1", "subset": "internvid_10m", "snapshot_id": first}])
    put(lake, "captions.captions", [{"batch": "b", "clip_id": "text_0_1", "captioner": "embedded",
                                     "captioner_version": "v1", "text": "a cat"}])  # fmt: skip
    delete_rows(lake, Target(("taken",), (), ()), "t1", "test")  # without the purge: the first state stays readable
    write_state(lake, 2, NEW_VERDICTS)
    return lake, first


def counts(found: Difference) -> dict[tuple[str, str], int]:
    return {(row["change"], row["reason"]): row["num"] for row in found.counts}


def test_by_time_travel_every_change_has_its_reason(states: tuple[Lake, int]) -> None:
    lake, first = states
    found = diff(lake, f"internvid_10m@{first}", "internvid_10m")
    assert counts(found) == EXPECTED
    assert counts(diff(lake, "rel-1", "internvid_10m")) == EXPECTED
    told = "\n".join(found.lines())
    assert "text_0_1: 'a cat' -> 'a striped cat'" in told and "score_0_1 similarity 0.5 -> 0.4" in told
    assert counts(diff(lake, "internvid_10m", "internvid_10m")) == {("same", ""): 6}
    purge(lake)
    later = counts(diff(lake, "rel-1", "internvid_10m"))  # the recorded pairs: no scores, today's verdicts
    assert later[("dropped", "nsfw")] == later[("re-captioned", "embedded v1 -> embedded v2")] == 1
    assert ("re-scored", "similarity") not in later and later[("same", "")] == 2
    assert counts(diff(lake, f"internvid_10m@{first}", "internvid_10m")) == later
    lake.connection.execute("update release.dataset_release set withdrawn_by = 't1', num_pairs = 9")
    assert counts(diff(lake, "rel-1", "internvid_10m"))[("dropped", "taken_down")] == 3  # of nine, six rows are left
    assert "snapshot is forgotten" in diff(lake, "rel-1", "internvid_10m").old
    with pytest.raises(ValueError, match=r"snapshot 99999 of internvid_10m cannot be read"):
        diff(lake, "internvid_10m@99999", "internvid_10m")
    with pytest.raises(ValueError, match="'nothing' is neither a release nor a subset"):
        diff(lake, "nothing", "internvid_10m")


@pytest.fixture
def embedded(embedded_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lake]:
    monkeypatch.setattr("internvid_assets.home._export", lambda *_: None)
    lake = Lake(embedded_settings)
    yield lake
    lake.close()


def test_from_the_shell(embedded: Lake, embedded_settings: Settings, capsys: pytest.CaptureFixture) -> None:
    first = write_state(embedded, 1, OLD_VERDICTS)
    write_state(embedded, 2, NEW_VERDICTS)
    embedded.close()
    home = ["--home", str(embedded_settings.home)]
    with pytest.raises(SystemExit) as ended:
        main(["diff", f"internvid_10m@{first}", "internvid_10m", "--json", "--examples", "1", *home])
    found = json.loads(capsys.readouterr().out)
    assert ended.value.code == 0
    assert {"change": "dropped", "reason": "nsfw", "num": 1} in found["counts"] and len(found["examples"]) == 8
    with pytest.raises(SystemExit) as ended:
        main(["diff", "nothing", "internvid_10m", *home])
    assert ended.value.code == 2 and "neither a release nor a subset" in capsys.readouterr().err

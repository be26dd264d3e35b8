"""What must not get in is refused with its reason, whichever name it goes by."""

from __future__ import annotations

from pathlib import Path

import pytest

from internvid_assets.lake import Append, Lake, Write
from internvid_assets.lake.takedown import tombstone_key
from internvid_assets.settings import GateSettings, Settings
from internvid_assets.videos.gate import exclusions

LIST = """# what we may not use
QOlSCBRmfWY # by mail
https://example.org/@channel/
/films/private
0123abcd
"""


@pytest.fixture
def refused(embedded_settings: Settings, tmp_path: Path):
    lake = Lake(embedded_settings)
    (tmp_path / "block.txt").write_text(LIST)
    takedown = {"takedown_id": "t1", "kind": "video", "item_key": tombstone_key("gone")}
    item = {"benchmark": "k400", "item": "val/abcdefghijk_1_2", "video_key": "abcdefghijk"}
    lake.commit(Write("x", "x"), [
        Append("lineage.takedowns", lake.to_arrow("lineage.takedowns", [takedown]), ("item_key",)),
        Append("videos.benchmark_items", lake.to_arrow("videos.benchmark_items", [item]), ("video_key",)),
    ])  # fmt: skip
    found = exclusions(lake, GateSettings(block_lists=(str(tmp_path / "block.txt"),)))

    def ask(sha: str = "00", video: str = "v", uri: str = "/films/a.mp4") -> tuple[str, str] | None:
        refusal = found.refusal(sha, video, uri)
        return None if refusal is None else (refusal.reason, refusal.detail)

    yield ask
    lake.close()


def test_each_kind_of_name(refused) -> None:
    assert refused() is None
    assert refused(video="gone") == ("taken_down", "takedown t1")
    assert refused(video="QOlSCBRmfWY")[0] == "blocked" and refused(video="QOlSCBRmfWY")[1].endswith("block.txt line 2")
    assert refused(sha="0123abcd")[0] == "blocked"
    assert refused(uri="https://example.org/@channel/videos/1.mp4")[0] == "blocked"
    assert refused(uri="https://example.org/@channel2/1.mp4") is None
    assert refused(uri="/films/private/deep/a.mp4")[0] == "blocked" and refused(uri="/films/privately.mp4") is None
    assert refused(video="abcdefghijk") == ("in_benchmark", "abcdefghijk belongs to k400")
    assert refused(uri="/films/abcdefghijk.webm")[0] == "in_benchmark"


def test_a_list_that_cannot_be_read_is_named(embedded_settings: Settings) -> None:
    with pytest.raises(ValueError, match=r"gate.block_lists: /nowhere cannot be read"):
        exclusions(Lake(embedded_settings), GateSettings(block_lists=("/nowhere",)))

"""A clip's source text is its section's, else its video's."""

from __future__ import annotations

from internvid_assets.captions.recipe import load_recipe
from internvid_assets.captions.write import coarse_parts
from internvid_assets.lake import Lake, Replace, Write
from internvid_assets.settings import CaptionSettings, Settings
from internvid_assets.store import open_store
from tests.captions.homes import make_home


def test_captions_of_sections_are_their_clips(embedded_settings: Settings) -> None:
    lake, store = Lake(embedded_settings), open_store(embedded_settings)
    ids = make_home(lake, store, num_videos=2, clips_per_video=3)
    rows = lake.rows("select * from videos.raw_videos order by video_id")
    rows[0] |= {"section_starts": [0.0, 1.0], "section_ends": [1.0, 2.0], "section_captions": ["first", None]}
    rows = [row | {"caption": "of all"} for row in rows]
    lake.commit(
        Write("videos.raw_videos", "t"), [Replace("videos.raw_videos", lake.to_arrow("videos.raw_videos", rows))]
    )
    recipe = load_recipe(CaptionSettings(backend="sidecar", speech_model="none"))
    for part in coarse_parts(lake, store, recipe, "b", lambda items, *_, **__: items):
        lake.commit(part.write("captions.coarse_captions", "t", "b", 0, []), part.changes)
    texts = {row["clip_id"]: row["text"] for row in lake.rows("select clip_id, text from captions.coarse_captions")}
    assert texts == dict(zip(ids, ["first", *["of all"] * 5], strict=True))
    lake.close()

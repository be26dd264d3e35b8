"""The embedded scorers on pictures whose order is plain."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from internvid_assets.clips.packs import ClipFrames, PackedFrame
from internvid_assets.scores.aesthetic import ImageStatistics, picture_score
from internvid_assets.scores.base import SCORES, ScoreItem, four_uniform, load_scorer, load_scorers
from internvid_assets.settings import CaptionSettings, ScoreSettings, Settings


def clip_of(*pictures: np.ndarray) -> ClipFrames:
    jpegs = [cv2.imencode(".png", cv2.cvtColor(p, cv2.COLOR_RGB2BGR))[1].tobytes() for p in pictures]
    return ClipFrames("clip", tuple(PackedFrame(float(i), jpeg) for i, jpeg in enumerate(jpegs)), (), float(len(jpegs)))


def scene() -> np.ndarray:
    """Sharp, colourful, well lit."""
    picture = np.full((120, 160, 3), 128, np.uint8)
    for i, colour in enumerate([(220, 40, 40), (40, 200, 60), (50, 60, 220), (230, 210, 40)]):
        cv2.rectangle(picture, (10 + 38 * i, 20), (38 + 38 * i, 100), colour, -1)
    return picture


def test_dull_blurred_and_dark_pictures_rank_lower() -> None:
    best = picture_score(scene())
    assert picture_score(cv2.GaussianBlur(scene(), (31, 31), 0)) < best
    assert picture_score((scene() * 0.15).astype(np.uint8)) < best
    assert picture_score(cv2.cvtColor(cv2.cvtColor(scene(), cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)) < best
    assert picture_score(np.full((120, 160, 3), 128, np.uint8)) < best
    assert 0 <= best <= 10


def test_the_best_of_four_frames_counts() -> None:
    black = np.zeros((120, 160, 3), np.uint8)
    mixed, plain = clip_of(black, black, scene(), black), clip_of(black, black, black, black)
    values = ImageStatistics().score([ScoreItem(mixed), ScoreItem(plain)])
    assert values[0] == pytest.approx(picture_score(scene())) and values[1] < values[0]


@pytest.mark.parametrize("count", [1, 2, 4, 7, 16])
def test_four_frames_are_spread_over_the_clip(count: int) -> None:
    frames = four_uniform(clip_of(*[scene()] * count))
    times = [frame.seconds for frame in frames]
    assert len(times) == 4 and times == sorted(times)
    assert count < 4 or len(set(times)) == 4


def test_overlay_text_is_seen_and_a_plain_scene_is_not() -> None:
    scorer = load_scorer("overlay_text", "embedded")
    written = np.full((224, 298, 3), (60, 90, 70), np.uint8)
    for row, text in enumerate(["SUBSCRIBE", "TO THIS", "CHANNEL"]):
        cv2.putText(written, text, (10, 67 + 56 * row), cv2.FONT_HERSHEY_SIMPLEX, 1.0, (255, 255, 255), 2)
    values = scorer.score([ScoreItem(clip_of(*[written] * 4)), ScoreItem(clip_of(*[scene()] * 4))])
    assert isinstance(values[0], float) and isinstance(values[1], float)
    assert values[0] > 0.05 and values[1] < 0.02


def test_a_caption_that_names_what_the_tagger_sees_scores_higher() -> None:
    from internvid_assets.captions.embedded import shared_tagger

    scorer, clip = load_scorer("similarity", "embedded"), clip_of(*[scene()] * 4)
    probabilities = shared_tagger().probabilities([clip.middle])[0]
    seen, unseen = (shared_tagger().names[i] for i in (probabilities.argmax(), probabilities.argmin()))
    fits, wrong = scorer.score([ScoreItem(clip, f"a {seen}"), ScoreItem(clip, f"a {unseen}")])
    assert isinstance(fits, float) and isinstance(wrong, float)
    assert fits > wrong + 0.1


def test_the_settings_choose_leave_out_and_give_options() -> None:
    by_name = {scorer.name: scorer for scorer in load_scorers(Settings())}
    assert tuple(by_name) == SCORES
    german = Settings(captions=CaptionSettings(language="de"), scores=ScoreSettings(nsfw="none", overlay_text="none"))
    chosen = {scorer.name: scorer.version for scorer in load_scorers(german)}
    assert set(SCORES) - chosen.keys() == {"nsfw", "overlay_text"}
    changed = {name for name, version in chosen.items() if version != by_name[name].version}
    assert changed == {"caption_language"}
    options = {"caption_language": {"language": "de"}}
    given = load_scorers(Settings(scores=ScoreSettings(options=options)))
    assert {scorer.version for scorer in given if scorer.name == "caption_language"} == {chosen["caption_language"]}


def test_wrong_settings_are_named() -> None:
    with pytest.raises(ValueError, match=r"scores\.similarity = 'umt' does not exist: choose one of embedded"):
        load_scorers(Settings(scores=ScoreSettings(similarity="umt")))
    with pytest.raises(ValueError, match=r"scores\.options\.beauty does not exist: choose one of similarity"):
        load_scorers(Settings(scores=ScoreSettings(options={"beauty": {}})))
    with pytest.warns(UserWarning, match=r"scores\.options\.nsfw has no effect: scores\.nsfw = 'none'"):
        load_scorers(Settings(scores=ScoreSettings(nsfw="none", options={"nsfw": {"x": "1"}})))

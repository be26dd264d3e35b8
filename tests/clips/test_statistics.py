"""Each statistic is what it says, on pictures made to have it and on others that have it not."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from internvid_assets.clips import ScanOptions, scan_video
from internvid_assets.clips.hashing import perceptual_hash
from tests.media import Encoding, moving_pictures, write_video

SIZE = (320, 180)
ONE_CLIP = ScanOptions(min_clip_seconds=0, threshold=250.0)


def statistics(folder: Path, pictures: list[np.ndarray], **options) -> dict:
    encoding = Encoding("ffv1", ".mkv", "yuv444p")
    scan = scan_video(write_video(folder / "video.mkv", pictures, encoding, **options), ONE_CLIP)
    [clip] = scan.clips
    return clip.statistics


def noise(rng: np.random.Generator, low: int = 20, high: int = 235) -> np.ndarray:
    return rng.integers(low, high, (SIZE[1], SIZE[0], 3), dtype=np.uint8)


def test_brightness_and_black(tmp_path: Path) -> None:
    frames = [np.full((SIZE[1], SIZE[0], 3), level, np.uint8) for level in [0] * 30 + [200] * 10]
    found = statistics(tmp_path, frames)
    assert found["black_share"] == 0.75
    limited = (16 + 219 * 200 / 255) / 255  # luma in limited range
    assert found["brightness"] == pytest.approx(0.25 * limited + 0.75 * 16 / 255, abs=0.005)


def test_borders_are_what_stays_black_at_the_edges(tmp_path: Path) -> None:
    pictures = moving_pictures(20, SIZE)
    for picture in pictures:
        picture[:30] = picture[-15:] = picture[:, :80] = 0
    assert statistics(tmp_path, pictures)["border_share"] == pytest.approx(1 - 135 / 180 * 240 / 320, abs=0.03)
    for number, picture in enumerate(pictures):
        picture[number : number + 12, 20:60] = 255  # something moves through the bars
    assert statistics(tmp_path, pictures)["border_share"] < 0.3


def test_stills_slideshows_and_motion_differ(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pages = [cv2.GaussianBlur(noise(rng), (0, 0), 9) for _ in range(3)]
    still = statistics(tmp_path, [pages[0]] * 50)
    slides = statistics(tmp_path, [page for page in pages for _ in range(30)])
    camera = statistics(tmp_path, moving_pictures(50, SIZE))
    flicker = statistics(tmp_path, [noise(rng) for _ in range(30)])
    assert (still["still_share"], still["num_static_runs"], still["motion_mean"]) == (1.0, 1, 0.0)
    assert slides["num_static_runs"] == 3 and 0.9 < slides["still_share"] < 1
    assert (camera["still_share"], camera["num_static_runs"]) == (0.0, 0)
    assert still["motion_mean"] < slides["motion_mean"] < camera["motion_mean"] < flicker["motion_mean"]
    assert flicker["motion_mean"] > 0.15 and flicker["motion_peak"] >= flicker["motion_mean"]


def test_a_small_object_before_a_resting_camera_is_no_still(tmp_path: Path) -> None:
    frames = [np.full((SIZE[1], SIZE[0], 3), 90, np.uint8) for _ in range(50)]
    for number, frame in enumerate(frames):
        frame[80:100, 20 + 4 * number : 40 + 4 * number] = 220
    found = statistics(tmp_path, frames)
    assert found["still_share"] < 0.1 and found["motion_mean"] < 0.02


def test_a_screen_is_flat_and_static_and_a_camera_is_neither(tmp_path: Path) -> None:
    page = np.full((SIZE[1], SIZE[0], 3), 245, np.uint8)
    for line in range(6):
        cv2.putText(page, "def scan(video):", (20, 30 + 25 * line), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (20, 20, 20), 1)
    screen = [page.copy() for _ in range(50)]
    for number, frame in enumerate(screen):
        cv2.circle(frame, (60 + 3 * number // 10 * 10, 90), 5, (200, 0, 0), -1)
    rng = np.random.default_rng(0)
    camera = [
        np.clip(p.astype(int) + rng.integers(-9, 10, p.shape), 0, 255).astype(np.uint8)
        for p in moving_pictures(50, SIZE)
    ]
    drawn, filmed = statistics(tmp_path, screen), statistics(tmp_path, camera)
    assert drawn["static_share"] > 0.8 and drawn["flat_share"] > 0.75 and drawn["still_share"] > 0.5
    assert filmed["static_share"] < 0.1 and filmed["flat_share"] < 0.3


def test_perceptual_hashes_are_near_for_copies_only() -> None:
    def jpeg(picture: np.ndarray, quality: int = 90) -> bytes:
        return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()

    rng = np.random.default_rng(0)
    one, other = (cv2.GaussianBlur(noise(rng), (0, 0), 12) for _ in range(2))
    smaller = cv2.resize(one, (160, 90), interpolation=cv2.INTER_AREA)
    distance = [
        (perceptual_hash(jpeg(one)) ^ perceptual_hash(data)).bit_count() for data in (jpeg(smaller, 40), jpeg(other))
    ]
    assert distance[0] <= 10 and distance[1] >= 16

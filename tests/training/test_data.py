"""Sample order, frame choice and shard reading."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import webdataset
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from training.data import EpochOrder, ShardManifest, ShardReader, TrainingClips, batches, choose_frames, decode, resized
from training.data.crops import Crop, Window, augmented, max_bytes, random_window, resize_on_device
from training.data.frames import decode_small
from training.data.randaugment import OPERATIONS, rand_augment
from training.recipe import DataConfig

sizes = st.lists(st.integers(1, 12), min_size=1, max_size=8)


@given(sizes, st.integers(1, 10), st.integers(0, 5), st.integers(1, 4))
def test_an_epoch_holds_every_sample_at_most_once(num_samples: list[int], batch: int, seed: int, window: int) -> None:
    batch = min(batch, sum(num_samples))
    order = EpochOrder(tuple(num_samples), batch, seed, window)
    for epoch in range(2):
        steps = range(epoch * order.steps_per_epoch, (epoch + 1) * order.steps_per_epoch)
        seen = [key for step in steps for key in order.batch(step)]
        assert all(e == epoch for e, _ in seen)
        assert len(seen) == len(set(seen)) == order.steps_per_epoch * batch
        assert sum(num_samples) - len(seen) < batch


def test_order_depends_on_seed_and_epoch_only() -> None:
    first, again, other = (EpochOrder((8, 8, 8, 6), 5, seed, 2) for seed in (1, 1, 2))
    assert first.batch(7) == again.batch(7)
    assert [n for _, n in first.batch(0)] != [n for _, n in other.batch(0)]
    assert [n for _, n in first.batch(0)] != [n for _, n in first.batch(first.steps_per_epoch)]


@given(st.integers(1, 40), st.integers(1, 16), st.integers(0, 9))
def test_frames_are_ordered_one_a_span(num_stored: int, num_wanted: int, seed: int) -> None:
    middle = choose_frames(num_stored, num_wanted, None)
    chosen = choose_frames(num_stored, num_wanted, np.random.default_rng(seed))
    for frames in (middle, chosen):
        assert len(frames) == num_wanted and frames == sorted(frames)
        assert frames[0] >= 0 and frames[-1] < num_stored
    if num_stored % num_wanted == 0:
        span = num_stored // num_wanted
        assert [frame // span for frame in chosen] == list(range(num_wanted))


def test_shards_are_read_as_they_were_written(shards: Path) -> None:
    reader = ShardReader(ShardManifest.read(shards))
    samples = [reader[number] for number in range(len(reader))]
    assert len(samples) == 30 and len({sample.clip_id for sample in samples}) == 30
    assert all(len(sample.frames) == 8 and sample.video_id in sample.clip_id for sample in samples)
    theirs = webdataset.WebDataset(sorted(str(p) for p in shards.glob("*.tar")), shardshuffle=False)
    for ours, sample in zip(samples, theirs, strict=True):
        assert (ours.clip_id, ours.caption, ours.frames[3]) == (
            sample["__key__"],
            sample["txt"].decode(),
            sample["f03.jpg"],
        )


def test_augmentation_is_a_function_of_seed_epoch_and_number(shards: Path) -> None:
    reader = ShardReader(ShardManifest.read(shards))
    plain, cached = (TrainingClips(reader, DataConfig(cache_frames=c), 4, 32, seed=1) for c in (False, True))
    video = plain[0, 5]["crop"].video(32)
    assert video.shape == (4, 3, 32, 32)
    assert np.array_equal(video, cached[0, 5]["crop"].video(32))
    assert not np.array_equal(video, plain[1, 5]["crop"].video(32))


@pytest.mark.parametrize(("side", "size"), [(48, 40), (48, 32), (100, 32)])
def test_crops_look_the_same_whoever_resizes_them(side: int, size: int) -> None:
    """The loader resizes large ones, the step others; the pixels are those of cropping, flipping and resizing."""
    pictures = list(np.random.default_rng(0).integers(0, 255, (2, side, side, 3), dtype=np.uint8))
    memory = np.empty(max_bytes(2, size), np.uint8)
    flips = set()
    for seed in range(8):
        crop = augmented(pictures, size, DataConfig(), np.random.default_rng(seed), memory)
        rng = np.random.default_rng(seed)
        window = random_window(side, side, 0.5, rng)
        flips.add(flip := rng.random() < 0.5)
        cuts = [window.of(picture) for picture in pictures]
        assert np.array_equal(crop.video(size), resized([cv2.flip(c, 1) if flip else c for c in cuts], size))
    assert flips == {False, True}


def test_frames_of_two_sizes_are_refused() -> None:
    pictures = [np.zeros((40, 40, 3), np.uint8), np.zeros((40, 50, 3), np.uint8)]
    with pytest.raises(ValueError, match=r"differ in size: \(40, 40\) and \(40, 50\)"):
        augmented(pictures, 32, DataConfig(), np.random.default_rng(0), np.empty(max_bytes(2, 32), np.uint8))


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(("height", "width", "size"), [(60, 76, 64), (40, 30, 64), (64, 64, 64)])
def test_torch_resizes_as_opencv(height: int, width: int, size: int, flip: bool) -> None:
    crop = Crop(smooth_pictures(height, width), Window(0, 0, height, width), flip)
    ours = resize_on_device(torch.from_numpy(crop.frames_THWC), flip, size).numpy()
    difference = np.abs(ours.astype(int) - crop.video(size))
    assert difference.max() <= 1 and difference.mean() < 0.1


def smooth_pictures(height: int, width: int) -> np.ndarray:
    coarse = np.random.default_rng(0).integers(0, 255, (3, 6, 8, 3), dtype=np.uint8)
    return np.stack([cv2.resize(picture, (width, height), interpolation=cv2.INTER_CUBIC) for picture in coarse])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("workers", [0, 1])
def test_a_gpu_resizes_as_the_cpu(shards: Path, workers: int) -> None:
    manifest = ShardManifest.read(shards)
    clips = TrainingClips(ShardReader(manifest), DataConfig(), 4, 40, seed=1)
    order = EpochOrder(manifest.num_samples, 6, 1, 2)
    for batch in batches(clips, order, range(4), 0, 1, workers):
        video_BTCSS = batch.video("cuda")
        assert video_BTCSS.is_cuda and video_BTCSS.dtype == torch.uint8
        assert (video_BTCSS.cpu().int() - batch.video().int()).abs().max() <= 2


def test_pictures_are_resized_whole() -> None:
    picture = np.zeros((40, 80, 3), np.uint8)
    picture[:, 40:] = 255
    small = resized([picture], 16)
    assert small.shape == (1, 3, 16, 16) and small[0, 0, :, :7].max() == 0 and small[0, 0, :, 9:].min() == 255


@pytest.mark.parametrize(("height", "width", "size"), [(240, 320, (64, 85)), (100, 90, (71, 64)), (50, 60, (50, 60))])
def test_cached_pictures_are_small_and_look_the_same(height: int, width: int, size: tuple[int, int]) -> None:
    smooth = cv2.resize(np.random.default_rng(0).integers(0, 255, (4, 5, 3), dtype=np.uint8), (width, height))
    jpeg = cv2.imencode(".jpg", smooth, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    [small] = decode_small([jpeg], 64)
    assert small.shape[:2] == size
    whole = cv2.resize(decode(jpeg), size[::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(small.astype(int) - whole).mean() < 3


def test_frames_are_decoded_as_by_opencv_and_never_in_part() -> None:
    jpeg = cv2.imencode(".jpg", smooth_pictures(62, 85)[0])[1].tobytes()
    memory = np.zeros(62 * 85 * 3 + 5, np.uint8)
    picture = decode(jpeg, memory)
    assert np.array_equal(picture, cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR_RGB))
    assert np.array_equal(memory[:-5].reshape(62, 85, 3), picture) and not memory[-5:].any()
    for damaged in (jpeg[: len(jpeg) // 2], b"", b"GIF89a"):
        with pytest.raises(ValueError, match="not a whole JPEG"):
            decode(damaged)


def test_stored_frames_of_two_sizes_are_refused() -> None:
    jpegs = [cv2.imencode(".jpg", smooth_pictures(40, width)[0])[1].tobytes() for width in (40, 50)]
    for frames in (jpegs, jpegs[::-1]):
        with pytest.raises(ValueError, match="differ in size"):
            augmented(frames, 32, DataConfig(), np.random.default_rng(0), np.empty(max_bytes(2, 32), np.uint8))


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_arrive_in_order_ready_for_the_model(shards: Path, workers: int) -> None:
    manifest = ShardManifest.read(shards)
    clips = TrainingClips(ShardReader(manifest), DataConfig(), 4, 32, seed=1)
    order = EpochOrder(manifest.num_samples, 6, 1, 2)
    for step, batch in enumerate(batches(clips, order, range(1, 5), 1, 2, workers), start=1):
        keys = order.batch(step)[3:]
        video = batch.video()
        assert video.shape == (3, 4, 3, 32, 32) and video.dtype == torch.uint8
        assert all(np.array_equal(own, clips[key]["crop"].video(32)) for own, key in zip(video, keys, strict=True))
        assert batch.captions == [clips[key]["caption"] for key in keys]
        assert batch.tokens_BL.shape == (3, 32) and not batch.broken


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "manifest.json").unlink(), "lacks manifest.json"),
        (lambda f: (f / "train-000001.tar").write_bytes(b"torn"), "has 4 bytes"),
        (lambda f: (f / "train-000002.tar").unlink(), "has None bytes"),
        (lambda f: _set(f, "format", "other/9"), "'other/9'"),
    ],
)
def test_torn_shards_are_named(shards: Path, tmp_path: Path, damage, message: str) -> None:
    folder = shutil.copytree(shards, tmp_path / "torn")
    damage(folder)
    with pytest.raises(ValueError, match=message):
        ShardManifest.read(folder)


def _set(folder: Path, name: str, value: str) -> None:
    values = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(values | {name: value}))


def test_randaugment_does_the_same_to_all_frames_of_a_clip() -> None:
    frames = [smooth_pictures(40, 60)[0]] * 3
    seen = set()
    for seed in range(40):
        done = rand_augment(frames, 4, 7.0, np.random.default_rng(seed))
        assert all(np.array_equal(done[0], other) for other in done[1:]) and done[0].shape == (40, 60, 3)
        again = rand_augment(frames[:1], 4, 7.0, np.random.default_rng(seed))
        assert np.array_equal(done[0], again[0])
        seen.add(done[0].tobytes())
    assert len(seen) > 25
    assert np.array_equal(rand_augment(frames, 0, 7.0, np.random.default_rng(0))[0], frames[0])


@pytest.mark.parametrize("name", list(OPERATIONS))
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_operations_grow_with_their_strength(name: str, sign: float) -> None:
    """No strength is no change, where an operation has one; all of it changes much, and none fails at either end."""
    picture = Image.fromarray(smooth_pictures(40, 60)[0])
    changes = [
        np.abs(np.asarray(OPERATIONS[name](picture, strength, sign)).astype(int) - np.asarray(picture)).mean()
        for strength in (0.0, 0.5, 1.0)
    ]
    if name in ("auto_contrast", "equalize", "invert"):
        assert changes[0] == changes[1] == changes[2] > 0
    elif name == "posterize":
        assert 1 < changes[0] < changes[1] < changes[2]
    elif name.startswith("translate"):
        assert changes[0] < 1e-9 < 1 < min(changes[1:])
    else:
        assert changes[0] < 1e-9 < changes[1] < changes[2]


def test_operations_move_as_far_as_the_recipe_says() -> None:
    picture = Image.fromarray(smooth_pictures(40, 60)[0])
    moved = np.asarray(OPERATIONS["translate_x"](picture, 2 / 9, 1.0))  # of 0.45 of the width: 6 pixels
    assert np.abs(moved[:, :53].astype(int) - np.asarray(picture)[:, 6:59]).max() <= 1
    assert (moved[:, 55:] == (124, 116, 104)).all()
    dark = Image.fromarray(np.full((2, 2, 3), 100, np.uint8))
    assert np.asarray(OPERATIONS["solarize_add"](dark, 0.5, 1.0)).max() == 155
    assert np.asarray(OPERATIONS["brightness"](dark, 0.5, -1.0)).max() == 55


def test_crops_are_taken_from_augmented_frames() -> None:
    frames = list(smooth_pictures(48, 64))
    config = DataConfig(rand_augment=2, min_crop_area=1.0, horizontal_flip=False)
    memory = np.empty(max_bytes(3, 40), np.uint8)
    crop = augmented(frames, 40, config, np.random.default_rng(3), memory)
    wanted = rand_augment(frames, 2, 7.0, np.random.default_rng(3))
    assert np.array_equal(crop.video(40), resized(wanted, 40))

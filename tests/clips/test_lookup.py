"""The look-up by equal parts of hashes finds what comparing everything with everything finds."""

from __future__ import annotations

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from internvid_assets.clips import lookup
from internvid_assets.clips.lookup import MAX_BITS, find_matches

RNG = np.random.default_rng(7)
SCHEMA = pa.schema(
    [("no", pa.uint32()), ("video", pa.string()), ("is_reference", pa.bool_()), ("is_new", pa.bool_()), ("start_seconds", pa.float64()),
     ("hash_seconds", pa.list_(pa.float64())), ("frame_hashes", pa.list_(pa.uint64())), ("frame_hash_details", pa.list_(pa.uint64()))]
)  # fmt: skip


def drawn(num_frames: int = 4) -> np.ndarray:
    """uint64 [frames, crops, words]."""
    return RNG.integers(0, 2**64, (num_frames, 3, 4), np.uint64)


def flipped(hashes: np.ndarray, share: float) -> np.ndarray:
    bits = RNG.random((*hashes.shape, 64)) < share
    return hashes ^ np.packbits(bits, axis=-1).view(">u8")[..., 0].astype(np.uint64)


def item(no: int, hashes: np.ndarray, start: float = 0.0, **more) -> dict:
    return {
        "no": no, "video": f"v{no}", "is_reference": False, "is_new": True, "start_seconds": start,
        "hash_seconds": [0.7 * n for n in range(len(hashes))], "frame_hashes": hashes[:, :, 0].reshape(-1).tolist(),
        "frame_hash_details": hashes[:, :, 1:].reshape(-1).tolist(), **more,
    }  # fmt: skip


def found(rows: list[dict]) -> dict[tuple[int, int], tuple[int, float, float]]:
    connection = duckdb.connect()
    connection.execute("attach ':memory:' as work")
    connection.register("rows", pa.Table.from_pylist(rows, SCHEMA))
    connection.execute("create table work.items as from rows")
    find_matches(connection, "work", "from work.wanted")
    answer = connection.execute("select a, b, num_frames, distance_bits, offset_seconds from work.matches").fetchall()
    assert len({(a, b) for a, b, *_ in answer}) == len(answer)
    return {(a, b): rest for a, b, *rest in answer}


def brute(rows: list[dict], hashes: list[np.ndarray]) -> set[tuple[int, int]]:
    """Pairs of clips with frames, the whole of one against any crop of the other, within the limit."""
    pairs = set()
    for a in range(len(rows)):
        for b in range(a):
            one, other = hashes[a], hashes[b]
            bits = min(
                np.bitwise_count(x[:, None] ^ y[None]).sum(-1).min()
                for crop in range(3)
                for x, y in ((one[:, 0], other[:, crop]), (one[:, crop], other[:, 0]))
            )
            if bits <= MAX_BITS:
                pairs.add((a, b))
    return pairs


def test_it_finds_what_brute_force_finds() -> None:
    hashes = [drawn() for _ in range(300)]
    planted = set()
    for number in range(100):
        share = (0.01, 0.03, 0.05)[number % 3]
        copy = flipped(hashes[number], share)
        if number % 2:
            copy = np.concatenate([drawn(2), copy[2:]])  # half of the frames
        if number % 5 == 0:
            copy[:, 0], copy[:, 1:] = flipped(hashes[number][:, 2], share), drawn()[:, 1:]  # a crop
        hashes.append(copy)
        planted.add((len(hashes) - 1, number))
    rows = [item(no, of) for no, of in enumerate(hashes)]
    expected, answer = brute(rows, hashes), found(rows)
    assert planted <= expected
    assert set(answer) <= expected and len(set(answer) & planted) >= 0.98 * len(planted)


def test_the_evidence_is_the_frames_that_agree_at_one_offset() -> None:
    original = drawn(5)
    copy = flipped(original[1:], 0.03)
    shuffled = copy[::-1].copy()
    answer = found([item(0, original, start=10.0), item(1, copy, start=2.0), item(2, shuffled, start=2.0)])
    num_frames, bits, offset = answer[1, 0]
    assert num_frames == 4 and 2 < bits < 20 and offset == pytest.approx(2.0 - 10.7)
    assert answer[2, 0][0] == 1  # in another order no two agree at one offset


def test_videos_of_their_own_references_among_themselves_and_old_pairs_are_left_out() -> None:
    same = drawn()
    assert found([item(0, same), item(1, same, video="v0")]) == {}
    assert found([item(0, same, is_reference=True), item(1, same, is_reference=True)]) == {}
    assert set(found([item(0, same, is_reference=True), item(1, same)])) == {(1, 0)}
    old = {"is_new": False}
    assert set(found([item(0, same, **old), item(1, same, **old), item(2, same)])) == {(2, 0), (2, 1)}
    assert found([item(0, same, **old), item(1, same, **old)]) == {}


def test_a_crowded_bucket_costs_no_more_than_its_size(monkeypatch) -> None:
    monkeypatch.setattr(lookup, "_CANDIDATES", lookup._CANDIDATES.replace(str(lookup._BUCKET_LIMIT), "16"))
    same = drawn(1)
    answer = found([item(no, same) for no in range(200)])
    assert {a for a, _ in answer} == set(range(1, 200)), "every copy matches one of the first"
    assert max(b for _, b in answer) < 16 and len(answer) < 200 * 16


@pytest.mark.parametrize(("rows", "bits"), [(100, 20), (2**20, 20), (150_000_000, 27), (2**60, 39)])
def test_keys_grow_with_the_number_of_rows(rows: int, bits: int) -> None:
    masks = lookup.key_masks(rows)
    assert len(masks) == lookup.NUM_TABLES and {mask.bit_count() for mask in masks} == {bits}
    assert not any(mask & (1 << 63 | 2**24 - 1) for mask in masks), "only low frequencies but the constant term"

"""Which clips share frames: candidates by equal parts of their hashes, then all 256 bits and the times (ADR 11).

Everything is SQL over one database file, so what does not fit into memory lies on disk.

Source: Indyk and Motwani, Approximate Nearest Neighbors, 1998 (bit sampling: tables keyed by some bits of a hash).
"""

from __future__ import annotations

import random

import duckdb

from internvid_assets.clips.hashing import CROPS, WORDS

MAX_BITS = 72
"""Two frames agree when their hashes differ in at most so many of 256 bits; unrelated ones differ in 128 on average, and
on the footage of `bench.dedup` in 90 or more."""
NUM_TABLES = 8
_MIN_KEY_BITS = 20
_NUM_KEYED_BITS = 40
_MAX_WORD_BITS = 10
"""A candidate's first words differ in at most so many of 64 bits."""
_BUCKET_LIMIT = 64
_SAMPLE = 8
"""Buckets are counted by one clip in so many."""
_ROWS_A_PART = 20_000_000
_PAIRS_A_PART = 2_000_000
"""What counts and medians hold is beside DuckDB's memory limit."""
_BIN_SECONDS = 0.4
_NUM_CROPS = len(CROPS)


def find_matches(connection: duckdb.DuckDBPyConnection, database: str, looks: str) -> None:
    """Fill `{database}.matches` (a, b, num_frames, distance_bits, offset_seconds) from `{database}.items`.

    Pairs have a > b; they are of different videos, one of them is new, and one no reference.

    Args:
        database: attached; its table `items` has (no uinteger, video varchar, is_reference, is_new, …). `no` is an order: of a
            hash that very many frames have, the first few stand for all.
        looks: a SELECT of (no, start_seconds, hash_seconds, frame_hashes, frame_hash_details) for the rows of
            `{database}.wanted`: all items at first, then the candidates.
    """

    def run(sql: str, **values: int) -> None:
        connection.execute(sql.format(db=database, **values))

    def value(sql: str) -> int:
        row = connection.execute(sql.format(db=database)).fetchone()
        assert row is not None
        return row[0]

    run("create view {db}.wanted as from {db}.items")
    connection.execute(f"create view {database}.looks as {looks}")
    run(_FRAMES)
    num_rows = value("select count(*) from {db}.frames")
    num_new = value("select count(*) from {db}.frames where is_new")
    of_new = "true" if num_new == num_rows else _OF_NEW
    num_parts = 1 + num_rows // _ROWS_A_PART
    run("create or replace table {db}.found (a uinteger, b uinteger)")
    for mask in key_masks(num_rows) if num_new else ():
        for part in range(num_parts):
            run(_CANDIDATES.replace("{of_new}", of_new), mask=mask, num_parts=num_parts, part=part)
    run("create or replace table {db}.pairs as select distinct a, b from {db}.found")
    run("drop table {db}.frames")
    run("drop view {db}.wanted")
    run(
        "create table {db}.wanted as from {db}.items where no in (select a from {db}.pairs union select b from {db}.pairs)"
    )
    run(_DETAILS)
    run(_HITS)
    num_parts = 1 + value("select count(*) from {db}.pairs") // _PAIRS_A_PART
    run(_NO_MATCHES)
    for part in range(num_parts):
        run(_MATCHES, num_parts=num_parts, part=part)


def key_masks(num_rows: int) -> list[int]:
    """For each table the bits of the first word that must be equal: 20, or enough for a bucket to hold one or two rows.

    They are drawn from those of the lowest frequencies, which change least from copy to copy, but the constant one.
    """
    num_bits = min(_NUM_KEYED_BITS - 1, max(_MIN_KEY_BITS, num_rows.bit_length() - 1))
    draws = [random.Random(table).sample(range(1, _NUM_KEYED_BITS), num_bits) for table in range(NUM_TABLES)]
    return [sum(1 << (63 - bit) for bit in bits) for bits in draws]


_FRAMES = f"""
create or replace table {{db}}.frames as
select no, video, is_reference, is_new, (place % {_NUM_CROPS})::utinyint as crop, word
from (
    select items.no, (hash(items.video) >> 32)::uinteger as video, items.is_reference, items.is_new,
        unnest(looks.frame_hashes) as word, unnest(range(len(looks.frame_hashes))) as place
    from {{db}}.items inner join {{db}}.looks on items.no = looks.no
)
"""
_OF_NEW = "word & {mask} in (select word & {mask} from {db}.frames where is_new)"
_CANDIDATES = f"""
insert into {{db}}.found
with keyed as materialized (
    select no, video, is_reference, is_new, crop, word, word & {{mask}} as key from {{db}}.frames
    where hash(word & {{mask}}) % {{num_parts}} = {{part}} and {{of_new}}
),
crowded as materialized (
    select key from keyed where no % {_SAMPLE} = 0 group by key having count(*) > {_BUCKET_LIMIT} // {_SAMPLE}
),
looked_up as (
    select no, video, is_reference, is_new, crop, word, key from keyed anti join crowded using (key)
    union all
    select no, video, is_reference, is_new, crop, word, key from keyed semi join crowded using (key)
    qualify row_number() over (partition by key order by no, word) <= {_BUCKET_LIMIT}
)
select distinct greatest(one.no, other.no), least(one.no, other.no)
from keyed as one inner join looked_up as other on one.key = other.key
where (one.crop = 0 or one.crop = other.crop) and one.video <> other.video and (one.is_new or other.is_new)
    and not (one.is_reference and other.is_reference)
    and bit_count(xor(one.word, other.word)) <= {_MAX_WORD_BITS}
"""
_DETAILS = f"""
create or replace table {{db}}.details as
select no, place // {_NUM_CROPS} as frame, place % {_NUM_CROPS} as crop,
    start_seconds + hash_seconds[place // {_NUM_CROPS} + 1] as seconds, frame_hashes[place + 1] as word_0,
    {", ".join(f"frame_hash_details[{WORDS - 1} * place + {n}] as word_{n}" for n in range(1, WORDS))}
from (
    select *, unnest(range(len(frame_hashes))) as place
    from {{db}}.looks semi join {{db}}.wanted using (no)
)
"""
_BITS = " + ".join(f"bit_count(xor(one.word_{n}, other.word_{n}))::smallint" for n in range(WORDS))
_HITS = f"""
create or replace table {{db}}.hits as
select pairs.a, pairs.b, one.frame as frame_a, other.frame as frame_b, min({_BITS}) as bits,
    any_value(one.seconds - other.seconds) as offset_seconds
from {{db}}.pairs
inner join {{db}}.details as one on pairs.a = one.no
inner join {{db}}.details as other on pairs.b = other.no
where (one.crop = 0 or other.crop = 0 or one.crop = other.crop) and {_BITS} <= {MAX_BITS}
group by all
"""
_NO_MATCHES = """
create or replace table {db}.matches
    (a uinteger, b uinteger, num_frames integer, distance_bits double, offset_seconds double)
"""
_MATCHES = f"""
insert into {{db}}.matches by name
with placed as (
    select *, unnest([floor(offset_seconds / {_BIN_SECONDS}), floor(offset_seconds / {_BIN_SECONDS} + 0.5) + 0.5]) as bin
    from {{db}}.hits where a % {{num_parts}} = {{part}}
)
select a, b, least(count(distinct frame_a), count(distinct frame_b))::integer as num_frames, avg(bits) as distance_bits,
    median(offset_seconds) as offset_seconds
from placed group by a, b, bin
qualify row_number() over (partition by a, b order by num_frames desc, distance_bits, bin) = 1
"""

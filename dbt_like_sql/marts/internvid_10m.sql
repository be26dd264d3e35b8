-- stage: marts
-- grain: one row per pair, drawn uniformly
-- refs: subsets.filtered_pairs
-- question: What does an untouched random subset look like (P§4)?
-- parameters: internvid_10m_size 10000000, seed 42
with pool as (select * from subsets.filtered_pairs)

select
    pool.clip_id,
    pool.video_id,
    pool.source_uri,
    pool.start_seconds,
    pool.end_seconds,
    pool.duration_seconds,
    pool.caption,
    pool.captioner,
    pool.captioner_version,
    pool.num_words,
    pool.similarity,
    pool.aesthetic,
    pool.overlay_text,
    pool.language,
    pool.license
from pool
order by -ln(((('0x' || substr(md5(coalesce(getvariable('seed'), 42)::varchar || ':' || pool.clip_id), 1, 13))::bigint + 0.5) / 4503599627370496)), pool.clip_id
limit coalesce(getvariable('internvid_10m_size'), 10000000)

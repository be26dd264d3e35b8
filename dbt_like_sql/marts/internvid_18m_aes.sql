-- stage: marts
-- grain: one row per pretty and well-described pair
-- refs: subsets.filtered_pairs
-- question: Which clips suit generation (P§4.2: aesthetic at least 4, and a relation to the text)?
-- parameters: internvid_18m_aes_size 18000000, aes_min_aesthetic 4, aes_min_similarity (none: the pool's median), seed 42
with every_pair as (select * from subsets.filtered_pairs),

floor as (select coalesce(getvariable('aes_min_similarity'), median(similarity)) as min_similarity from every_pair),

pool as (
    select every_pair.*
    from every_pair
    cross join floor
    where
        every_pair.aesthetic >= coalesce(getvariable('aes_min_aesthetic'), 4)
        and every_pair.similarity >= floor.min_similarity
)

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
limit coalesce(getvariable('internvid_18m_aes_size'), 18000000)

-- stage: marts
-- grain: one row per pair of the best-fitting share, then drawn as DIV
-- refs: subsets.filtered_pairs
-- question: What if only well-described clips were kept (P§4: top 30 % of similarity, then DIV)?
-- parameters: internvid_10m_flt_size 10647458, flt_share 0.3, seed 42
with ranked as (
    select
        *,
        row_number() over (order by similarity desc nulls last, clip_id) as place,
        count(*) over () as num_pairs
    from subsets.filtered_pairs
),

pool as (select * from ranked where place <= ceil(num_pairs * coalesce(getvariable('flt_share'), 0.3))),

weighed as (select pool.*, count(*) over (partition by pool.video_id) as num_clips_of_video from pool)

select
    weighed.clip_id,
    weighed.video_id,
    weighed.source_uri,
    weighed.start_seconds,
    weighed.end_seconds,
    weighed.duration_seconds,
    weighed.caption,
    weighed.captioner,
    weighed.captioner_version,
    weighed.num_words,
    weighed.similarity,
    weighed.aesthetic,
    weighed.overlay_text,
    weighed.language,
    weighed.license
from weighed
order by -ln(((('0x' || substr(md5(coalesce(getvariable('seed'), 42)::varchar || ':' || weighed.clip_id), 1, 13))::bigint + 0.5) / 4503599627370496)) * weighed.num_clips_of_video, weighed.clip_id
limit coalesce(getvariable('internvid_10m_flt_size'), 10647458)

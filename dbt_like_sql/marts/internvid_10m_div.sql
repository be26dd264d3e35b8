-- stage: marts
-- grain: one row per pair, drawn with a weight of one over the clips of its video
-- refs: subsets.filtered_pairs
-- question: What if every video counted alike (P§4, the released div_sampling.py)?
-- parameters: internvid_10m_div_size 10647458, seed 42
with pool as (select * from subsets.filtered_pairs),

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
limit coalesce(getvariable('internvid_10m_div_size'), 10647458)

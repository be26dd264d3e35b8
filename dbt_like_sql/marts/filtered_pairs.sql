-- stage: marts
-- grain: one row per clip-caption pair that every filter keeps
-- refs: intermediate.int_pair_verdicts, staging.stg_clips
-- question: What is the pool that all subsets draw from?
-- parameters: none
with verdicts as (select * from intermediate.int_pair_verdicts),

clips as (select * from staging.stg_clips)

select
    clips.clip_id,
    clips.video_id,
    clips.source_uri,
    clips.start_seconds,
    clips.end_seconds,
    clips.duration_seconds,
    verdicts.caption,
    verdicts.captioner,
    verdicts.captioner_version,
    verdicts.num_words,
    verdicts.similarity,
    verdicts.aesthetic,
    verdicts.overlay_text,
    verdicts.nsfw,
    clips.language,
    clips.license
from verdicts
inner join clips on verdicts.clip_id = clips.clip_id
where verdicts.drop_reason is null

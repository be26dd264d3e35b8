-- stage: intermediate
-- grain: one row per clip
-- refs: intermediate.best_captions, intermediate.int_duplicate_clips, intermediate.int_near_duplicates, scores.semantic_duplicates, staging.stg_clip_scores, staging.stg_clips
-- question: Is a clip kept with the text that speaks for it (drop_reason null), or why not? Nothing is dropped silently; what was not judged is kept.
-- parameters: max_nsfw 0.98, max_overlay_text 0.35, min_similarity -1
with clips as (select * from staging.stg_clips),

scores as (select * from staging.stg_clip_scores),

duplicates as (
    select clips.clip_id from clips semi join intermediate.int_near_duplicates as videos on clips.video_id = videos.video_id
    union
    select clip_id from intermediate.int_duplicate_clips
),

semantic as (select clip_id from scores.semantic_duplicates),

captions as (select * from intermediate.best_captions)

select
    clips.clip_id,
    clips.video_id,
    captions.captioner,
    captions.captioner_version,
    captions.caption,
    captions.num_words,
    captions.similarity,
    scores.aesthetic,
    scores.overlay_text,
    scores.nsfw,
    coalesce(
        clips.drop_reason,
        case
            when duplicates.clip_id is not null then 'near_duplicate'
            when semantic.clip_id is not null then 'semantic_duplicate'
            when scores.nsfw >= coalesce(getvariable('max_nsfw'), 0.98) then 'nsfw'
            when captions.caption is null then 'no_caption'
            when scores.overlay_text >= coalesce(getvariable('max_overlay_text'), 0.35) then 'overlay_text'
            when captions.fault is not null then captions.fault
            when captions.similarity < coalesce(getvariable('min_similarity'), -1) then 'low_similarity'
        end
    ) as drop_reason
from clips
left join captions on clips.clip_id = captions.clip_id
left join scores on clips.clip_id = scores.clip_id
left join duplicates on clips.clip_id = duplicates.clip_id
left join semantic on clips.clip_id = semantic.clip_id

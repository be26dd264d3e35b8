-- stage: staging
-- grain: one row per clip and captioner version
-- refs: captions.captions, scores.clip_scores
-- question: Which texts does a clip have, and how well does each fit? The newest scorer version of a text counts.
-- parameters: similarity_version (none: the greatest)
with captions as (select * from captions.captions),

similarities as (
    select
        clip_id,
        captioner,
        captioner_version,
        max_by(value, scorer_version) as similarity
    from scores.clip_scores
    where
        scorer = 'similarity'
        and scorer_version = coalesce(getvariable('similarity_version')::varchar, scorer_version)
    group by clip_id, captioner, captioner_version
)

select
    captions.clip_id,
    captions.captioner,
    captions.captioner_version,
    captions.text as caption,
    captions.num_words,
    similarities.similarity
from captions
left join similarities using (clip_id, captioner, captioner_version)

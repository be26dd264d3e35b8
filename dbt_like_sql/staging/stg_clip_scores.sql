-- stage: staging
-- grain: one row per clip
-- refs: scores.clip_scores
-- question: What are the scores of a clip that do not look at a caption?
-- parameters: none
with scores as (select * from scores.clip_scores)

select
    clip_id,
    max_by(value, scorer_version) filter (where scorer = 'aesthetic') as aesthetic,
    max_by(value, scorer_version) filter (where scorer = 'overlay_text') as overlay_text
from scores
where scorer in ('aesthetic', 'overlay_text')
group by clip_id

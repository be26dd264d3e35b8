-- stage: staging
-- grain: one row per clip
-- refs: scores.clip_scores
-- question: What are the scores of a clip that do not look at a caption? All numbers of a column are of one scorer version.
-- parameters: aesthetic_version, overlay_text_version, nsfw_version (none: the version that scored the most clips)
with scores as (select * from scores.clip_scores where scorer in ('aesthetic', 'overlay_text', 'nsfw')),

chosen as (
    select
        scorer,
        scorer_version
    from scores
    where
        scorer_version = coalesce(
            nullif(
                case scorer
                    when 'aesthetic' then getvariable('aesthetic_version')::varchar
                    when 'overlay_text' then getvariable('overlay_text_version')::varchar
                    when 'nsfw' then getvariable('nsfw_version')::varchar
                end,
                ''
            ),
            scorer_version
        )
    group by scorer, scorer_version
    qualify row_number() over (partition by scorer order by count(*) desc, scorer_version desc) = 1
)

select
    scores.clip_id,
    max(scores.value) filter (where scores.scorer = 'aesthetic') as aesthetic,
    max(scores.value) filter (where scores.scorer = 'overlay_text') as overlay_text,
    max(scores.value) filter (where scores.scorer = 'nsfw') as nsfw
from scores
inner join chosen on scores.scorer = chosen.scorer and scores.scorer_version = chosen.scorer_version
group by scores.clip_id

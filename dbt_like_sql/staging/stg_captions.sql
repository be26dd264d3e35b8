-- stage: staging
-- grain: one row per clip and captioner version
-- refs: captions.captions, scores.clip_scores
-- question: Which texts does a clip have, how well does each fit, and what speaks against it? All numbers of a column are of one scorer version.
-- parameters: similarity_version, caption_loops_version, caption_refusal_version, caption_language_version, scale_agreement_version (none: the version that scored the most texts)
with captions as (select * from captions.captions),

scores as (
    select *
    from scores.clip_scores
    where scorer in ('similarity', 'caption_loops', 'caption_refusal', 'caption_language', 'scale_agreement')
),

chosen as (
    select
        scorer,
        scorer_version
    from scores
    where
        scorer_version = coalesce(
            nullif(
                case scorer
                    when 'similarity' then getvariable('similarity_version')::varchar
                    when 'caption_loops' then getvariable('caption_loops_version')::varchar
                    when 'caption_refusal' then getvariable('caption_refusal_version')::varchar
                    when 'caption_language' then getvariable('caption_language_version')::varchar
                    when 'scale_agreement' then getvariable('scale_agreement_version')::varchar
                end,
                ''
            ),
            scorer_version
        )
    group by scorer, scorer_version
    qualify row_number() over (partition by scorer order by count(*) desc, scorer_version desc) = 1
),

numbers as (
    select
        scores.clip_id,
        scores.captioner,
        scores.captioner_version,
        max(scores.value) filter (where scores.scorer = 'similarity') as similarity,
        max(scores.value) filter (where scores.scorer = 'caption_loops') as loops,
        max(scores.value) filter (where scores.scorer = 'caption_refusal') as refusal,
        max(scores.value) filter (where scores.scorer = 'caption_language') as language_probability,
        max(scores.value) filter (where scores.scorer = 'scale_agreement') as scale_agreement
    from scores
    inner join chosen on scores.scorer = chosen.scorer and scores.scorer_version = chosen.scorer_version
    group by scores.clip_id, scores.captioner, scores.captioner_version
)

select
    captions.clip_id,
    captions.captioner,
    captions.captioner_version,
    captions.text as caption,
    captions.num_words,
    numbers.similarity,
    numbers.loops,
    numbers.refusal,
    numbers.language_probability,
    numbers.scale_agreement
from captions
left join numbers
    on captions.clip_id = numbers.clip_id
    and captions.captioner = numbers.captioner
    and captions.captioner_version = numbers.captioner_version

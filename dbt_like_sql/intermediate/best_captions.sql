-- stage: intermediate
-- grain: one row per clip that has a text
-- refs: staging.stg_captions
-- question: Which of a clip's texts speaks for it? One without a fault, then the one that fits best, then the greatest version. What was not judged has no fault.
-- parameters: captioner_version (none: any), max_caption_loops 0.5, min_caption_language 0.5
with captions as (
    select
        *,
        case
            when refusal > 0 then 'refusal'
            when loops >= coalesce(getvariable('max_caption_loops'), 0.5) then 'caption_loop'
            when language_probability < coalesce(getvariable('min_caption_language'), 0.5) then 'wrong_language'
        end as fault
    from staging.stg_captions
    where captioner_version = coalesce(getvariable('captioner_version')::varchar, captioner_version)
)

select
    clip_id,
    captioner,
    captioner_version,
    caption,
    num_words,
    similarity,
    loops,
    refusal,
    language_probability,
    scale_agreement,
    fault
from captions
qualify row_number() over (
    partition by clip_id
    order by fault is not null, similarity desc nulls last, captioner_version desc, captioner desc
) = 1

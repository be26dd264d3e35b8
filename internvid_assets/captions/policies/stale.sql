-- Clips without a caption by the current captioner version. A policy is one SELECT from this, `stale`, with an ORDER BY.
select
    clips.batch,
    clips.clip_id,
    clips.end_seconds - clips.start_seconds as duration_seconds,
    best.captioner as previous_captioner,
    best.captioner_version as previous_version,
    best.similarity,
    scores.aesthetic,
    refused.item_id is not null as is_refused -- by this stage before: last, so that it cannot hold up the rest
from clips.clips
left join intermediate.best_captions as best using (clip_id)
left join staging.stg_clip_scores as scores using (clip_id)
left join (
    select distinct item_id from videos.quarantine where stage in ('coarse_captions', 'fine_captions', 'captions')
) as refused on refused.item_id = clips.clip_id
where not exists (
    select 1 from captions.captions as held
    where held.clip_id = clips.clip_id and held.captioner = $captioner and held.captioner_version = $version
)

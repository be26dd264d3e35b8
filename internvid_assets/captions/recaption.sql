-- Clips without a caption by the current captioner version, the most valuable first: those whose caption fits worst,
-- then the most beautiful, then the newest. What a captioner refused before comes last, so it cannot hold up the rest.
select clips.batch, clips.clip_id
from clips.clips
left join staging.stg_captions as captions using (clip_id)
left join staging.stg_clip_scores as scores using (clip_id)
left join videos.quarantine as refused
    on refused.item_id = clips.clip_id and refused.stage in ('coarse_captions', 'fine_captions', 'captions')
where not exists (
    select 1 from captions.captions as held
    where held.clip_id = clips.clip_id and held.captioner = $captioner and held.captioner_version = $version
)
group by clips.batch, clips.clip_id
order by
    bool_or(refused.item_id is not null),
    max(captions.similarity) asc nulls first, max(scores.aesthetic) desc nulls last, clips.batch desc, clips.clip_id
limit $budget

-- stage: intermediate
-- grain: one row per video that shows the same as another, larger one
-- refs: staging.stg_clips
-- question: Which videos are re-encoded or resized copies? Most clips at the same place must look alike.
-- parameters: near_duplicate_bits 10, near_duplicate_share 0.6
with clips as (select * from staging.stg_clips),

videos as (select video_id, any_value(num_pixels) as num_pixels, count(*) as num_clips from clips group by video_id),

matches as (
    select
        a.video_id,
        b.video_id as duplicate_of,
        count(*) as num_matching_clips
    from clips as a
    inner join clips as b
        on a.clip_index = b.clip_index
        and a.video_id <> b.video_id
        and abs(a.start_seconds - b.start_seconds) < 0.2
        and abs(a.duration_seconds - b.duration_seconds) < 0.2
        and bit_count(xor(a.perceptual_hash, b.perceptual_hash)) <= coalesce(getvariable('near_duplicate_bits'), 10)
    group by a.video_id, b.video_id
)

select
    matches.video_id,
    matches.duplicate_of,
    matches.num_matching_clips,
    least(a.num_clips, b.num_clips) as num_clips
from matches
inner join videos as a on matches.video_id = a.video_id
inner join videos as b on matches.duplicate_of = b.video_id
where
    matches.num_matching_clips >= coalesce(getvariable('near_duplicate_share'), 0.6) * least(a.num_clips, b.num_clips)
    and (a.num_pixels, matches.duplicate_of) < (b.num_pixels, matches.video_id)
qualify row_number() over (
    partition by matches.video_id order by matches.num_matching_clips desc, matches.duplicate_of
) = 1

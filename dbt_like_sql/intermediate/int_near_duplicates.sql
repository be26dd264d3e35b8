-- stage: intermediate
-- grain: one row per video that shows the same as a better one
-- refs: staging.stg_clips, staging.stg_matches
-- question: Which videos are copies, re-encoded, resized, letterboxed, cropped or trimmed? Better is the larger picture without borders (by a fifth), then the longer (by half a second), then the earlier batch, then the smaller id.
-- parameters: none
with videos as (
    select
        video_id,
        row_number() over (
            order by
                round(4 * log2(max(num_picture_pixels) + 1)) desc, round(2 * sum(duration_seconds)) desc, min(batch), video_id
        ) as place
    from staging.stg_clips
    group by video_id
),

copies as (select * from staging.stg_matches where kind = 'clip' and video_is_inside)

select
    copies.video_id,
    copies.like_video_id as duplicate_of,
    copies.num_frames_of_video as num_frames,
    copies.num_hashed_of_video as num_hashed,
    copies.offset_seconds
from copies
inner join videos as mine on copies.video_id = mine.video_id
inner join videos as theirs on copies.like_video_id = theirs.video_id
where theirs.place < mine.place
qualify row_number() over (
    partition by copies.video_id order by copies.num_frames_of_video desc, theirs.place, copies.offset_seconds
) = 1

-- stage: intermediate
-- grain: one row per clip that a better clip of another video shows too
-- refs: staging.stg_clips, staging.stg_matches
-- question: Which clips come twice, such as intros and excerpts in compilations? Better is the larger picture without borders (by a fifth), then the longer (by half a second), then the earlier batch, then the smaller id.
-- parameters: none
with clips as (select * from staging.stg_clips),

copies as (select * from staging.stg_matches where kind = 'clip' and clip_is_inside)

select
    copies.clip_id,
    copies.video_id,
    copies.like_clip_id,
    copies.like_video_id,
    copies.num_frames,
    copies.num_hashed,
    copies.distance_bits,
    copies.offset_seconds
from copies
inner join clips as mine on copies.clip_id = mine.clip_id
inner join clips as theirs on copies.like_clip_id = theirs.clip_id
where
    (
        -round(4 * log2(theirs.num_picture_pixels + 1)), -round(2 * theirs.duration_seconds), theirs.batch, theirs.clip_id
    ) < (-round(4 * log2(mine.num_picture_pixels + 1)), -round(2 * mine.duration_seconds), mine.batch, mine.clip_id)
qualify row_number() over (
    partition by copies.clip_id order by copies.num_frames desc, copies.distance_bits, copies.like_clip_id
) = 1

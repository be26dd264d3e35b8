-- stage: staging
-- grain: one row per clip
-- refs: clips.clips, lineage.taken_clips, videos.raw_videos
-- question: What is known of a clip and its video, and was it taken down, or does a statistic speak against it?
-- parameters: max_black_share 0.9, min_slideshow_still_share 0.5, max_still_share 0.65, min_screen_static_share 0.6, min_screen_flat_share 0.75, min_screen_still_share 0.3, max_motion_mean 0.25, max_border_share 0.45, max_clip_seconds 600, near_duplicate_bits 10, near_duplicate_share 0.6
with clips as (select * from clips.clips),

videos as (select * from videos.raw_videos),

taken as (select * from lineage.taken_clips),

num_clips as (select video_id, count(*) as num_clips from clips group by video_id),

alike as (
    select
        clips.video_id,
        clips.clip_id,
        taken.item_key,
        taken.is_whole,
        taken.num_clips as num_taken
    from clips
    inner join taken
        on clips.clip_index = taken.clip_index
        and abs(clips.start_seconds - taken.start_seconds) < 0.2
        and abs(clips.end_seconds - clips.start_seconds - taken.end_seconds + taken.start_seconds) < 0.2
        and bit_count(xor(clips.perceptual_hash, taken.perceptual_hash)) <= coalesce(getvariable('near_duplicate_bits'), 10)
),

taken_videos as (
    select alike.video_id
    from alike
    inner join num_clips on alike.video_id = num_clips.video_id
    where alike.is_whole
    group by alike.video_id, alike.item_key
    having
        count(*) >= coalesce(getvariable('near_duplicate_share'), 0.6)
        * least(any_value(alike.num_taken), any_value(num_clips.num_clips))
)

select
    clips.clip_id,
    clips.video_id,
    clips.clip_index,
    videos.source_uri,
    videos.language,
    videos.license,
    videos.width * videos.height as num_pixels,
    clips.start_seconds,
    clips.end_seconds,
    clips.end_seconds - clips.start_seconds as duration_seconds,
    clips.perceptual_hash,
    case
        when clips.video_id in (select taken_videos.video_id from taken_videos)
            or clips.clip_id in (select alike.clip_id from alike where not alike.is_whole) then 'taken_down'
        when clips.black_share >= coalesce(getvariable('max_black_share'), 0.9) then 'black'
        when clips.num_static_runs >= 2
            and clips.still_share >= coalesce(getvariable('min_slideshow_still_share'), 0.5) then 'slideshow'
        when clips.still_share >= coalesce(getvariable('max_still_share'), 0.65) then 'still'
        when clips.static_share - clips.border_share >= coalesce(getvariable('min_screen_static_share'), 0.6)
            and clips.flat_share >= coalesce(getvariable('min_screen_flat_share'), 0.75)
            and clips.still_share >= coalesce(getvariable('min_screen_still_share'), 0.3) then 'screen_recording'
        when clips.motion_mean >= coalesce(getvariable('max_motion_mean'), 0.25) then 'extreme_motion'
        when clips.border_share >= coalesce(getvariable('max_border_share'), 0.45) then 'letterbox'
        when clips.end_seconds - clips.start_seconds > coalesce(getvariable('max_clip_seconds'), 600) then 'too_long'
    end as drop_reason
from clips
inner join videos on clips.video_id = videos.video_id and clips.batch = videos.batch

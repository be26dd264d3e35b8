-- stage: staging
-- grain: one row per clip
-- refs: clips.clips, videos.raw_videos
-- question: What is known of a clip and its video, and does a statistic speak against it?
-- parameters: max_black_share 0.9, min_slideshow_still_share 0.5, max_still_share 0.65, min_screen_static_share 0.6, min_screen_flat_share 0.75, min_screen_still_share 0.3, max_motion_mean 0.25, max_border_share 0.45, max_clip_seconds 600
with clips as (select * from clips.clips),

videos as (select * from videos.raw_videos)

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

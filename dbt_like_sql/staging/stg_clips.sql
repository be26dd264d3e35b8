-- stage: staging
-- grain: one row per clip
-- refs: clips.clips, lineage.taken_clips, staging.stg_matches, videos.benchmark_items, videos.raw_videos
-- question: What is known of a clip and its video, and was it taken down, is it in a benchmark, or does a statistic speak against it?
-- parameters: max_black_share 0.9, min_slideshow_still_share 0.5, max_still_share 0.65, min_screen_static_share 0.6, min_screen_flat_share 0.75, min_screen_still_share 0.3, max_motion_mean 0.25, max_border_share 0.45, max_clip_seconds 600
with clips as (select * from clips.clips),

videos as (select * from videos.raw_videos),

num_clips as (select video_id, count(*) as num_clips from clips group by video_id),

placed_alike as (
    select clips.video_id, clips.clip_id, taken.item_key, taken.is_whole, taken.num_clips as num_taken
    from clips
    inner join lineage.taken_clips as taken
        on clips.clip_index = taken.clip_index
        and abs(clips.start_seconds - taken.start_seconds) < 0.2
        and abs(clips.end_seconds - clips.start_seconds - taken.end_seconds + taken.start_seconds) < 0.2
        and bit_count(xor(clips.perceptual_hash, taken.perceptual_hash)) <= 10
),

taken_videos as (
    select placed_alike.video_id
    from placed_alike
    inner join num_clips on placed_alike.video_id = num_clips.video_id
    where placed_alike.is_whole
    group by placed_alike.video_id, placed_alike.item_key
    having count(*) >= 0.6 * least(any_value(placed_alike.num_taken), any_value(num_clips.num_clips))
    union
    select video_id from staging.stg_matches
    where kind = 'taken' and video_is_inside
),

taken_clips as (
    select clip_id from placed_alike
    where not is_whole
    union
    select clip_id from staging.stg_matches
    where kind = 'taken' and clip_is_inside
),

tested_videos as (
    select videos.video_id from videos
    semi join videos.benchmark_items as items
        on videos.video_id = items.video_key or videos.content_sha256 = items.video_key
    union
    select video_id from staging.stg_matches
    where kind = 'benchmark' and video_is_inside
),

tested_clips as (
    select clip_id from staging.stg_matches
    where kind = 'benchmark' and clip_is_inside
)

select
    clips.clip_id,
    clips.video_id,
    clips.batch,
    clips.clip_index,
    videos.source_uri,
    videos.language,
    videos.license,
    videos.width * videos.height as num_pixels,
    round(videos.width * videos.height * (1 - coalesce(clips.border_share, 0)))::bigint as num_picture_pixels,
    clips.start_seconds,
    clips.end_seconds,
    clips.end_seconds - clips.start_seconds as duration_seconds,
    clips.perceptual_hash,
    case
        when clips.clip_id in (select taken_clips.clip_id from taken_clips)
            or clips.video_id in (select taken_videos.video_id from taken_videos) then 'taken_down'
        when clips.clip_id in (select tested_clips.clip_id from tested_clips)
            or clips.video_id in (select tested_videos.video_id from tested_videos) then 'in_benchmark'
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

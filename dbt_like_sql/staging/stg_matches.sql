-- stage: staging
-- grain: one row per clip and what it looks like: another clip (each pair in both directions), a clip that was taken down, or one of a benchmark
-- refs: clips.benchmark_clips, clips.clips, clips.matches, lineage.taken_clips
-- question: How much of a clip, and of its video, is in the other one (for what must not get in: of the shorter one)? Frames of two videos count together when they agree at one offset.
-- parameters: near_duplicate_bits 72, near_duplicate_share 0.5, lone_frame_bits 40
with matches as (
    select * from clips.matches where distance_bits <= coalesce(getvariable('near_duplicate_bits'), 72)
),

hashed as (
    select 'clip' as kind, video_id as other_id, sum(len(hash_seconds)) as num_hashed, true as is_whole
    from clips.clips
    group by video_id
    union all
    select 'taken' as kind, item_key as other_id, sum(len(hash_seconds)) as num_hashed, bool_and(is_whole) as is_whole
    from lineage.taken_clips
    group by item_key
    union all
    select 'benchmark' as kind, benchmark || ':' || item as other_id, sum(len(hash_seconds)) as num_hashed, true as is_whole
    from clips.benchmark_clips
    group by benchmark, item
),

directed as (
    select
        kind, clip_id, video_id, like_clip_id, like_video_id, reference, reference_item,
        case kind when 'clip' then like_video_id when 'taken' then reference else reference || ':' || reference_item end as other_id,
        num_frames, num_hashed, like_num_hashed, distance_bits, offset_seconds
    from matches
    union all
    select
        kind, like_clip_id as clip_id, like_video_id as video_id, clip_id as like_clip_id, video_id as like_video_id,
        reference, reference_item, video_id as other_id,
        num_frames, like_num_hashed as num_hashed, num_hashed as like_num_hashed, distance_bits, -offset_seconds as offset_seconds
    from matches
    where kind = 'clip'
),

placed as (
    select *, unnest([floor(offset_seconds / 0.5), floor(offset_seconds / 0.5 + 0.5) + 0.5]) as place from directed
),

together as (
    select *, sum(num_frames) over (partition by kind, video_id, other_id, place) as num_frames_of_video from placed
),

shared as (
    select * from together
    qualify row_number() over (
        partition by kind, clip_id, other_id, like_clip_id, reference_item order by num_frames_of_video desc, place
    ) = 1
)

select
    shared.kind,
    shared.clip_id,
    shared.video_id,
    shared.like_clip_id,
    shared.like_video_id,
    shared.reference,
    shared.reference_item,
    shared.num_frames,
    shared.num_hashed,
    shared.distance_bits,
    shared.offset_seconds,
    shared.num_frames_of_video::bigint as num_frames_of_video,
    mine.num_hashed::bigint as num_hashed_of_video,
    shared.num_frames >= coalesce(getvariable('near_duplicate_share'), 0.5)
    * case when shared.kind = 'clip' then shared.num_hashed else least(shared.num_hashed, shared.like_num_hashed) end
    and (
        shared.num_frames >= 2
        or shared.num_frames_of_video >= 3
        or (
            least(shared.num_hashed, shared.like_num_hashed) = 1
            and shared.distance_bits <= coalesce(getvariable('lone_frame_bits'), 40)
        )
    ) as clip_is_inside,
    theirs.is_whole
    and shared.num_frames_of_video >= coalesce(getvariable('near_duplicate_share'), 0.5)
    * case when shared.kind = 'clip' then mine.num_hashed else least(mine.num_hashed, theirs.num_hashed) end
    and shared.num_frames_of_video >= least(3, mine.num_hashed, theirs.num_hashed)
    and (
        shared.num_frames_of_video >= 2
        or shared.distance_bits <= coalesce(getvariable('lone_frame_bits'), 40)
    ) as video_is_inside
from shared
inner join hashed as mine on mine.kind = 'clip' and shared.video_id = mine.other_id
inner join hashed as theirs on shared.kind = theirs.kind and shared.other_id = theirs.other_id

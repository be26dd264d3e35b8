-- stage: marts
-- grain: one row per interleaved item
-- refs: captions.transcripts, subsets.filtered_pairs
-- question: What are the interleaved items of P§3.4: (a) clips and captions, (b) with spoken words, (c) several videos?
-- parameters: icl_text_only_share 0.3, seed 42
with pairs as (select * from subsets.filtered_pairs),

spoken as (
    select clip_id, max_by(text, captioner_version) as transcript from captions.transcripts group by clip_id
),

videos as (
    select
        pairs.video_id,
        ('0x' || substr(md5(coalesce(getvariable('seed'), 42)::varchar || ':icl:' || pairs.video_id), 1, 13))::bigint
        / 4503599627370496 as draw,
        list(
            struct_pack(clip_id := pairs.clip_id, caption := pairs.caption, transcript := null::varchar)
            order by pairs.start_seconds
        ) as plain,
        list(
            struct_pack(
                clip_id := pairs.clip_id, caption := pairs.caption, transcript := coalesce(spoken.transcript, '')
            )
            order by pairs.start_seconds
        ) as with_speech
    from pairs
    left join spoken on pairs.clip_id = spoken.clip_id
    group by pairs.video_id
),

paired as (
    select
        video_id,
        plain,
        draw,
        lead(video_id) over (order by draw, video_id) as next_id,
        lead(plain) over (order by draw, video_id) as next_plain,
        row_number() over (order by draw, video_id) as place
    from videos
),

items as (
    select
        'interleaved' as format,
        [video_id] as video_ids,
        plain as items,
        draw >= coalesce(getvariable('icl_text_only_share'), 0.3) as shows_video
    from videos
    union all
    select
        'interleaved_speech' as format,
        [video_id] as video_ids,
        with_speech as items,
        true as shows_video
    from videos
    union all
    select
        'several_videos' as format,
        [video_id, next_id] as video_ids,
        list_concat(plain, next_plain) as items,
        true as shows_video
    from paired
    where place % 2 = 1 and next_id is not null
)

select
    format || ':' || array_to_string(video_ids, '+') as item_id,
    format,
    video_ids,
    items,
    shows_video
from items

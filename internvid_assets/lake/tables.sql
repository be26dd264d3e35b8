-- Every table of the lake that Python writes. The SQL models of `dbt_like_sql/` make the rest.
-- Rows hold no wall-clock times: when something was written is lineage, so a re-run changes no content.
-- Spans are half-open, [start, end). Text and score tables are append-only, keyed by version.

-- A source that was assigned to a batch, with the metadata that came with it.
create table if not exists videos.sources (
    batch varchar,               -- partition key, batch_000000 and so on
    source_uri varchar,          -- absolute path, s3:// or http(s):// address
    youtube_id varchar,          -- when the manifest or the address gave one
    title varchar,
    description varchar,
    tags varchar[],
    query varchar,               -- the search words that found it
    language varchar,            -- ISO 639-1
    license varchar,             -- SPDX id or the platform's words
    caption varchar,             -- text that came with the source (alt text), read by the sidecar captioner
    section_starts double[],     -- wanted spans, in seconds of the video; null: all of it
    section_ends double[],
    section_captions varchar[],  -- text of each span, where the manifest gave any
    subtitles varchar[],         -- addresses of subtitle files
    expected_bytes bigint,       -- size and hashes that the manifest promised
    expected_sha256 varchar,
    expected_md5 varchar
);

-- How far one source has come: the newest state of its ledger. A source without a row was not tried yet.
-- This and the attempts are a log: they hold times of their own.
create table if not exists videos.items (
    batch varchar,
    source_uri varchar,
    state varchar,               -- pending, held, refused, retryable, gone, given_up: see docs/concepts.md
    failure varchar,             -- class of the last failure, see docs/concepts.md; null: none
    detail varchar,
    num_attempts integer,        -- runs that tried it
    tried_at timestamptz,        -- the last of them
    failing_since timestamptz,   -- first attempt of the unbroken series with this failure; null: not failing
    next_retry_at timestamptz,   -- null: not waiting
    gate_version varchar         -- of the gate that judged it
);

-- One attempt at one source: a run that asked for its bytes.
create table if not exists videos.attempts (
    batch varchar,
    source_uri varchar,
    attempt integer,             -- from 1
    state varchar,               -- what it led to
    failure varchar,
    detail varchar,
    num_tries integer,           -- requests for the item within the run
    num_bytes bigint,            -- that came over the wire
    seconds double,
    tried_at timestamptz
);

-- A video whose bytes we hold.
create table if not exists videos.raw_videos (
    batch varchar,
    video_id varchar,            -- YouTube id, else the first 16 hex digits of content_sha256
    content_sha256 varchar,
    source_uri varchar,
    media_key varchar,           -- object in the media store
    num_bytes bigint,
    container varchar,
    video_codec varchar,
    pixel_format varchar,
    width integer,               -- as displayed, rotation applied
    height integer,
    rotation integer,            -- degrees clockwise, 0 90 180 270
    average_fps double,
    duration_seconds double,
    has_audio boolean,
    has_subtitles boolean,
    title varchar,
    description varchar,
    tags varchar[],
    query varchar,
    language varchar,
    license varchar,
    caption varchar,
    section_starts double[],     -- clips lie within these spans; null: anywhere
    section_ends double[],
    section_captions varchar[],
    subtitle_keys varchar[]      -- objects of subtitle files that came with it, NAME.LANGUAGE.srt|vtt
);

-- Something that a stage refused, with the reason.
create table if not exists videos.quarantine (
    batch varchar,
    stage varchar,               -- videos, clips, captions, scores
    item_id varchar,             -- source_uri, video_id or clip_id
    source_uri varchar,
    reason varchar,              -- a code, see docs/concepts.md
    detail varchar
);

-- A video of a public benchmark, as far as its annotations name it.
create table if not exists videos.benchmark_items (
    benchmark varchar,
    item varchar,                -- its name in the annotations
    video_key varchar            -- what a source of it would go by: YouTube id, name or content hash
);

-- A half-open span of one video.
create table if not exists clips.clips (
    batch varchar,
    clip_id varchar,             -- {video_id}_{start_ms:08d}_{end_ms:08d}
    video_id varchar,
    clip_index integer,          -- position in the video, from 0
    start_frame bigint,
    end_frame bigint,
    start_seconds double,        -- from the first displayed frame of the video
    end_seconds double,
    start_pts bigint,            -- exact, in the stream's time base
    end_pts bigint,
    time_base_numerator bigint,
    time_base_denominator bigint,
    brightness double,           -- mean luma, 0..1
    black_share double,          -- share of frames that are nearly black
    border_share double,         -- share of the picture taken by constant black borders
    motion_mean double,          -- mean absolute luma difference of neighbouring frames, 0..1
    motion_peak double,          -- 95th percentile of the same
    still_share double,          -- share of neighbouring frames that are equal within noise
    num_static_runs integer,     -- runs of at least 0.8 s without change (slideshow pages)
    static_share double,         -- share of the picture that never changes in the clip (screens, overlays, tripods)
    flat_share double,           -- share of pixels equal to their neighbour: near 1 for drawn screens, low for a camera
    cut_score_end double,        -- detector score of the cut that ends the clip; null at the end of the video
    perceptual_hash ubigint,     -- of the middle frame
    hash_seconds double[],       -- of the hashed frames, from the start of the clip
    frame_hashes ubigint[],      -- their hashes' first words, three crops a frame, by which copies are looked up
    frame_hash_details ubigint[], -- the other three words of each, by which they are compared
    frame_pack_key varchar       -- object that holds the small frames
);

-- A clip that looks like another one, like one that was taken down, or like one of a public benchmark.
create table if not exists clips.matches (
    kind varchar,                -- clip, taken or benchmark: what it looks like
    clip_id varchar,
    video_id varchar,
    like_clip_id varchar,        -- kind clip: the other one; each pair is one row
    like_video_id varchar,
    reference varchar,           -- kind taken: item_key of lineage.takedowns; kind benchmark: its name
    reference_item varchar,      -- kind taken: the clip_key; kind benchmark: the name of its video
    num_frames integer,          -- hashed frames that agree at one offset
    num_hashed integer,          -- hashed frames of the clip
    like_num_hashed integer,
    distance_bits double,        -- mean over the agreeing frames, of 256
    offset_seconds double        -- time of a frame in this video less its time in the other
);

-- What has been compared with everything: a batch, what was taken down, or a benchmark.
create table if not exists clips.compared (
    source varchar,
    content_hash varchar         -- of its clips and their hashes: other content is compared again
);

-- A shot of a public benchmark's video, so that the lake's clips can be compared with it.
create table if not exists clips.benchmark_clips (
    benchmark varchar,
    item varchar,                -- name of the video in the benchmark
    content_sha256 varchar,
    start_seconds double,
    hash_seconds double[],       -- as in clips.clips
    frame_hashes ubigint[],
    frame_hash_details ubigint[]
);

-- One text of one clip from its middle frame by one captioner version.
create table if not exists captions.coarse_captions (
    batch varchar,
    clip_id varchar,
    captioner varchar,
    captioner_version varchar,
    text varchar,
    labels varchar[],            -- what the captioner saw, best first; empty when it does not say
    label_scores double[]
);

-- One row of per-second texts of one clip by one captioner version.
create table if not exists captions.fine_captions (
    batch varchar,
    clip_id varchar,
    captioner varchar,
    captioner_version varchar,
    frame_seconds double[],      -- from the start of the clip
    frame_texts varchar[],       -- one text a frame
    motion_text varchar,         -- what moved and how over the clip; empty when nothing was measured
    motion_label varchar         -- the same as a class name
);

-- The words spoken or subtitled in one clip, by one transcriber version.
create table if not exists captions.transcripts (
    batch varchar,
    clip_id varchar,
    captioner varchar,           -- transcriber name: subtitles, whisper or none
    captioner_version varchar,
    text varchar,                -- empty: nothing was said
    language varchar
);

-- One caption of one clip by one captioner version.
create table if not exists captions.captions (
    batch varchar,
    clip_id varchar,
    captioner varchar,
    captioner_version varchar,
    text varchar,
    num_words integer
);

-- What a captioner version means: all that decides the texts of one step.
create table if not exists captions.captioners (
    captioner varchar,
    captioner_version varchar,
    step varchar,                -- coarse, fine or merge
    spec varchar                 -- JSON: model, revision, prompt, decoding, code; of a merge the versions it reads
);

-- One clip that a re-captioning run gave a new text, and whose text spoke for it before.
create table if not exists captions.recaptions (
    run_id varchar,
    clip_id varchar,
    captioner varchar,
    captioner_version varchar,
    previous_captioner varchar,  -- null: the clip had no text
    previous_version varchar
);

-- A person's judgement of one caption.
create table if not exists captions.reviews (
    clip_id varchar,
    captioner varchar,
    captioner_version varchar,
    reviewer varchar,
    sample varchar,              -- the sample it was drawn for: seed and size
    verdict varchar,             -- accept or reject; the newest of a reviewer counts
    position bigint              -- the reviewer's how-manieth judgement, from 0
);

-- One number of one clip, or of one clip and caption, by one scorer version.
create table if not exists scores.clip_scores (
    batch varchar,
    clip_id varchar,
    captioner varchar,           -- null: the score does not look at a caption
    captioner_version varchar,
    scorer varchar,              -- similarity, aesthetic, overlay_text, nsfw, caption_loops, caption_refusal, …
    scorer_backend varchar,      -- embedded, hf, viclip, laion
    scorer_version varchar,
    value double
);

-- What one clip's pictures mean, as a unit vector.
create table if not exists scores.clip_embeddings (
    batch varchar,
    clip_id varchar,
    embedder_version varchar,
    embedding float[]
);

-- A clip whose pictures mean the same as those of another in its cluster, which stays.
create table if not exists scores.semantic_duplicates (
    clip_id varchar,
    video_id varchar,
    like_clip_id varchar,
    like_video_id varchar,
    cosine double
);

-- A published state of a subset.
create table if not exists release.dataset_release (
    release_id varchar,          -- {subset}-{first 12 hex of the manifest's SHA-256}
    subset varchar,
    snapshot_id bigint,          -- lake snapshot that was read
    num_pairs bigint,
    num_videos bigint,
    total_seconds double,
    manifest_key varchar,
    manifest_sha256 varchar,
    content_hash varchar,        -- of the pairs and of how they are written: the same content is not published twice
    withdrawn_by varchar         -- the takedown that removed its data files; null: it stands
);

-- A row of a release, so that lineage and takedown find it after the snapshot is gone.
create table if not exists release.released_pairs (
    release_id varchar,
    clip_id varchar,
    video_id varchar,
    captioner varchar,
    captioner_version varchar
);

-- A WebDataset shard.
create table if not exists release.training_shards (
    shards_id varchar,           -- first 16 hex of the manifest's SHA-256
    subset varchar,
    snapshot_id bigint,
    shard_key varchar,
    sha256 varchar,
    num_samples bigint,
    num_bytes bigint,
    content_hash varchar,        -- of the pairs and of how they are written: the same content is not written twice
    withdrawn_by varchar         -- the takedown that broke its set, which trains no more; null: it stands
);

-- Which clip lies in which shard.
create table if not exists release.shard_samples (
    shards_id varchar,
    shard_key varchar,
    clip_id varchar,
    video_id varchar
);

-- A trained model.
create table if not exists viclip.viclip_checkpoint (
    checkpoint_id varchar,       -- {recipe}-{first 12 hex of the weights' SHA-256}
    run_key varchar,             -- hash of recipes, overrides, seed, shards and training code
    role varchar,                -- viclip, or control: the recipe that it is compared with
    recipe varchar,
    seed bigint,
    shards_id varchar,
    checkpoint_key varchar,      -- folder in the media store
    weights_sha256 varchar,
    num_steps bigint,
    num_samples_seen bigint,
    final_loss double,
    git_commit varchar
);

-- One metric of one checkpoint on one benchmark.
create table if not exists viclip.viclip_evaluation (
    checkpoint_id varchar,
    evaluation_key varchar,      -- hash of benchmarks, protocol and evaluation code
    model varchar,               -- viclip or control
    benchmark varchar,
    metric varchar,
    value double,
    low double,                  -- 95 % confidence interval
    high double,
    chance double,               -- what guessing gives
    num_items bigint,
    report_key varchar           -- folder of the report in the media store
);

-- A write: who, what, from which code and configuration.
create table if not exists lineage.materializations (
    materialization_id varchar,
    asset varchar,               -- schema.table
    partition_key varchar,       -- null: not partitioned
    run_id varchar,
    written_at timestamptz,
    read_snapshot_id bigint,     -- the snapshot that this write's reads saw
    changed boolean,             -- false: a re-run found the same content
    code_version varchar,
    config_hash varchar,
    num_in bigint,
    num_out bigint,
    drops map(varchar, bigint),  -- rows refused, by reason
    seconds double
);

-- What a write read.
create table if not exists lineage.inputs (
    materialization_id varchar,
    input varchar,               -- schema.table, or an object key
    input_partition varchar,
    snapshot_id bigint
);

-- What a write used up beside its seconds.
create table if not exists lineage.costs (
    materialization_id varchar,
    item varchar,                -- requests, retries, prompt_tokens, completion_tokens, money
    amount double
);

-- Something that was taken down, told apart by salted hashes only: no id, address, title or text.
create table if not exists lineage.takedowns (
    takedown_id varchar,
    kind varchar,                -- video, clip, or source: an address whose bytes were never held
    item_key varchar,            -- salted hash of the video id, clip id or address
    content_key varchar,         -- salted hash of a video's content_sha256
    reason varchar               -- as the operator gave it
);

-- How a clip looked that was taken down, so that a copy in other bytes is known again.
create table if not exists lineage.taken_clips (
    takedown_id varchar,
    clip_key varchar,            -- salted hash of the clip id
    item_key varchar,            -- of lineage.takedowns
    is_whole boolean,            -- true: its whole video went
    num_clips integer,           -- of its video
    clip_index integer,
    start_seconds double,
    end_seconds double,
    perceptual_hash ubigint,
    hash_seconds double[],       -- as in clips.clips
    frame_hashes ubigint[],
    frame_hash_details ubigint[]
);

-- An object of the media store that no table named when `maintain_lake` last looked.
create table if not exists lineage.orphans (
    object_key varchar,
    seen_at timestamptz          -- when it was first found so
);

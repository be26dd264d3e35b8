"""One settings object decides where things live and which backends run.

Values come, first wins, from arguments, environment variables (`INTERNVID_HOME`, `INTERNVID_LAKE__CATALOG`, …), the file
`internvid.toml` in the working directory (or `INTERNVID_CONFIG`), the one in the home, and the defaults below. The defaults are the embedded
mode: everything under one folder, no server, no network.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class S3Settings(_Section):
    """How to reach an S3-compatible server; unset fields fall back to boto3's own configuration chain."""

    endpoint_url: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = None
    region: str = "us-east-1"


class LakeSettings(_Section):
    """Where the tables live."""

    catalog: str | None = None
    """None: a SQLite catalog under home. Else a libpq string, `postgres:dbname=… host=…`."""
    data_path: str | None = None
    """None: a folder under home. Else a folder or `s3://bucket/prefix`."""
    max_retries: int = Field(default=60, ge=0)
    """How often a commit that met another writer is tried again."""
    memory_limit_mib: int | None = Field(default=None, ge=512)
    """Of each process's SQL; beyond it the disk under `home` is used. None: four fifths of the machine's or container's."""
    keep_days: float = Field(default=30.0, ge=0)
    """Snapshots older than this are forgotten by `maintain_lake`; releases are files and stay."""


class FetchSettings(_Section):
    """How bytes are fetched from other machines, and how patiently."""

    concurrency: int = Field(default=16, ge=1)
    """Items under way at once, of a batch."""
    per_host: int = Field(default=4, ge=1)
    """Of these, at one host."""
    requests_per_second: float = Field(default=0.0, ge=0)
    """Starts at one host; 0: no limit."""
    host_requests_per_second: dict[str, float] = Field(
        default={"www.youtube.com": 0.2, "youtube.com": 0.2}, validate_default=True
    )
    """The same for hosts of their own."""
    max_tries: int = Field(default=4, ge=1)
    """In one run; then the item waits for a later one."""
    max_wait_seconds: float = Field(default=60.0, ge=0)
    """A longer Retry-After puts the item off to a later run."""
    max_attempts: int = Field(default=8, ge=1)
    """Runs that may fail on an item before it is given up."""
    retry_minutes: float = Field(default=15.0, ge=0)
    """Until an item that failed is due again; doubles with each attempt, up to a week."""
    idle_seconds: float = Field(default=30.0, gt=0)
    """Longest silence of a server."""
    seconds_limit: float = Field(default=7200.0, gt=0)
    """Of one try of one item."""
    max_bytes: int = Field(default=20 * 2**30, ge=1)
    site_format: str = "bv*[height<=720]+ba/b[height<=720]/bv*+ba/b"
    """yt-dlp's choice of streams. The paper: 720 lines at most, the best available (P§3.1)."""
    site_options: dict[str, str] = Field(default_factory=dict)
    """More parameters of yt-dlp, such as `cookiefile` or `proxy`."""
    max_listed: int = Field(default=1_000_000, ge=1)
    """Videos taken from one playlist, channel or search."""


class GateSettings(_Section):
    """Which videos are accepted. The paper's values are in the comments (P§3.1)."""

    min_seconds: float = Field(default=2.0, ge=0)  # paper: 10
    max_seconds: float = Field(default=4 * 3600.0, gt=0)  # paper: 1800
    min_lines: int = Field(default=120, ge=1)  # paper: 360
    max_pixels: int = Field(default=8192 * 8192, ge=1)
    allowed_licenses: tuple[str, ...] = ()
    """Empty: any licence, unknown included."""
    block_lists: tuple[str, ...] = ()
    """Files of ids, addresses, folders or channels of addresses, and content hashes, one a line."""


class DuplicateSettings(_Section):
    """How copies are looked for; what counts as one are parameters of the SQL models."""

    memory_limit_mib: int = Field(default=4096, ge=512)
    """Beyond it the lookup uses the disk under `home`."""
    semantic: str = "none"
    """Also drop clips whose pictures mean the same: `none`, `embedded` or `hf`."""
    semantic_options: dict[str, str] = Field(default_factory=dict)
    semantic_min_cosine: float = Field(default=0.97, gt=0, le=1)
    semantic_cluster_size: int = Field(default=1000, ge=2)
    """Clips in a cluster, on average; only clips of one cluster are compared."""


class ClipSettings(_Section):
    """How shots are cut and sampled; the detector and its threshold are the paper's (P§3.1). See `clips.ScanOptions`."""

    detector: str = "content"
    """`content` (the paper's), `adaptive`, `cascade` (recommended for quality) or `transnetv2`."""
    threshold: float = Field(default=27.0, gt=0)
    adaptive_ratio: float = Field(default=3.0, gt=0)
    neural_threshold: float = Field(default=0.5, gt=0, lt=1)
    exact: bool = False
    """Score every frame as PySceneDetect does, not only those near the threshold."""
    fast: bool = False
    """Decode less: no loop filter, no frames without which the cuts survive."""
    decoder: str = "pyav"
    """`pyav`, `nvdec` or `decord`."""
    min_shot_frames: int = Field(default=15, ge=1)
    min_clip_seconds: float = Field(default=0.6, ge=0)
    max_clip_seconds: float | None = None
    """Longer shots are split."""
    trim_start_frames: int = Field(default=0, ge=0)
    trim_end_frames: int = Field(default=0, ge=0)
    """Frames to leave out of clips behind and before each cut."""
    short_side: int = Field(default=224, ge=32)
    num_frames: int = Field(default=16, ge=1)
    """Pictures spread over each clip."""
    seconds_limit: float = Field(default=1800.0, gt=0)
    """A video whose scan takes longer is quarantined as `timeout`."""
    memory_limit_mib: int = Field(default=4096, ge=256)
    output_limit_mib: int = Field(default=2048, ge=1)
    """A video whose pictures take more is quarantined as `too_much_output`."""


class CaptionStepSettings(_Section):
    """Another backend for one step of the recipe."""

    backend: str
    options: dict[str, str] = Field(default_factory=dict)


class CaptionSettings(_Section):
    """Which captioner writes, and how."""

    backend: str = "embedded"
    options: dict[str, str] = Field(default_factory=dict)
    coarse: CaptionStepSettings | None = None
    fine: CaptionStepSettings | None = None
    merge: CaptionStepSettings | None = None
    """None: `backend` does this step too."""
    merge_rule: str = "together"
    """What the merge reads, or picks: `together`, `frames`, `coarse` or `medoid`."""
    language: str = "en"
    """ISO 639-1 code that captions are to be in."""
    speech_model: str = "tiny.en"
    """`tiny.en` (packaged), a faster-whisper model's folder or hub id, or `none`: subtitles only."""
    speech_device: str = "cpu"
    recaption_budget: int = Field(default=1000, ge=1)
    recaption_minutes: float = Field(default=60.0, gt=0)
    recaption_policy: str = "worst_first"
    """Which stale clips come first: `worst_first`, `newest_first` or the path of a `.sql` file."""


class ScoreSettings(_Section):
    """Which backend computes each score; `none` leaves a score out."""

    similarity: str = "embedded"
    aesthetic: str = "embedded"
    overlay_text: str = "embedded"
    nsfw: str = "embedded"
    caption_loops: str = "embedded"
    caption_refusal: str = "embedded"
    caption_language: str = "embedded"
    scale_agreement: str = "embedded"
    options: dict[str, dict[str, str]] = Field(default_factory=dict)
    """Options of a score's backend, by score."""


class TrustSettings(_Section):
    """What a subset's captions must keep to be released. A share fails when its 95 % interval lies beyond the limit."""

    max_repeated_share: float = Field(default=0.1, ge=0, le=1)
    max_loop_share: float = Field(default=0.01, ge=0, le=1)
    max_refusal_share: float = Field(default=0.001, ge=0, le=1)
    max_wrong_language_share: float = Field(default=0.02, ge=0, le=1)
    max_similarity_drop: float = Field(default=0.05, ge=0)
    """By how much a captioner version may fit worse, on average, than the one before on the same clips."""
    min_scale_agreement: float = Field(default=0.1, ge=-1, le=1)
    """Mean cosine of captions with the texts that they were made from."""
    min_precision: float = Field(default=0.5, ge=0, le=1)
    """Share of reviewed captions that were accepted; counts only where some were reviewed."""


class CostSettings(_Section):
    """Prices, in whatever money the operator counts, and what may be spent before batches and trainings begin no more."""

    cpu_hour_price: float = Field(default=0.0, ge=0)
    gpu_hour_price: float = Field(default=0.0, ge=0)
    gib_month_price: float = Field(default=0.0, ge=0)
    """Of stored media and tables; `internvid plan` tells it."""
    max_money: float | None = Field(default=None, ge=0)
    max_cpu_hours: float | None = Field(default=None, ge=0)
    max_gpu_hours: float | None = Field(default=None, ge=0)


class SubsetSettings(_Section):
    """Parameters of the SQL models, by name; the files give the defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    parameters: dict[str, float | int | str] = Field(default_factory=dict)


class ReleaseSettings(_Section):
    """What is published and what is trained on."""

    release_subset: str = "internvid_10m_flt"
    training_subset: str = "internvid_10m_flt"
    title: str = "InternVid"
    license: str = "unknown"
    shard_size: int = Field(default=256, ge=1)
    shard_frames: int = Field(default=16, ge=1)
    shard_short_side: int = Field(default=224, ge=16)


class KubernetesSettings(_Section):
    """Where and as what a training runs when `viclip.launcher` is `k8s`; `viclip.num_processes` processes on each node."""

    backend: Literal["job", "jobset", "trainjob"] = "job"
    """An Indexed Job (any cluster), a JobSet or a Kubeflow TrainJob (where the cluster has them)."""
    image: str = ""
    namespace: str = "internvid"
    nodes: int = Field(default=1, ge=1)
    gpu_resource: str = "nvidia.com/gpu"
    """Each node asks for one of it for each process; `none`: CPU only."""
    resources: dict[str, str] = Field(default_factory=lambda: {"cpu": "8", "memory": "64Gi"})
    """Of a node, as requests and limits; RDMA devices too, e.g. `{"rdma/hca": "1"}`."""
    shared_memory: str = "16Gi"
    scratch: str = "200Gi"
    """Local disk of a node, for shards and the newest states."""
    claim: str | None = None
    """A volume claim that all nodes and the Dagster run share, mounted at `claim_path`; None: everything goes over S3."""
    claim_path: str = "/mnt/internvid"
    s3_secret: str | None = None
    """An existing Secret with `access_key_id` and `secret_access_key`; None: one is made for the run and goes with it."""
    env: dict[str, str] = Field(default_factory=dict)
    """Environment of every process: NCCL and RDMA settings."""
    queue: str | None = None
    """Kueue's LocalQueue."""
    service_account: str = "default"
    node_selector: dict[str, str] = Field(default_factory=dict)
    tolerations: tuple[dict[str, str | int], ...] = ()
    backoff_limit: int = Field(default=3, ge=0)
    """Failures of a node's own that are forgiven; losses by eviction, or of the others, do not count."""
    start_timeout_seconds: float = Field(default=900.0, gt=0)
    """A pod that has not started for so long fails the run, with its reason."""
    deadline_seconds: int = Field(default=14 * 86400, ge=1)
    keep_seconds: int = Field(default=86400, ge=0)
    """How long a finished Job and its logs stay."""
    poll_seconds: float = Field(default=2.0, gt=0)
    port: int = Field(default=29400, ge=1, le=65534)
    """On the first node: where the nodes meet; the next one up is torchrun's."""
    messages: Literal["log", "s3"] = "log"
    """The way of metrics and progress to the Dagster run."""
    kubeconfig: str | None = None
    """None: the pod's own account, or else the user's default file."""
    context: str | None = None
    """Of the kubeconfig; None: its current one."""
    manifests: str | None = None
    """A folder with manifests of your own; None: those of `k8s/training`."""
    runtime: str = "torch-distributed"
    """The ClusterTrainingRuntime of a `trainjob`."""


class ViclipSettings(_Section):
    """Which recipe trains, with how many processes, and on what it is evaluated."""

    recipe: str = "demo_cpu"
    control_recipe: str | None = None
    """A second recipe trained on the same shards for comparison, e.g. the single-frame control."""
    num_processes: int = Field(default=2, ge=1)
    """On each node."""
    seed: int = 0
    benchmarks: dict[str, str] = Field(default_factory=dict)
    """Benchmark name to annotation file, or a public set's name to its folder."""
    templates: str = "paper"
    overrides: dict[str, str] = Field(default_factory=dict)
    """`--set` overrides of the recipe."""
    launcher: Literal["local", "k8s"] = "local"
    """Where training runs: processes of this machine, or pods."""
    kubernetes: KubernetesSettings = KubernetesSettings()

    @property
    def world_size(self) -> int:
        """Processes that train together."""
        return self.num_processes * (self.kubernetes.nodes if self.launcher == "k8s" else 1)


class ExecutionSettings(_Section):
    """Where Dagster computes the steps of a run, and which schedules are on."""

    executor: Literal["local", "k8s"] = "local"
    """`local`: processes of the machine that runs the job; `k8s`: each step in a pod of its own."""
    config: Path | None = None
    """Of `k8s`: a YAML file with the configuration of dagster-k8s' `k8s_job_executor`."""
    running_schedules: tuple[str, ...] = ()
    """Schedules that are on without anybody switching them on in the UI."""


class Settings(BaseSettings):
    """Everything that differs between a laptop and a cluster."""

    model_config = SettingsConfigDict(env_prefix="INTERNVID_", env_nested_delimiter="__", extra="forbid", frozen=True)

    home: Path = Path(".internvid")
    media_root: str | None = None
    """None: a folder under home. Else a folder or `s3://bucket/prefix`."""
    sources: tuple[str, ...] = ()
    """What the sensor watches: whatever `internvid run` takes."""
    batch_size: int = Field(default=64, ge=1)
    workers: int = Field(default=2, ge=1)
    """Processes that decode at once."""
    s3: S3Settings = S3Settings()
    lake: LakeSettings = LakeSettings()
    fetch: FetchSettings = FetchSettings()
    gate: GateSettings = GateSettings()
    duplicates: DuplicateSettings = DuplicateSettings()
    clips: ClipSettings = ClipSettings()
    captions: CaptionSettings = CaptionSettings()
    scores: ScoreSettings = ScoreSettings()
    trust: TrustSettings = TrustSettings()
    subsets: SubsetSettings = SubsetSettings()
    release: ReleaseSettings = ReleaseSettings()
    costs: CostSettings = CostSettings()
    viclip: ViclipSettings = ViclipSettings()
    execution: ExecutionSettings = ExecutionSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        home = Path(init_settings().get("home") or env_settings().get("home") or ".internvid")
        here = TomlConfigSettingsSource(settings_cls, os.environ.get("INTERNVID_CONFIG", "internvid.toml"))
        return init_settings, env_settings, here, TomlConfigSettingsSource(settings_cls, home / "internvid.toml")

    @property
    def catalog_uri(self) -> str:
        """DuckLake's address of the catalog."""
        return self.lake.catalog or f"sqlite:{self.home.resolve() / 'lake' / 'catalog.sqlite'}"

    @property
    def data_path(self) -> str:
        """Folder or S3 prefix of the Parquet files, with a trailing slash."""
        return (self.lake.data_path or str(self.home.resolve() / "lake" / "data")).rstrip("/") + "/"

    @property
    def media_uri(self) -> str:
        """Folder or S3 prefix of videos, frame packs, shards and checkpoints."""
        return (self.media_root or str(self.home.resolve() / "media")).rstrip("/")

    @property
    def cache_folder(self) -> Path:
        """Scratch space that may be deleted at any time."""
        return self.home.resolve() / "cache"

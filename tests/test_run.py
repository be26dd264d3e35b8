"""The main job from the shell, on rendered videos with known truth and on bad input."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from internvid_assets.demo.__main__ import near_duplicates
from internvid_assets.demo.accuracy import compare
from internvid_assets.demo.render import render_corpus
from internvid_assets.lake import Lake
from internvid_assets.lake.lineage import explain
from internvid_assets.settings import Settings
from internvid_assets.store import open_store
from internvid_assets.viclip.kubernetes.manifest import MANIFESTS
from internvid_assets.viclip.newest import newest_report
from tests.kubesim import KubeSim
from tests.kubesim.container import why_no_namespaces
from tests.media import REAL_VIDEOS
from tests.servers import free_ports

COUNTS = """
select (select count(*) from videos.raw_videos) as videos, (select count(*) from clips.clips) as clips,
    (select count(distinct clip_id) from clips.clips) as distinct_clips,
    (select count(*) from captions.captions) as captions, (select count(*) from scores.clip_scores) as scores,
    (select count(*) from videos.quarantine) as quarantine, (select count(*) from release.released_pairs) as released,
    (select count(*) from release.shard_samples) as samples, (select count(*) from viclip.viclip_checkpoint) as checkpoints,
    (select count(*) from viclip.viclip_evaluation) as figures
"""


ENV = {**os.environ, "INTERNVID_VICLIP__RECIPE": "debug_tiny", "INTERNVID_RELEASE__SHARD_SHORT_SIDE": "48"}
"""A training run of seconds."""


def internvid(*arguments: str | Path, **more) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", "from internvid_assets.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, env=ENV, **more)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    render_corpus(folder, seed=3, scale=0.06)
    return folder


@pytest.fixture(scope="module")
def done(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which the corpus was run once, in two batches at a time."""
    home = tmp_path_factory.mktemp("run") / "home"
    result = internvid("run", corpus / "videos", "--home", home, "--batch-size", "6")
    assert result.returncode == 0, result.stderr
    assert "clips.clips" in result.stdout
    return home


def test_what_was_found_agrees_with_the_truth(corpus: Path, done: Path) -> None:
    lake = Lake(Settings(home=done))
    truth = json.loads((corpus / "truth.json").read_text())["videos"]
    clips = lake.rows("select c.*, v.source_uri from clips.clips as c join videos.raw_videos as v using (video_id)")
    labels = {
        r["clip_id"]: r["motion_label"] for r in lake.rows("select clip_id, motion_label from captions.fine_captions")
    }
    texts = {r["clip_id"]: r["text"] for r in lake.rows("select clip_id, text from captions.captions")}
    measures = {
        m.name: m
        for m in compare(
            truth, clips, lake.rows("select * from videos.quarantine"), labels, texts, near_duplicates(lake)
        )
    }
    assert measures["cuts F1"].value >= 0.95
    assert measures["bad files refused for their reason"].value == 1.0
    assert measures["motion class"].value >= 0.8 and measures["motion class"].num_items >= 30
    assert measures["subject named"].value >= 0.8 and measures["subject and motion named"].value >= 0.8
    assert measures["near duplicates F1"].value == 1.0


def test_repeating_changes_nothing(corpus: Path, done: Path) -> None:
    before = Lake(Settings(home=done)).rows(COUNTS)
    assert internvid("run", corpus / "videos", "--home", done, "--batch-size", "6").returncode == 0
    lake = Lake(Settings(home=done))
    assert lake.rows(COUNTS) == before
    newest = lake.rows(
        "select asset, partition_key, changed from lineage.materializations where partition_key is not null "
        "qualify row_number() over (partition by asset, partition_key order by written_at desc) = 1"
    )
    assert [row for row in newest if row["changed"]] == []


def test_a_clip_is_traced_to_its_source(done: Path) -> None:
    clip = Lake(Settings(home=done)).value("select clip_id from clips.clips order by clip_id limit 1")
    result = internvid("lineage", clip, "--home", done)
    assert result.returncode == 0
    assert "rendered_" in result.stdout and "sha256" in result.stdout and "caption by embedded" in result.stdout
    unknown = internvid("lineage", "no_such_thing", "--home", done)
    assert unknown.returncode == 2 and "no_such_thing" in unknown.stderr


def test_killed_and_repeated_loses_and_doubles_nothing(corpus: Path, done: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    command = [sys.executable, "-c", "from internvid_assets.cli import main; main()", "run", str(corpus / "videos")]
    command += ["--home", str(home), "--batch-size", "6"]
    process = subprocess.Popen(command, start_new_session=True, env=ENV)
    lake = Lake(Settings(home=home))
    while not lake.rows("select 1 from lineage.materializations where asset = 'clips.clips'"):
        assert process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    lake.close()
    result = internvid("run", corpus / "videos", "--home", home, "--batch-size", "6")
    assert result.returncode == 0, result.stderr
    assert Lake(Settings(home=home)).rows(COUNTS) == Lake(Settings(home=done)).rows(COUNTS)


def test_everything_made_is_traced_to_its_source(done: Path) -> None:
    lake = Lake(Settings(home=done))
    for query in (
        "select release_id from release.dataset_release",
        "select shards_id from release.training_shards",
        "select checkpoint_id from viclip.viclip_checkpoint",
    ):
        result = internvid("lineage", lake.value(query), "--home", done)
        assert result.returncode == 0 and "rendered_000.mp4" in result.stdout, result.stdout


def test_the_clips_of_a_subset_become_files(done: Path, tmp_path: Path) -> None:
    for _ in range(2):  # the second time nothing is left to do
        result = internvid("export", "internvid_10m_div", tmp_path / "clips", "--home", done, "--short-side", "96")
        assert result.returncode == 0, result.stderr
    lines = [json.loads(line) for line in (tmp_path / "clips" / "clips.jsonl").read_text().splitlines()]
    rows = Lake(Settings(home=done)).rows(
        "select clip_id, end_frame - start_frame as num_frames, caption from subsets.internvid_10m_div join clips.clips using (clip_id)"
    )
    assert {line["file"]: line["Caption"] for line in lines} == {f"{r['clip_id']}.mp4": r["caption"] for r in rows}
    for row in rows:
        with av.open(str(tmp_path / "clips" / f"{row['clip_id']}.mp4")) as container:
            assert sum(1 for _ in container.decode(video=0)) == row["num_frames"]
            assert min(container.streams.video[0].width, container.streams.video[0].height) == 96


def test_the_report_stands_alone(done: Path) -> None:
    lake = Lake(Settings(home=done))
    folder = done / "media" / lake.value("select report_key from viclip.viclip_evaluation limit 1")
    checkpoint = lake.value("select checkpoint_id from viclip.viclip_checkpoint limit 1")
    page = (folder / "report.html").read_text()
    assert "not a measure of generalisation" in page  # no benchmark was configured
    pictures = re.findall(r'src="(data:image/(?:png|jpeg);base64,[^"]+)"', page)
    assert len(pictures) == page.count("<img") >= 10
    for picture in pictures:
        Image.open(io.BytesIO(base64.b64decode(picture.partition(",")[2]))).verify()
    assert checkpoint in (folder / "report.md").read_text()
    assert json.loads((folder / "report.json").read_text())["checkpoint"]["checkpoint_id"] == checkpoint
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.fail("no Chromium: `make test` installs it")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", f"file://{folder / 'report.html'}"]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
    assert f"<title>ViCLIP {checkpoint}</title>" in dom and 'id="results"' in dom
    command[4:5] = [f"--screenshot={done / 'report.png'}", "--window-size=1100,3000"]
    subprocess.run(command, capture_output=True, timeout=120)
    shot = np.asarray(Image.open(done / "report.png").convert("L"), dtype=float)
    assert shot.shape == (3000, 1100) and shot.std() > 10


def launch_train_viclip(home: Path, **environment: str) -> None:
    """As `dagster job launch -j train_viclip`: the run starts at once, without a daemon, and gives one more checkpoint."""
    env = {**ENV, "INTERNVID_HOME": str(home), "DAGSTER_HOME": str(home / "dagster"), **environment}
    before = Lake(Settings(home=home)).value("select count(*) from viclip.viclip_checkpoint")
    workspace = Path(__file__).parents[1] / "workspace.yaml"
    launch = [Path(sys.executable).parent / "dagster", "job", "launch", "-w", workspace, "-j", "train_viclip"]
    subprocess.run(launch, env=env, check=True, capture_output=True, timeout=300)
    status = [sys.executable, "-c", "import dagster as dg; i = dg.DagsterInstance.get(); "
              "print(i.get_run_records(limit=1)[0].dagster_run.status.value)"]  # fmt: skip
    deadline = time.monotonic() + 240
    while (now := subprocess.run(status, env=env, capture_output=True, text=True).stdout.strip()) not in (
        "SUCCESS",
        "FAILURE",
    ):
        assert time.monotonic() < deadline, now
    assert now == "SUCCESS"
    assert Lake(Settings(home=home)).value("select count(*) from viclip.viclip_checkpoint") == before + 1


def test_train_viclip_is_launched_from_a_shell(done: Path) -> None:
    launch_train_viclip(done, INTERNVID_VICLIP__SEED="7")


def test_train_viclip_is_launched_on_a_cluster(done: Path, tmp_path: Path) -> None:
    """The same command; settings alone let two pods of the stand-in train. They run as root, who may look into pytest's folders."""
    if reason := why_no_namespaces():
        pytest.skip(reason)
    manifests = tmp_path / "manifests"
    shutil.copytree(MANIFESTS, manifests)
    job = (manifests / "job.yaml").read_text()
    (manifests / "job.yaml").write_text(re.sub(r"(runAsUser|runAsGroup|fsGroup): \d+", r"\1: 0", job))
    with KubeSim(tmp_path / "sim") as sim:
        sim.claim("home", done)
        kubernetes = {"image": "trainer", "nodes": 2, "gpu_resource": "none", "claim": "home", "claim_path": str(done),
                      "resources": {"cpu": "1"}, "kubeconfig": str(sim.kubeconfig), "manifests": str(manifests),
                      "port": free_ports(1)[0]}  # fmt: skip
        viclip = {"recipe": "debug_tiny", "seed": 8, "num_processes": 1, "launcher": "k8s", "kubernetes": kubernetes}
        launch_train_viclip(done, INTERNVID_VICLIP=json.dumps(viclip))
        assert [job["status"]["succeeded"] for job in sim.all("jobs")] == [2]


def test_the_whole_path_on_postgres_and_s3(cluster_settings: Settings, tmp_path: Path) -> None:
    render_corpus(tmp_path / "corpus", seed=4, scale=0.02)
    settings = cluster_settings
    env = {
        **ENV, "INTERNVID_MEDIA_ROOT": settings.media_uri, "INTERNVID_LAKE__CATALOG": settings.catalog_uri,
        "INTERNVID_LAKE__DATA_PATH": settings.data_path, "INTERNVID_S3__ENDPOINT_URL": str(settings.s3.endpoint_url),
        "INTERNVID_S3__ACCESS_KEY_ID": "any", "INTERNVID_S3__SECRET_ACCESS_KEY": "any",
    }  # fmt: skip
    program = [sys.executable, "-c", "from internvid_assets.cli import main; main()"]
    arguments = ["run", tmp_path / "corpus" / "videos", "--home", settings.home, "--batch-size", "6"]
    for _ in range(2):
        result = subprocess.run([*program, *map(str, arguments)], env=env, capture_output=True, text=True, timeout=600)
        assert result.returncode == 0, result.stderr[-3000:]
        assert f"report   {settings.media_uri}/reports/" in result.stdout
    lake, store = Lake(settings), open_store(settings)
    assert not (settings.home / "lake").exists() and not (settings.home / "media").exists()
    assert b"<title>ViCLIP" in store.get_bytes(f"{newest_report(lake)}/report.html")
    checkpoint = lake.value("select checkpoint_id from viclip.viclip_checkpoint")
    assert any("rendered_000.mp4" in line for line in explain(lake, checkpoint))
    assert lake.value("select count(*) from viclip.viclip_checkpoint") == 1


@pytest.mark.skipif(not REAL_VIDEOS.is_dir(), reason="runs where a folder of real videos lies beside the repository")
def test_real_videos_go_all_the_way(tmp_path: Path) -> None:
    result = internvid("run", REAL_VIDEOS, "--home", tmp_path / "home")
    assert result.returncode == 0, result.stderr
    lake = Lake(Settings(home=tmp_path / "home"))
    assert lake.value("select count(*) from subsets.filtered_pairs") > 5
    assert lake.value("select count(*) from viclip.viclip_evaluation") > 0


def test_a_full_disk_is_one_line_and_the_next_run_goes_on(corpus: Path, tmp_path: Path) -> None:
    """A file size limit stands in for a full disk: the same OSError from the same writes."""
    home = tmp_path / "home"
    script = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, 600_000)); from internvid_assets.cli import main; main()"
    )
    arguments = ["run", str(corpus / "videos"), "--home", str(home), "--until", "clips"]
    result = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=300, env=ENV
    )
    assert (result.returncode, len(result.stderr.strip().splitlines())) == (1, 1), result.stderr
    assert "File too large" in result.stderr
    assert Lake(Settings(home=home)).value("select count(*) from videos.quarantine where stage = 'clips'") == 0
    assert not list((home / "media").rglob(".partial-*"))
    assert internvid(*arguments).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "missing-folder"], "missing-folder does not exist"),
        (["run", ".", "--captioner", "nobody"], "captioner 'nobody' does not exist"),
        (["run", ".", "--until", "nothing"], "asset 'nothing' does not exist"),
        (["run", ".", "--batch-size", "0"], "batch_size = 0"),
        (["run"], "Missing argument 'sources'"),
        (["status"], "no home at"),
        (["recaption", "--budget", "0", "--home", "."], "Invalid value for '--budget'"),
        (["release", "nothing", "--home", "."], "subset 'nothing' does not exist: choose one of"),
        (["export", "nothing", "clips", "--home", "."], "subset 'nothing' does not exist"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(arguments: list[str], message: str, tmp_path: Path) -> None:
    (tmp_path / "video.mp4").write_bytes(b"")
    result = internvid(*arguments, cwd=tmp_path)
    assert (result.returncode, len(result.stderr.strip().splitlines())) == (2, 1), result.stderr
    assert message in result.stderr


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("INTERNVID_VICLIP__RECIPE", "nobody", "recipe 'nobody' does not exist"),
        ("INTERNVID_VICLIP__BENCHMARKS", '{"k400": "gone.csv"}', "benchmark k400: no file gone.csv"),
        ("INTERNVID_SCORES__SIMILARITY", "umt", "scores.similarity = 'umt' does not exist"),
        ("INTERNVID_DUPLICATES__SEMANTIC", "umt", "duplicates.semantic = 'umt' does not exist"),
        ("INTERNVID_GATE__BLOCK_LISTS", '["/nowhere"]', "gate.block_lists: /nowhere cannot be read"),
        ("INTERNVID_CLIPS__DETECTOR", "best", "detector 'best' is unknown: choose one of content"),
        ("INTERNVID_CLIPS__DECODER", "nvdec", "decoder 'nvdec' needs an NVIDIA GPU"),
        ("INTERNVID_WORKERS", "0", "workers = '0'"),
        ("INTERNVID_CLIPS", '{"threshhold": 3}', "setting clips.threshhold does not exist"),
    ],
)
def test_wrong_settings_are_found_before_any_work(variable: str, value: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "video.mp4").write_bytes(b"")
    command = [sys.executable, "-c", "from internvid_assets.cli import main; main()", "run", ".", "--home", "home"]
    env = {**ENV, variable: value}
    result = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120)
    assert (result.returncode, len(result.stderr.strip().splitlines())) == (2, 1), result.stderr
    assert message in result.stderr
    assert not (tmp_path / "home" / "lake").exists()


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    result = internvid("run", tmp_path / "in", "--home", tmp_path / "home")
    assert result.returncode == 2 and "holds no files" in result.stderr

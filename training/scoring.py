"""From a model and a benchmark to a matrix of scores, by the protocol.

B videos, T frames, C channels, H W pixels, K classes, P templates, N captions, E embedding.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from training.benchmarks import Benchmark
from training.contenders import Contender
from training.data import ShardReader, decode, resized
from training.data.video import centre_crops, positions, read_frames
from training.protocol import Protocol
from training.viclip import ViCLIP

_BATCH_CLIPS, _BATCH_TEXTS = 16, 256
Pictures = list[np.ndarray]


@dataclass(frozen=True)
class Scores:
    """action: [B, K]; retrieval: [N, B], a row for each caption."""

    benchmark: Benchmark  # without the videos that could not be read
    matrix: np.ndarray

    @property
    def owners_N(self) -> np.ndarray:
        """Number of the video of each caption."""
        return np.array([number for number, texts in enumerate(self.benchmark.captions) for _ in texts])


@torch.inference_mode()
def score(
    contender: Contender, benchmark: Benchmark, protocol: Protocol, workers: int = 1, skip: bool = False
) -> Scores:
    """Raises: ValueError naming a video that cannot be read, unless `skip`; then it is left out and counted in the note."""
    model = contender.model
    if benchmark.task == "action" and contender.head is not None:
        head = contender.head.rows_of(benchmark.classes)
        kept, shares_BK = _per_video(model, benchmark, protocol, lambda x: head.shares(model, x), workers, skip)
        return Scores(kept, shares_BK.cpu().numpy())
    encode = _frame_by_frame(model) if protocol.single_frame else model.encode_video
    kept, video_BE = _per_video(model, benchmark, protocol, encode, workers, skip)
    if benchmark.task == "action":
        return Scores(kept, _class_scores(model, video_BE, kept, protocol))
    texts = [caption for captions in kept.captions for caption in captions]
    return Scores(kept, (_embed_texts(model, texts, protocol) @ video_BE.T).cpu().numpy())


def _frame_by_frame(model: ViCLIP) -> Callable[[Tensor], Tensor]:
    def encode(video_BTCHW: Tensor) -> Tensor:
        frames_BTE = model.encode_video(video_BTCHW.flatten(0, 1).unsqueeze(1)).unflatten(0, video_BTCHW.shape[:2])
        return functional.normalize(frames_BTE.mean(1), dim=-1)

    return encode


def _class_scores(model: ViCLIP, video_BE: Tensor, benchmark: Benchmark, protocol: Protocol) -> np.ndarray:
    """[B, K]; the released code averages the similarity over templates, CLIP the embedding (then of unit length)."""
    texts = [template.format(name) for name in benchmark.classes for template in protocol.templates]
    text_KPE = _embed_texts(model, texts, protocol).unflatten(0, (len(benchmark.classes), len(protocol.templates)))
    text_KE = text_KPE.mean(1)  # the mean of similarities is the similarity to the mean
    if protocol.template_averaging == "embeddings":
        text_KE = functional.normalize(text_KE, dim=-1)
    return (video_BE @ text_KE.T).cpu().numpy()


def _embed_texts(model: ViCLIP, texts: list[str], protocol: Protocol) -> Tensor:
    parts = [texts[i : i + _BATCH_TEXTS] for i in range(0, len(texts), _BATCH_TEXTS)]
    return torch.cat([model.encode_text(part, clean=protocol.text_clean_up) for part in parts])


def _per_video(
    model: ViCLIP,
    benchmark: Benchmark,
    protocol: Protocol,
    encode: Callable[[Tensor], Tensor],
    workers: int,
    skip: bool,
) -> tuple[Benchmark, Tensor]:
    """What `encode` gives for each clip, averaged over the views and crops of a video, [B, …]."""
    num_frames, size = model.config.vision.num_frames, model.config.vision.image_size
    parts: list[Tensor] = []
    waiting: list[np.ndarray] = []  # [T, C, H, W] each
    clips_each = protocol.num_views * protocol.num_crops
    unreadable: list[int] = []

    def flush() -> None:
        clips = torch.from_numpy(np.stack(waiting)).to(model.device)
        parts.append(encode(clips).unflatten(0, (-1, clips_each)).mean(1))
        waiting.clear()

    readings = read_benchmark(benchmark, num_frames * protocol.num_views, protocol, workers)
    bar = tqdm(readings, benchmark.name, len(benchmark), leave=False, delay=1.0, disable=None)
    for number, pictures in enumerate(bar):
        if isinstance(pictures, ValueError):
            if not skip:
                raise pictures
            unreadable.append(number)
            continue
        waiting += _clips(pictures, size, protocol)
        if len(waiting) >= _BATCH_CLIPS:
            flush()
    if waiting:
        flush()
    if not parts:
        raise ValueError(f"benchmark {benchmark.name}: none of its {len(benchmark)} videos can be read")
    return without(benchmark, unreadable), torch.cat(parts)


def _clips(pictures: Pictures, size: int, protocol: Protocol) -> list[np.ndarray]:
    """[T, C, H, W] of every view and crop of a video."""
    views = [pictures[view :: protocol.num_views] for view in range(protocol.num_views)]
    if protocol.resize == "straight":
        return [resized(view, size) for view in views]
    return [resized(crop, size) for view in views for crop in centre_crops(view, size, protocol.num_crops)]


def without(benchmark: Benchmark, numbers: list[int]) -> Benchmark:
    """The benchmark less some items, which the note counts."""
    if not numbers:
        return benchmark
    kept = [i for i in range(len(benchmark)) if i not in set(numbers)]
    note = f"{benchmark.name}: {len(numbers)} videos cannot be read, so the numbers compare with no other copy"
    return replace(
        benchmark,
        videos=tuple(benchmark.videos[i] for i in kept),
        labels=tuple(benchmark.labels[i] for i in kept) if benchmark.labels else (),
        captions=tuple(benchmark.captions[i] for i in kept) if benchmark.captions else (),
        note=f"{benchmark.note}; {note}" if benchmark.note else note,
    )


def read_benchmark(
    benchmark: Benchmark, num_frames: int, protocol: Protocol, workers: int = 1, numbers: Sequence[int] | None = None
) -> Iterator[Pictures | ValueError]:
    """The frames of the numbered items of a benchmark (None: of all) in order, or the error that says why one has none."""
    choose = positions(num_frames, protocol.sampling)
    reader = None if benchmark.shards is None else ShardReader(benchmark.shards)

    def read(number: int) -> Pictures | ValueError:
        try:
            if reader is None:
                return read_frames(benchmark.videos[number], choose, benchmark.max_seconds)
            frames = reader[number].frames
            return [decode(frames[i]) for i in choose(len(frames))]
        except ValueError as error:
            return error

    return _ahead(read, range(len(benchmark)) if numbers is None else numbers, workers)


def _ahead(
    read: Callable[[int], Pictures | ValueError], numbers: Sequence[int], workers: int
) -> Iterator[Pictures | ValueError]:
    """Results in order, read by threads (decoding lets go of the interpreter) a few items ahead."""
    with ThreadPoolExecutor(workers) as pool:
        waiting = deque(pool.submit(read, number) for number in numbers[: 2 * workers])
        for number in numbers[2 * workers :]:
            yield waiting.popleft().result()
            waiting.append(pool.submit(read, number))
        while waiting:
            yield waiting.popleft().result()

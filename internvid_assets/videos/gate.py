"""Which probed videos are accepted: pure decisions from facts and settings (P§3.1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from internvid_assets.lake import Lake
from internvid_assets.lake.stage import Refusal
from internvid_assets.lake.takedown import tombstone_key, tombstones
from internvid_assets.settings import GateSettings
from internvid_assets.videos.probe import VideoFacts


def refusal(facts: VideoFacts, license_name: str | None, gate: GateSettings) -> Refusal | None:
    """The first rule that refuses the video, or None when it is accepted.

    Reasons: `too_short`, `too_long`, `too_small`, `too_large`, `license`. A container that does not say how long it is
    passes here; its clips carry the measured spans.
    """
    seconds, lines = facts.duration_seconds, min(facts.width, facts.height)
    if 0 < seconds < gate.min_seconds:
        return Refusal("too_short", f"{seconds:.2f} s, gate.min_seconds is {gate.min_seconds:g}")
    if seconds > gate.max_seconds:
        return Refusal("too_long", f"{seconds:.0f} s, gate.max_seconds is {gate.max_seconds:g}")
    if lines < gate.min_lines:
        return Refusal("too_small", f"{facts.width}x{facts.height}, gate.min_lines is {gate.min_lines}")
    if facts.width * facts.height > gate.max_pixels:
        return Refusal("too_large", f"{facts.width}x{facts.height}, gate.max_pixels is {gate.max_pixels}")
    if gate.allowed_licenses and license_name not in gate.allowed_licenses:
        return Refusal("license", f"{license_name or 'unknown'} is not in gate.allowed_licenses")
    return None


def taken_down(taken: Mapping[str, str], names: Sequence[str]) -> Refusal | None:
    """The refusal `taken_down` when a source's content hash, id or address has a tombstone.

    Args:
        taken: `tombstones` of the lake.
    """
    for name in names:
        if takedown_id := taken.get(tombstone_key(name)):
            return Refusal("taken_down", f"takedown {takedown_id}")
    return None


@dataclass(frozen=True)
class Exclusions:
    """What must not get in: taken down, on a block list, or in a public benchmark."""

    taken: Mapping[str, str]
    """Tombstone keys to takedowns."""
    blocked: Mapping[str, str]
    """Ids, addresses, folders of addresses and content hashes to where they are listed."""
    tested: Mapping[str, str]
    """Ids, names and content hashes to benchmarks."""

    def refusal(self, content_sha256: str, video_id: str, source_uri: str) -> Refusal | None:
        """`taken_down`, `blocked` or `in_benchmark`; None when nothing keeps the source out."""
        names = (content_sha256, video_id, source_uri)
        if refused := taken_down(self.taken, names):
            return refused
        for name in (*names, *_folders(source_uri)):
            if name in self.blocked:
                return Refusal("blocked", f"{name} is listed in {self.blocked[name]}")
        for name in (*names, PurePosixPath(source_uri).stem):
            if name in self.tested:
                return Refusal("in_benchmark", f"{name} belongs to {self.tested[name]}")
        return None


def exclusions(lake: Lake, gate: GateSettings) -> Exclusions:
    """What the lake's tombstones, the block lists of the settings and the lake's benchmarks keep out.

    Raises: ValueError naming a block list that cannot be read.
    """
    items = lake.query("select video_key, min(benchmark) as benchmark from videos.benchmark_items group by video_key")
    tested = zip(items["video_key"].to_pylist(), items["benchmark"].to_pylist(), strict=True)
    return Exclusions(tombstones(lake), read_block_lists(gate.block_lists), dict(tested))


def read_block_lists(paths: Sequence[str]) -> dict[str, str]:
    """Each item of the files to its place. One an item a line: an id, an address, a folder or channel that addresses
    begin with, or a content SHA-256; what follows a # after a space is a remark.

    Raises: ValueError naming a file that cannot be read.
    """
    found: dict[str, str] = {}
    for path in paths:
        try:
            lines = Path(path).read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"gate.block_lists: {path} cannot be read: {error}") from error
        for number, line in enumerate(lines, 1):
            item = "" if line.startswith("#") else line.partition(" #")[0].strip().rstrip("/")
            if item:
                found.setdefault(item, f"{path} line {number}")
    return found


def _folders(source_uri: str) -> Iterator[str]:
    """Worked example: `https://a.org/b/c.mp4` gives `https://a.org/b` and `https://a.org`."""
    rest = source_uri
    while "/" in rest.partition("://")[2] or ("://" not in rest and "/" in rest.rstrip("/")):
        rest = rest.rpartition("/")[0]
        if rest:
            yield rest

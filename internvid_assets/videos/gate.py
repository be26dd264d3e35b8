"""Which probed videos are accepted: pure decisions from facts and settings (P§3.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from internvid_assets.lake.stage import Refusal
from internvid_assets.lake.takedown import tombstone_key
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

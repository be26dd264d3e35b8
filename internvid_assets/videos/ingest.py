"""One batch of sources becomes videos whose bytes we hold, quarantine rows, and items that wait for another try."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from internvid_assets.lake import Lake, Replace
from internvid_assets.lake.stage import Refusal, StageResult, count_reasons, quarantine_change, short_hash
from internvid_assets.settings import Settings
from internvid_assets.store import ObjectStore
from internvid_assets.videos.addresses import is_remote
from internvid_assets.videos.attempts import Attempts
from internvid_assets.videos.gate import Exclusions, exclusions, read_block_lists, refusal
from internvid_assets.videos.holders import Holders, in_rounds
from internvid_assets.videos.journal import Journal
from internvid_assets.videos.ledger import QUARANTINED, Outcome, attempt_row, is_due, item_row, quarantined, utc_now
from internvid_assets.videos.probe import VideoFacts

CODE_VERSION = "3"
Progress = Callable[..., Any]
_FACTS = tuple(VideoFacts.__dataclass_fields__)


def ingest_parts(
    lake: Lake, store: ObjectStore, settings: Settings, batch: str, progress: Progress
) -> Iterator[StageResult]:
    """`ingest_batch` as the one part of a stage; what it kept for a crash is given up when the part is stored.

    Of two processes of this machine that ingest one batch, the second waits until the first has stored it.
    """
    journal = _journal(settings, batch)
    with journal.locked():
        yield ingest_batch(lake, store, settings, batch, progress)
        journal.clear()


def ingest_batch(lake: Lake, store: ObjectStore, settings: Settings, batch: str, progress: Progress) -> StageResult:
    """Fetch, hash, probe and store every source of the batch that is due; keep what became of the others.

    Files of this machine are looked at every time. What is held stays held, judged anew by the gate, even when its source
    is gone. The same bytes under two names are one video: the source that the lake held first keeps it, within a batch
    the first by address; the other is refused as `exact_duplicate`. What was taken down is refused as `taken_down`.
    """
    known = _Known.of(lake, settings, batch)
    journal = _journal(settings, batch)
    outcomes = journal.read()
    todo = [row for uri, row in known.sources.items() if uri not in outcomes and known.is_due(uri)]
    attempts = Attempts(store, settings, known.excluded, journal)
    for outcome in progress(_tried(lake, known, attempts, todo, outcomes), "raw_videos", total=len(todo)):
        outcomes[outcome.source_uri] = outcome
    return _assembled(lake, known, settings, known.settled(lake, outcomes))


def _tried(
    lake: Lake, known: _Known, attempts: Attempts, todo: Sequence[dict[str, Any]], outcomes: Mapping[str, Outcome]
) -> Iterator[Outcome]:
    """The outcomes of sources; those whose YouTube id is held by another are refused without being asked for."""
    holders = Holders(lake, known.batch)
    holders.look_up(row["youtube_id"] for row in todo if row["youtube_id"])
    for uri, row in known.held.items():
        holders.claim(row["video_id"], uri)
    for uri, outcome in outcomes.items():
        if outcome.video is not None:
            holders.claim(outcome.video["video_id"], uri)
    for now, taken in in_rounds(todo, holders.of):
        for source, holder in taken:
            words = f"same id as {holder}"
            yield Outcome(
                source["source_uri"], "exact_duplicate", words, is_refusal=True, tried_at=utc_now().isoformat()
            )
        for outcome in attempts.run(now):
            if outcome.video is not None:
                holders.claim(outcome.video["video_id"], outcome.source_uri)
            yield outcome


def gate_version(settings: Settings) -> str:
    """Changes when the gate may judge otherwise. Raises: ValueError naming a block list that cannot be read."""
    return short_hash(settings.gate.model_dump(), sorted(read_block_lists(settings.gate.block_lists)))


def _journal(settings: Settings, batch: str) -> Journal:
    return Journal(settings.cache_folder / "fetch" / f"{batch}.jsonl", gate_version(settings))


@dataclass(frozen=True)
class _Known:
    """What the lake has of a batch, by address, and what must not get in."""

    batch: str
    settings: Settings
    sources: Mapping[str, dict[str, Any]]
    items: Mapping[str, dict[str, Any]]
    held: Mapping[str, dict[str, Any]]
    excluded: Exclusions

    @classmethod
    def of(cls, lake: Lake, settings: Settings, batch: str) -> _Known:
        def by_uri(table: str) -> dict[str, dict[str, Any]]:
            rows = lake.rows(f"select * from {table} where batch = ? order by source_uri", [batch])
            return {row["source_uri"]: row for row in rows}

        return cls(
            batch,
            settings,
            sources=by_uri("videos.sources"),
            items=by_uri("videos.items"),
            held=by_uri("videos.raw_videos"),
            excluded=exclusions(lake, settings.gate),
        )

    def is_due(self, uri: str) -> bool:
        """Whether the source is to be looked at in this run."""
        if is_remote(uri):
            return uri not in self.held and is_due(self.items.get(uri), utc_now(), gate_version(self.settings))
        return True

    def settled(self, lake: Lake, outcomes: Mapping[str, Outcome]) -> dict[str, Outcome | None]:
        """The outcome of each source, duplicates decided; None: what the lake has of it stands.

        What is held already goes first, so that it keeps its bytes.
        """
        found = {uri: self._still_held(uri, outcomes.get(uri)) for uri in self.sources}
        holders = Holders(lake, self.batch)
        holders.look_up(name for o in found.values() if o and o.video for name in _names(o.video))
        for uri in sorted(found, key=lambda uri: (uri not in self.held, uri)):
            outcome = found[uri]
            if outcome is not None and outcome.video is not None:
                found[uri] = self._judged(outcome, holders)
        return found

    def _still_held(self, uri: str, outcome: Outcome | None) -> Outcome | None:
        """A video whose bytes are held and whose source gave nothing new, as an outcome."""
        if uri not in self.held or not (outcome is None or outcome.failure == "gone"):
            return outcome
        item = self.items.get(uri)
        row = {name: value for name, value in self.held[uri].items() if name != "batch"}
        tried_at = item["tried_at"] if item else utc_now()
        return Outcome(uri, video=row, num_tries=0 if item else 1, tried_at=tried_at.isoformat())

    def _judged(self, outcome: Outcome, holders: Holders) -> Outcome:
        """The outcome, or its refusal: by the gate as it now is, as excluded, or as a duplicate."""
        video = outcome.video
        assert video is not None
        refused = refusal(VideoFacts(**{name: video[name] for name in _FACTS}), video["license"], self.settings.gate)
        refused = refused or self.excluded.refusal(*_names(video), outcome.source_uri)
        for name, words in zip(_names(video), ("bytes", "id"), strict=True):
            if refused is None and (holder := holders.of(name)) not in (None, outcome.source_uri):
                refused = Refusal("exact_duplicate", f"same {words} as {holder}")
        if refused is None:
            for name in _names(video):
                holders.claim(name, outcome.source_uri)
        return outcome if refused is None else refused_outcome(outcome, refused)


def _names(video: Mapping[str, Any]) -> tuple[str, str]:
    """What no two videos share: the hash of the content, and the id."""
    return video["content_sha256"], video["video_id"]


def refused_outcome(outcome: Outcome, refused: Refusal) -> Outcome:
    """The same attempt with a refusal in place of a video."""
    return Outcome(
        outcome.source_uri, refused.reason, refused.detail, is_refusal=True, num_tries=outcome.num_tries,
        num_bytes=outcome.num_bytes, seconds=outcome.seconds, tried_at=outcome.tried_at,
    )  # fmt: skip


def _assembled(lake: Lake, known: _Known, settings: Settings, outcomes: Mapping[str, Outcome | None]) -> StageResult:
    """All rows of the batch, replaced whole."""
    batch, where = known.batch, f"batch = '{known.batch}'"
    items: list[dict[str, Any]] = []
    new_attempts: list[dict[str, Any]] = []
    for uri, outcome in sorted(outcomes.items()):
        before = known.items.get(uri)
        item = before if outcome is None else item_row(before, outcome, batch, settings.fetch, gate_version(settings))
        assert item is not None, f"{uri} was neither tried nor is it known"
        items.append(item)
        if (
            outcome is not None
            and outcome.num_tries
            and (before is None or item["num_attempts"] > before["num_attempts"])
        ):
            new_attempts.append(attempt_row(item, outcome))
    videos = [
        {"batch": batch, **o.video} for uri, o in sorted(outcomes.items()) if o is not None and o.video is not None
    ]
    refused = [quarantined(item) for item in items if item["state"] in QUARANTINED]
    waiting = [quarantined(item) for item in items if item["state"] == "retryable"]
    attempts = lake.rows(f"select * from videos.attempts where {where}") + new_attempts
    return StageResult(
        changes=[
            Replace("videos.raw_videos", lake.to_arrow("videos.raw_videos", videos), where),
            quarantine_change(lake, batch, "videos", refused),
            Replace("videos.items", lake.to_arrow("videos.items", items), where),
            Replace("videos.attempts", lake.to_arrow("videos.attempts", attempts), where),
        ],
        num_in=len(items),
        num_out=len(videos),
        drops=count_reasons([*refused, *waiting]),
        metadata={
            "bytes": sum(row["num_bytes"] for row in videos),
            "waiting_for_a_retry": len(waiting),
            "attempts": len(new_attempts),
        },
        costs={"bytes_fetched": float(sum(row["num_bytes"] for row in new_attempts))},
    )

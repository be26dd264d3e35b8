"""Captions from any server that speaks the OpenAI chat completions protocol with images, such as vLLM."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from internvid_assets.captions.base import Captioner, ClipInput, CoarseCaption, FineCaption, FramePolicy, MergeInput
from internvid_assets.captions.chat_client import ChatAnswer, ChatClient, ChatRequest
from internvid_assets.captions.options import merge_template, number, positive
from internvid_assets.captions.text_quality import is_refusal
from internvid_assets.clips.packs import PackedFrame
from internvid_assets.lake.stage import Refusal

CODE_VERSION = "2"
COARSE_PROMPT = "Describe this picture in one short sentence."
FINE_PROMPT = "Name what is seen in this video frame in a few words."
MERGE_PROMPT = "These texts describe frames of one short clip. Say in one short sentence what the clip shows.\n{texts}"


class EndpointCaptioner(Captioner):
    """Asks a server, many requests at once. Options come as strings from the settings; those of the connection
    (url, concurrency, limits, prices) are no part of the version, nor is the key, which comes from the environment
    variable INTERNVID_ENDPOINT_KEY. `revision` is yours to name: a server does not say which weights it holds.
    """

    name = "endpoint"
    reads_transcript = True

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000/v1",
        model: str = "default",
        revision: str = "",
        coarse_prompt: str = COARSE_PROMPT,
        fine_prompt: str = FINE_PROMPT,
        merge_prompt: str = MERGE_PROMPT,
        max_tokens: str = "60",
        temperature: str = "0",
        max_second_frames: str = "8",
        concurrency: str = "16",
        timeout_seconds: str = "60",
        max_tries: str = "6",
        max_wait_seconds: str = "300",
        requests_per_minute: str = "0",
        tokens_per_minute: str = "0",
        prompt_price: str = "0",
        completion_price: str = "0",
    ):
        self._model = {
            "model": model,
            "max_tokens": positive("max_tokens", max_tokens),
            "temperature": number("temperature", temperature),
        }
        self._revision = revision
        self._prompts = {
            "coarse": coarse_prompt,
            "fine": fine_prompt,
            "merge": merge_template("merge_prompt", merge_prompt),
        }
        self._policy = FramePolicy(positive("max_second_frames", max_second_frames))
        self._prices = (number("prompt_price", prompt_price), number("completion_price", completion_price))
        self.client = ChatClient(
            url.rstrip("/"),
            os.environ.get("INTERNVID_ENDPOINT_KEY"),
            positive("concurrency", concurrency),
            number("timeout_seconds", timeout_seconds, least=0.001),
            positive("max_tries", max_tries),
            number("max_wait_seconds", max_wait_seconds),
            number("requests_per_minute", requests_per_minute),
            number("tokens_per_minute", tokens_per_minute),
        )
        self._reported: dict[str, float] = {}

    def spec(self, step: str) -> dict[str, Any]:
        """See `Captioner.spec`."""
        spec = {"code_version": CODE_VERSION, **self._model, "revision": self._revision, "prompt": self._prompts[step]}
        return spec | {"max_second_frames": self._policy.max_second_frames} if step == "fine" else spec

    def coarse(self, clips: Iterable[ClipInput]) -> Iterator[tuple[str, CoarseCaption | Refusal]]:
        """A text of each middle frame."""
        parts = ((clip.clip_id, [clip.frames.middle], None) for clip in clips)
        for clip_id, texts, _ in self._answered("coarse", parts):
            yield clip_id, texts if isinstance(texts, Refusal) else CoarseCaption(texts[0])

    def fine(self, clips: Iterable[ClipInput]) -> Iterator[tuple[str, FineCaption | Refusal]]:
        """A text of each frame at one a second; the first refusal refuses the clip, and its other answers are kept."""
        chosen = ((clip.clip_id, [clip.frames.seconds[i] for i in self._policy.seconds(clip.frames)]) for clip in clips)
        parts = ((clip_id, frames, tuple(frame.seconds for frame in frames)) for clip_id, frames in chosen)
        for clip_id, texts, seconds in self._answered("fine", parts):
            yield clip_id, texts if isinstance(texts, Refusal) else FineCaption(seconds, tuple(texts))

    def merge(self, clips: Iterable[MergeInput]) -> Iterator[tuple[str, str | Refusal]]:
        """One sentence from the texts and what is said."""
        parts = ((clip.clip_id, [_listed(clip)], None) for clip in clips)
        for clip_id, texts, _ in self._answered("merge", parts):
            yield clip_id, texts if isinstance(texts, Refusal) else texts[0]

    def spent(self) -> dict[str, float]:
        """Requests, retries, tokens and, where prices are set, money since this was last asked."""
        ledger = self.client.ledger
        total = {
            "requests": ledger.requests, "retries": ledger.retries,
            "prompt_tokens": ledger.prompt_tokens, "completion_tokens": ledger.completion_tokens,
            "money": (ledger.prompt_tokens * self._prices[0] + ledger.completion_tokens * self._prices[1]) / 1e6,
        }  # fmt: skip
        fresh = {name: value - self._reported.get(name, 0) for name, value in total.items()}
        self._reported = total
        return {name: value for name, value in fresh.items() if value}

    def _answered(
        self, step: str, clips: Iterable[tuple[str, Sequence[PackedFrame | str], Any]]
    ) -> Iterator[tuple[str, list[str] | Refusal, Any]]:
        """Each clip with the texts of all its parts, or with their first refusal, as soon as all have come."""
        waiting: dict[str, _Clip] = {}
        whole: deque[str] = deque()  # clips that lack no part; filled by the drawing thread too

        def requests() -> Iterator[ChatRequest]:
            for clip_id, parts, extra in clips:
                bodies = [self._body(step, part) for part in parts]
                keys = [hashlib.sha256(body).hexdigest() for body in bodies]
                texts = [self._held(clip_id, key) for key in keys]
                waiting[clip_id] = _Clip(texts, extra)
                if None not in texts:
                    whole.append(clip_id)
                for position, (key, body) in enumerate(zip(keys, bodies, strict=True)):
                    if texts[position] is None:
                        yield ChatRequest((clip_id, position, key), body)

        for (clip_id, position, _), answer in self.client.ask(requests(), self._keep):
            clip = waiting[clip_id]
            clip.texts[position] = answer if isinstance(answer, Refusal) else _judged(answer)
            if None not in clip.texts:
                whole.append(clip_id)
            while whole:
                yield _finished(identity := whole.popleft(), waiting.pop(identity))
        while whole:
            yield _finished(identity := whole.popleft(), waiting.pop(identity))

    def _held(self, clip_id: str, key: str) -> str | Refusal | None:
        """The answer that an earlier, interrupted run has paid for."""
        answer = self.answers.get(clip_id, key) if self.answers else None
        return _judged(ChatAnswer(**answer)) if answer else None

    def _keep(self, key: tuple[str, int, str], answer: ChatAnswer) -> None:
        if self.answers:
            self.answers.put(key[0], key[2], asdict(answer))

    def _body(self, step: str, part: PackedFrame | str) -> bytes:
        """A frame with the step's prompt, or the prompt with texts put into it."""
        prompt = self._prompts[step]
        if isinstance(part, str):
            content: list[dict[str, Any]] = [{"type": "text", "text": prompt.replace("{texts}", part)}]
        else:
            url = f"data:image/jpeg;base64,{base64.b64encode(part.jpeg).decode()}"
            content = [{"type": "text", "text": prompt}, {"type": "image_url", "image_url": {"url": url}}]
        return json.dumps(self._model | {"messages": [{"role": "user", "content": content}]}).encode()


@dataclass
class _Clip:
    """A clip under way: its texts so far, and what goes with them."""

    texts: list[str | Refusal | None]
    extra: Any


def _finished(clip_id: str, clip: _Clip) -> tuple[str, list[str] | Refusal, Any]:
    refusal = next((text for text in clip.texts if isinstance(text, Refusal)), None)
    return clip_id, refusal or [text for text in clip.texts if isinstance(text, str)], clip.extra


def _judged(answer: ChatAnswer) -> str | Refusal:
    """The text, without the sentence that the token limit cut, or why it is none."""
    text = answer.text
    if answer.is_cut and (end := max(text.rfind(mark) for mark in (". ", "! ", "? "))) > 0:
        text = text[: end + 1]
    if not text:
        return Refusal("empty_text", "the model said nothing")
    return Refusal("model_refused", text[:200]) if is_refusal(text) else text


def _listed(clip: MergeInput) -> str:
    """The clip's texts and what is said, one a line."""
    said = [f'Someone says: "{clip.transcript}"'] if clip.transcript else []
    return "\n".join(f"- {text}" for text in [*clip.texts, *said])

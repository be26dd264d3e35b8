"""Any server that speaks the OpenAI chat completions protocol with images, such as vLLM."""

from __future__ import annotations

import asyncio
import base64
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from internvid_assets.captions.base import ClipInput, CoarseCaption, FineCaption, FramePolicy, MergeInput
from internvid_assets.clips.packs import PackedFrame
from internvid_assets.lake.stage import Refusal, short_hash

CODE_VERSION = "1"
COARSE_PROMPT = "Describe this picture in one short sentence."
FINE_PROMPT = "Name what is seen in this video frame in a few words."
MERGE_PROMPT = "These texts describe frames of one short clip. Say in one short sentence what the clip shows.\n{texts}"
_REFUSALS = ("i'm sorry", "i cannot", "i can't", "as an ai", "i am unable", "i'm unable")
_RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504})


@dataclass
class Ledger:
    """What was spent."""

    requests: int = 0
    retries: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


class EndpointCaptioner:
    """Asks a server, many requests at once, each retried with jitter; a request that never succeeds is a Refusal.

    The key comes from the environment variable INTERNVID_ENDPOINT_KEY and is no part of the version.
    """

    name = "endpoint"

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000/v1",
        model: str = "default",
        concurrency: str = "16",
        timeout_seconds: str = "60",
        max_tries: str = "6",
        max_tokens: str = "60",
    ):
        self.url, self.model = url.rstrip("/"), model
        self.concurrency, self.timeout_seconds = int(concurrency), float(timeout_seconds)
        self.max_tries, self.max_tokens = int(max_tries), int(max_tokens)
        self.policy = FramePolicy()
        self.ledger = Ledger()
        self.version = short_hash(
            CODE_VERSION, model, max_tokens, COARSE_PROMPT, FINE_PROMPT, MERGE_PROMPT, self.policy.max_second_frames
        )

    def coarse(self, clips: Sequence[ClipInput]) -> list[CoarseCaption | Refusal]:
        """A text of each middle frame."""
        answers = self._ask_all([_message(COARSE_PROMPT, clip.frames.middle) for clip in clips])
        return [answer if isinstance(answer, Refusal) else CoarseCaption(answer) for answer in answers]

    def fine(self, clips: Sequence[ClipInput]) -> list[FineCaption | Refusal]:
        """A text of each frame at one a second; the first refusal refuses the clip."""
        chosen = [[clip.frames.seconds[i] for i in self.policy.seconds(clip.frames)] for clip in clips]
        answers = iter(self._ask_all([_message(FINE_PROMPT, frame) for frames in chosen for frame in frames]))
        results: list[FineCaption | Refusal] = []
        for frames in chosen:
            texts = [next(answers) for _ in frames]
            refusal = next((t for t in texts if isinstance(t, Refusal)), None)
            words = tuple(t for t in texts if isinstance(t, str))
            results.append(refusal or FineCaption(tuple(f.seconds for f in frames), words))
        return results

    def merge(self, clips: Sequence[MergeInput]) -> list[str | Refusal]:
        """One sentence from all texts."""
        prompts = []
        for clip in clips:
            texts = dict.fromkeys([clip.coarse.text, *clip.fine.frame_texts, *filter(None, [clip.transcript])])
            prompts.append(_message(MERGE_PROMPT.format(texts="\n".join(f"- {text}" for text in texts))))
        return self._ask_all(prompts)

    def _ask_all(self, messages: list[dict]) -> list[str | Refusal]:
        async def gather() -> list[str | Refusal]:
            gate = asyncio.Semaphore(self.concurrency)
            key = os.environ.get("INTERNVID_ENDPOINT_KEY")
            headers = {"Authorization": f"Bearer {key}"} if key else {}
            async with httpx.AsyncClient(timeout=self.timeout_seconds, headers=headers) as client:
                return await asyncio.gather(*(self._ask(client, gate, message) for message in messages))

        return asyncio.run(gather())

    async def _ask(self, client: httpx.AsyncClient, gate: asyncio.Semaphore, message: dict) -> str | Refusal:
        body = {"model": self.model, "max_tokens": self.max_tokens, "temperature": 0, "messages": [message]}
        refusal = Refusal("endpoint_unreachable", self.url)
        async with gate:
            for attempt in range(self.max_tries):
                pause = random.uniform(0.5, 1.0) * min(0.25 * 2**attempt, 20)
                try:
                    self.ledger.requests += 1
                    response = await client.post(f"{self.url}/chat/completions", json=body)
                    if response.status_code == 200:
                        return self._answer(response.json())
                    refusal = Refusal("endpoint_error", f"HTTP {response.status_code}: {response.text[:200]}")
                    if response.status_code not in _RETRIED:
                        return refusal
                    pause = max(pause, _retry_after(response))
                except httpx.HTTPError as error:
                    refusal = Refusal("endpoint_unreachable", f"{type(error).__name__}: {error}")
                except (ValueError, KeyError, IndexError, TypeError) as error:
                    refusal = Refusal("endpoint_bad_answer", f"{type(error).__name__}: {error}")
                self.ledger.retries += 1
                if attempt + 1 < self.max_tries:
                    await asyncio.sleep(pause)
        return refusal

    def _answer(self, answer: dict) -> str | Refusal:
        usage = answer.get("usage") or {}
        self.ledger.prompt_tokens += usage.get("prompt_tokens", 0)
        self.ledger.completion_tokens += usage.get("completion_tokens", 0)
        text = " ".join(answer["choices"][0]["message"]["content"].split())
        if not text:
            return Refusal("empty_text", self.model)
        if text.lower().startswith(_REFUSALS):
            return Refusal("model_refused", text[:200])
        return text


def _message(prompt: str, frame: PackedFrame | None = None) -> dict:
    content: list[dict] = [{"type": "text", "text": prompt}]
    if frame is not None:
        url = f"data:image/jpeg;base64,{base64.b64encode(frame.jpeg).decode()}"
        content.append({"type": "image_url", "image_url": {"url": url}})
    return {"role": "user", "content": content}


def _retry_after(response: httpx.Response) -> float:
    value = response.headers.get("retry-after", "")
    return min(float(value), 120.0) if value.replace(".", "", 1).isdigit() else 0.0

"""The review page: one sampled pair after the other with its frames, to be accepted or rejected."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from jinja2 import Environment
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from internvid_assets.captions.review import draw_sample, precisions, record_verdict, texts_behind, verdicts_of
from internvid_assets.clips.contact_sheet import contact_sheet
from internvid_assets.clips.frames import FrameSource
from internvid_assets.lake import Lake
from internvid_assets.store import ObjectStore

_PAGE = Path(__file__).with_name("review.html")
_NUM_FRAMES = 8


class Review:
    """One reviewer's walk through one sample."""

    def __init__(self, lake: Lake, store: ObjectStore, captioner_version: str, size: int, seed: int, reviewer: str):
        self.pairs = draw_sample(lake, captioner_version, size, seed)
        self.version, self.reviewer, self.sample = captioner_version, reviewer, f"seed {seed}, {size} pairs"
        self._lake, self._store = lake, store
        self._frames = lru_cache(maxsize=64)(self._sheet)

    def page(self, number: int) -> dict[str, Any]:
        """What is to be shown for one pair, or at the end."""
        verdicts = verdicts_of(self._lake, self.reviewer, self.version)
        shown = {
            "number": number, "size": len(self.pairs), "version": self.version, "reviewer": self.reviewer,
            "num_judged": sum(pair["clip_id"] in verdicts for pair in self.pairs),
            "precisions": precisions(self._lake),
        }  # fmt: skip
        if number >= len(self.pairs):
            return shown
        pair = self.pairs[number]
        return shown | {
            "pair": pair,
            "verdict": verdicts.get(pair["clip_id"]),
            "behind": texts_behind(self._lake, pair["clip_id"]),
        }

    def frames(self, number: int) -> bytes:
        """A JPEG of the pair's frames."""
        return self._frames(self.pairs[number]["clip_id"])

    def _sheet(self, clip_id: str) -> bytes:
        found = next(FrameSource(self._lake, self._store).of_clips([clip_id]))
        step = max(1, len(found.uniform) // _NUM_FRAMES)
        chosen = found.uniform[::step][:_NUM_FRAMES]
        times = [f"{frame.seconds:.1f} s" for frame in chosen]
        return contact_sheet([frame.jpeg for frame in chosen], times, columns=4, width=320)

    def judge(self, number: int, verdict: str) -> None:
        """Record a verdict on one pair."""
        record_verdict(self._lake, self.pairs[number], self.reviewer, self.sample, verdict)

    def first_open(self) -> int:
        """The first pair without a verdict; the size of the sample when there is none."""
        verdicts = verdicts_of(self._lake, self.reviewer, self.version)
        return next((i for i, pair in enumerate(self.pairs) if pair["clip_id"] not in verdicts), len(self.pairs))


def review_app(review: Review) -> Starlette:
    """The web application: `/` goes to the first open pair, `/pair/N` shows one and takes its verdict."""
    template = Environment(autoescape=True).from_string(_PAGE.read_text())

    async def start(_: Request) -> Response:
        return RedirectResponse(f"/pair/{await run_in_threadpool(review.first_open)}")

    async def pair(request: Request) -> Response:
        number = request.path_params["number"]
        return HTMLResponse(template.render(await run_in_threadpool(review.page, number)))

    async def judge(request: Request) -> Response:
        number = request.path_params["number"]
        verdict = parse_qs((await request.body()).decode()).get("verdict", [""])[0]
        try:
            await run_in_threadpool(review.judge, number, verdict)
        except (ValueError, IndexError) as error:
            return PlainTextResponse(f"{error}", status_code=400)
        return RedirectResponse(f"/pair/{number + 1}", status_code=303)

    async def frames(request: Request) -> Response:
        number = request.path_params["number"]
        if number >= len(review.pairs):
            return PlainTextResponse("no such pair", status_code=404)
        return Response(await run_in_threadpool(review.frames, number), media_type="image/jpeg")

    return Starlette(
        routes=[
            Route("/", start),
            Route("/pair/{number:int}", pair),
            Route("/pair/{number:int}", judge, methods=["POST"]),
            Route("/frames/{number:int}.jpg", frames),
        ]
    )

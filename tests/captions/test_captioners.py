"""Captioners: the endpoint against a real server that misbehaves, subtitles, the embedded sentence, unknown names."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import cv2
import numpy as np
import pytest

from internvid_assets.captions.base import ClipInput, CoarseCaption, FineCaption, MergeInput, load_captioner
from internvid_assets.captions.endpoint import EndpointCaptioner
from internvid_assets.captions.subtitles import Cue, parse, text_in_span
from internvid_assets.clips.packs import ClipFrames, PackedFrame
from internvid_assets.lake.stage import Refusal


def clip(number: int) -> ClipInput:
    picture = np.full((64, 64, 3), number * 20, np.uint8)
    frame = PackedFrame(0.5, cv2.imencode(".jpg", picture)[1].tobytes())
    return ClipInput(ClipFrames(f"clip{number}", (frame,), (frame,), 1.0), source_caption=None, title="a title")


class Handler(BaseHTTPRequestHandler):
    """Answers by a script of (status, headers, body), then always well."""

    script: ClassVar[list[tuple[int, dict[str, str], str]]] = []
    lock = threading.Lock()
    num_requests = 0

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        assert body["messages"][0]["content"][1]["image_url"]["url"].startswith("data:image/jpeg;base64,")
        with Handler.lock:
            Handler.num_requests += 1
            status, headers, answer = Handler.script.pop(0) if Handler.script else (200, {}, good("a cat"))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer.encode())

    def log_message(self, *arguments) -> None:
        """Say nothing."""


def good(text: str) -> str:
    usage = {"prompt_tokens": 7, "completion_tokens": 2}
    return json.dumps({"choices": [{"message": {"content": text}}], "usage": usage})


@pytest.fixture
def server() -> Iterator[str]:
    Handler.script, Handler.num_requests = [], 0
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}/v1"
    httpd.shutdown()


def test_endpoint_retries_what_passes_and_counts_tokens(server: str) -> None:
    Handler.script = [(429, {"retry-after": "0.2"}, ""), (500, {}, "oops"), (200, {}, '{"choices": [')]
    captioner = EndpointCaptioner(url=server, concurrency="1")
    assert captioner.coarse([clip(1), clip(2)]) == [CoarseCaption("a cat"), CoarseCaption("a cat")]
    assert (Handler.num_requests, captioner.ledger.retries, captioner.ledger.prompt_tokens) == (5, 3, 14)


def test_endpoint_refusals_are_data(server: str) -> None:
    Handler.script = [(200, {}, good("I'm sorry, I cannot help")), (400, {}, "bad request")]
    results = EndpointCaptioner(url=server, concurrency="1").coarse([clip(1), clip(2), clip(3)])
    assert [r.reason if isinstance(r, Refusal) else r.text for r in results] == [
        "model_refused",
        "endpoint_error",
        "a cat",
    ]


def test_a_dead_endpoint_is_a_refusal_after_bounded_tries() -> None:
    captioner = EndpointCaptioner(url="http://127.0.0.1:9/v1", max_tries="2")
    results = captioner.coarse([clip(1)])
    assert isinstance(results[0], Refusal) and results[0].reason == "endpoint_unreachable"
    assert captioner.ledger.requests == 2


def test_versions_follow_what_changes_the_text() -> None:
    assert EndpointCaptioner(model="a").version != EndpointCaptioner(model="b").version
    assert EndpointCaptioner(concurrency="1").version == EndpointCaptioner(concurrency="9").version


def test_embedded_sentences_say_motion_and_words() -> None:
    captioner = load_captioner("embedded")
    seen = CoarseCaption("a striped cat", ("striped cat",), (0.9,))
    still = MergeInput("c", seen, FineCaption((), (), "", "still"))
    spoken = MergeInput("c", seen, FineCaption((), (), "", "camera panning left"), transcript="hello there")
    shape = MergeInput("c", seen, FineCaption((), (), "a red circle moving left", "moving left"))
    assert captioner.merge([still, spoken, shape]) == [
        "a still picture of a striped cat",
        'a striped cat, the camera panning left, saying "hello there"',
        "a red circle moving left",
    ]


def test_sidecar_takes_the_title_and_refuses_without_text() -> None:
    captioner = load_captioner("sidecar")
    bare = ClipInput(clip(1).frames)
    texts = captioner.coarse([clip(1), bare])
    assert texts[0] == CoarseCaption("a title") and isinstance(texts[1], Refusal)


def test_unknown_captioner_and_option_are_named() -> None:
    with pytest.raises(ValueError, match="choose one of embedded, endpoint, hf, sidecar"):
        load_captioner("nobody")
    with pytest.raises(ValueError, match="colour"):
        load_captioner("endpoint", {"colour": "red"})


def test_subtitles_are_parsed_and_cut_to_spans() -> None:
    srt = "1\n00:00:01,000 --> 00:00:02,500\n<i>Hello</i>\nthere\n\n2\n00:00:04,000 --> 00:00:06,000\nBye\n"
    vtt = "WEBVTT\n\n00:01.000 --> 00:02.500\nHello there\n\n00:04.000 --> 00:06.000\nBye\n"
    wanted = [Cue(1.0, 2.5, "Hello there"), Cue(4.0, 6.0, "Bye")]
    assert parse(srt) == parse(vtt) == wanted
    assert text_in_span(wanted, 0, 3) == "Hello there"
    assert text_in_span(wanted, 2.4, 5.0) == "Bye"
    assert text_in_span(wanted, 5.5, 9.0) == ""

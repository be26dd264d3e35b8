"""The embedded sentence, the sidecar's texts, subtitles and transcripts."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from bench.captions import embedded_captions, footage_clips, packaged_film
from internvid_assets.captions.base import ClipInput, CoarseCaption, FineCaption, MergeInput, load_captioner
from internvid_assets.captions.scene import movement_words, scene_words
from internvid_assets.captions.speech import Speech, SpeechRecognizer
from internvid_assets.captions.subtitles import Cue, language_code, parse, text_in_span, track_beside, track_inside
from internvid_assets.captions.transcripts import Transcriber, Words
from internvid_assets.clips.packs import ClipFrames, PackedFrame
from internvid_assets.lake.stage import Refusal

SRT = "1\n00:00:01,000 --> 00:00:02,500\n<i>Hello</i>\nthere\n\n2\n00:00:04,000 --> 00:00:06,000\nBye\n"


def clip(caption: str | None = None, title: str | None = None) -> ClipInput:
    frame = PackedFrame(0.5, cv2.imencode(".jpg", np.full((64, 64, 3), 80, np.uint8))[1].tobytes())
    return ClipInput(ClipFrames("clip", (frame,), (frame,), 1.0), source_caption=caption, title=title)


def test_embedded_sentences_say_motion_and_words() -> None:
    captioner = load_captioner("embedded")
    seen = CoarseCaption("a striped cat", ("striped cat",), (0.9,))
    inputs = {
        "a still picture of a striped cat": MergeInput("a", seen, FineCaption((), (), "", "still")),
        'a striped cat, the camera panning left, saying "hello there"': MergeInput(
            "b", seen, FineCaption((), (), "", "camera panning left"), transcript="hello there"
        ),
        "a red circle moving left": MergeInput(
            "c", seen, FineCaption((), (), "a red circle moving left", "moving left")
        ),
        "a striped cat, with slight movement on the left": MergeInput(
            "d", seen, FineCaption((), (), "slight movement on the left", "moving")
        ),
    }
    assert [text for _, text in captioner.merge(inputs.values())] == list(inputs)


def test_a_real_films_captions_are_never_empty_and_seldom_alike() -> None:
    texts = embedded_captions(footage_clips([packaged_film()]))
    assert len(texts) == 123 and all(text.strip() for text in texts)
    assert Counter(texts).most_common(1)[0][1] <= 0.1 * len(texts)


def test_a_scene_is_told_by_its_light_colours_and_layout() -> None:
    blue = np.zeros((120, 160, 3), np.uint8)
    blue[...] = (10, 20, 70)
    assert scene_words(blue) == "a dark, smooth scene in blue tones"
    blue[:, :60] = (240, 140, 20)
    assert scene_words(blue) == "an evenly lit, smooth scene in orange and blue tones, brighter on the left"
    noise = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    assert "detailed" in scene_words(cv2.resize(noise, (640, 480), interpolation=cv2.INTER_NEAREST))
    assert "grey tones" in scene_words(np.full((9, 9, 3), 128, np.uint8))


@pytest.mark.parametrize(
    ("area", "words"),
    [
        ((slice(None), slice(0, 40)), "on the left"),
        ((slice(None), slice(120, 160)), "on the right"),
        ((slice(0, 30), slice(None)), "at the top"),
        ((slice(90, 120), slice(None)), "at the bottom"),
        ((slice(40, 80), slice(50, 110)), "in the middle"),
        ((slice(None), slice(None)), "all over the picture"),
    ],
)
def test_movement_is_placed(area: tuple[slice, slice], words: str) -> None:
    frames = [np.full((120, 160, 3), 100, np.uint8) for _ in range(8)]
    for number, frame in enumerate(frames):
        frame[area] = 100 + 30 * (number % 2)
    assert movement_words(frames).endswith(f"movement {words}")
    assert movement_words(frames[:1]) == ""


def test_sidecar_takes_the_first_text_there_is() -> None:
    captioner = load_captioner("sidecar")
    coarse = [
        dict(captioner.coarse([given]))["clip"] for given in (clip("alt", "a title"), clip(title=" a  title "), clip())
    ]
    assert coarse == [CoarseCaption("alt"), CoarseCaption("a title"), CoarseCaption("")]
    nothing, fine = CoarseCaption(""), FineCaption((), ())
    shown = MergeInput("shown", nothing, fine, transcript="on screen", subtitles=True)
    heard = MergeInput("heard", nothing, fine, transcript="by whisper")
    titled = MergeInput("titled", nothing, fine, transcript="on screen", subtitles=True, title="a title")
    results = dict(captioner.merge([shown, heard, titled]))
    assert results["shown"] == "on screen" and results["titled"] == "a title"
    assert isinstance(results["heard"], Refusal) and results["heard"].reason == "no_source_text"
    first = dict(load_captioner("sidecar", {"fields": "subtitles, title"}).merge([titled]))
    assert first == {"titled": "on screen"}
    bare = dict(load_captioner("sidecar", {"fields": "caption"}).coarse([clip(title="a title")]))
    assert isinstance(bare["clip"], Refusal)


def test_unknown_captioner_and_option_are_named() -> None:
    with pytest.raises(ValueError, match="choose one of embedded, endpoint, hf, sidecar"):
        load_captioner("nobody")
    with pytest.raises(ValueError, match="colour"):
        load_captioner("endpoint", {"colour": "red"})
    with pytest.raises(ValueError, match="fields = 'plot' must name some of caption, subtitles, title"):
        load_captioner("sidecar", {"fields": "plot"})


def test_subtitles_are_parsed_and_cut_to_spans() -> None:
    vtt = "WEBVTT\n\n00:01.000 --> 00:02.500\nHello there\n\n00:04.000 --> 00:06.000\nBye\n"
    wanted = [Cue(1.0, 2.5, "Hello there"), Cue(4.0, 6.0, "Bye")]
    assert parse(SRT) == parse(vtt) == wanted
    assert text_in_span(wanted, 0, 3) == "Hello there"
    assert text_in_span(wanted, 2.4, 5.0) == "Bye"
    assert text_in_span(wanted, 5.5, 9.0) == ""


def test_the_wanted_language_is_chosen_among_subtitle_files(tmp_path: Path) -> None:
    video = tmp_path / "a [b].mp4"
    assert track_beside(video, "en") is None
    for name, word in (("a [b].de.srt", "Hallo"), ("a [b].en-US.vtt", "Hello"), ("a [b]c.srt", "other")):
        (tmp_path / name).write_text(f"1\n00:00:01,000 --> 00:00:02,000\n{word}\n")
    chosen = {language: track_beside(video, language) for language in ("en", "de", "fr")}
    assert {language: track and track.cues[0].text for language, track in chosen.items()} == {
        "en": "Hello", "de": "Hallo", "fr": "Hallo"
    }  # fmt: skip
    assert chosen["en"] is not None and chosen["en"].language == "en"


def test_language_tags_of_files_and_containers() -> None:
    tags = ["en", "en-US", "eng", "GER", "pt_BR", "live_chat", "", None, "english"]
    assert [language_code(tag) for tag in tags] == ["en", "en", "en", "de", "pt", None, None, None, None]


def test_a_subtitle_stream_is_read_and_named(tmp_path: Path) -> None:
    path = tmp_path / "with.mkv"
    (tmp_path / "subs.srt").write_text(SRT)
    with av.open(str(tmp_path / "subs.srt")) as source, av.open(str(path), "w") as out:
        video = out.add_stream("mpeg4", rate=10)
        video.width, video.height, video.pix_fmt = 32, 32, "yuv420p"
        text = out.add_stream_from_template(source.streams.subtitles[0])
        text.metadata["language"] = "eng"
        for number in range(70):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), number, np.uint8), format="rgb24")
            out.mux(video.encode(frame))
        out.mux(video.encode())
        for packet in source.demux(source.streams.subtitles[0]):
            if packet.pts is not None:
                packet.stream = text
                out.mux(packet)
    track = track_inside(path, "en")
    assert track is not None and track.language == "en"
    assert [(c.start_seconds, c.end_seconds, c.text) for c in track.cues] == [
        (1.0, 2.5, "Hello there"),
        (4.0, 6.0, "Bye"),
    ]


class Recognizer(SpeechRecognizer):
    """Hears what it is told."""

    def __init__(self, *heard: Speech):
        super().__init__()
        self.heard = list(heard)

    def listen(self, video, spans):
        return self.heard


def test_subtitles_come_first_then_speech_then_nothing(tmp_path: Path) -> None:
    heard = [Speech("das ist ein sehr langer deutscher Satz über das Wetter", None), Speech("bonjour", "fr"), Speech()]
    transcriber = Transcriber(Recognizer(*heard))
    video, spans = tmp_path / "v.mp4", [(0.0, 3.0), (3.0, 7.0), (7.0, 9.0)]
    found = transcriber.words(video, video, spans, False, True)
    assert found == [Words("whisper", heard[0].text, "de"), Words("whisper", "bonjour", "fr"), Words("whisper")]
    assert transcriber.words(video, video, spans, False, False) == [Words("none")] * 3
    assert Transcriber(None).words(video, video, spans, False, True) == [Words("none")] * 3
    (tmp_path / "v.en.srt").write_text(SRT)
    assert transcriber.words(video, video, spans, False, True) == [
        Words("subtitles", "Hello there", "en"), Words("subtitles", "Bye", "en"), Words("subtitles")
    ]  # fmt: skip


def test_the_transcriber_version_follows_what_changes_the_words() -> None:
    versions = {
        Transcriber(recognizer, language).version
        for recognizer in (None, SpeechRecognizer(), SpeechRecognizer("small"))
        for language in ("en", "de")
    }
    assert len(versions) == 6
    assert Transcriber(SpeechRecognizer(device="cuda")).version == Transcriber(SpeechRecognizer()).version

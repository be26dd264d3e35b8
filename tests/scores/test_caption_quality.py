"""Loops, refusals and languages: tables of captions that must be told from what only looks like captions."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from internvid_assets.captions.text_quality import is_refusal, language_of, language_probability, loop_share
from internvid_assets.scores.base import ScoreItem, load_scorer

ORDINARY = [
    "the man and the woman walk to the car and the dog",
    "a red circle moves to the left, a blue circle moves to the right, a green circle moves to the top",
    "a man is standing in front of a building and a woman is standing in front of a car",
    "again and again and again the dog jumps",
    "a very very very big dog",
    "two by two the animals walk, side by side",
    "a cat and a dog and a cat and a bird",
    "espresso",
    "一个男人和一个女人在街上慢慢地走，一个孩子在看看花",
    "ゆっくりゆっくり歩く人が道を渡っている",
    "",
]
LOOPS = [
    "a cat a cat a cat a cat",
    "a cat, a cat, a cat. A cat",
    "dog dog dog dog dog",
    "A man is walking. A man is walking.",
    "a man is walking in the park and he is walking in the park and he is walking in the park and he is",
    "there is a man in the room, there is a man in the yard, there is a man in the car",
    "一只猫一只猫一只猫一只猫",
    "!!!!!!!!!!!!",
    "แมวแมวแมวแมว",
]


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_sentences_do_not_loop(text: str) -> None:
    assert loop_share(text) == 0.0


@pytest.mark.parametrize("text", LOOPS)
def test_loops_are_seen(text: str) -> None:
    assert loop_share(text) > 0.7


def test_the_share_is_that_of_the_words_in_the_loop() -> None:
    assert loop_share("a cat a cat a cat sleeps on the sofa") == pytest.approx(0.6)


words = st.lists(st.from_regex(r"[a-z]{2,8}", fullmatch=True), min_size=1, max_size=8, unique=True)


@given(words, st.integers(4, 6), words)
def test_a_repeated_text_is_all_loop_and_new_words_dilute_it(text: list[str], times: int, more: list[str]) -> None:
    loop = " ".join(text * times)
    fresh = [word + "ing" for word in more if word + "ing" not in text]
    assert loop_share(loop) == 1.0
    assert loop_share(" ".join(text)) == 0.0
    assert loop_share(" ".join([loop, *fresh])) == pytest.approx(len(text) * times / (len(text) * times + len(fresh)))


@settings(deadline=None)  # the first call loads the classifier
@given(st.text(max_size=60))
def test_any_text_has_answers(text: str) -> None:
    assert 0.0 <= loop_share(text) <= 1.0
    assert is_refusal(text) in (True, False)
    assert 0.0 <= language_probability(text, "en") <= 1.0


REFUSALS = """
I'm sorry, but I can't help with that.
I’m sorry, but I can’t assist with that request.
I am sorry, I cannot see the image.
I'm so sorry, but the image is too blurry to describe.
Sorry, I can't identify people in images.
Sorry, but I cannot provide a description of this picture.
My apologies, but the image did not load.
I apologize, but I am unable to view images.
Unfortunately, I cannot access the video.
As an AI language model, I do not have the ability to see pictures.
As an AI, I can't watch videos.
As a language model, I cannot describe images.
As a text-based AI model, I am not able to view images
I'm just a language model.
I am an AI assistant and was not designed to look at videos.
I cannot see the image
I can not see any image.
I can't view images or videos.
I'm unable to view the picture you mention.
I am not able to open the attachment.
I'm not able to help with that.
I won't describe this.
I cannot describe it.
I do not have access to the image.
I don't have enough context to write a caption.
We are unable to process your request.
Unable to view the image.
unable to generate a caption for this frame
No image was provided.
There is no image to describe.
It seems that no image was attached. Please upload one.
It looks like you haven't attached an image.
The image could not be loaded or is not available.
The image is not visible.
You did not provide any text.
Please provide the image you would like me to describe.
I would need more context to write a sentence.
I must decline to describe this picture.
I'm not comfortable describing this image.
This request goes against my guidelines.
Describing this would violate our content policy.
Sure! However, I cannot see the frames you mention.
A caption: I'm sorry, but I can't see the frame.
"I'm sorry, but I can't assist with that."
**I'm sorry, I can't help with this image.**
I'm afraid I can't help with that.
There is no visual content provided.
Based on the provided texts, I cannot determine what the clip shows.
It is not possible to describe the clip.
The texts do not provide enough information to say what happens.
No description available.
Cannot determine.
N/A
Lo siento, pero no puedo ver la imagen.
Je suis désolé, mais je ne peux pas voir l'image.
Es tut mir leid, aber ich kann das Bild nicht sehen.
抱歉，我无法查看图片。
很抱歉，我不能描述这张图片
作为一个人工智能语言模型，我没有视觉能力。
申し訳ありませんが、画像を表示できません。
""".strip().splitlines()
CAPTIONS = """
a man says he is sorry
a woman apologizes to her friend in a cafe
I can't stop the feeling, sings a woman
"I can't help falling in love with you", sings a man in a white suit
I can't help falling in love with you, sings a man on stage
a man says "I'm sorry, but I can't help you" and hangs up
a red circle moves left, saying "as an ai language model i cannot see the image"
a sign reads "No image available"
a boy is unable to open a jar
a woman unable to see the stage stands on her toes
a robot introduces itself as an AI researcher
an AI assistant answers a question on a phone
a man cannot see the picture because of the fog
there is no one in the room
no people are visible on the empty street
there are no clouds in the sky
a sorry looking dog sits in the rain
sorry dog lying on a couch
the video shows a man opening a file
the image shows a cat that is not sleeping
a person uploads an image to a website
a teacher asks her students to provide descriptions of a picture
a hand writes "please provide the image"
a police officer explains the guidelines
I spy with my little eye, a children's game on a beach
I love you, says a woman to a man
sorry, the parking lot is full, reads a sign
unfortunately the dog falls into the pool
the text is not readable from afar
your dog is not amused
a tennis player apologizes for the ball
two men decline a handshake
a violation of the rules is shown on the scoreboard
una mujer dice que no puede ver
一个人因为迟到而说抱歉
an unknown man walks by
error: the screen of a computer shows a message
espresso
""".strip().splitlines()


@pytest.mark.parametrize("text", REFUSALS)
def test_refusals_are_seen(text: str) -> None:
    assert is_refusal(text)


@pytest.mark.parametrize("text", CAPTIONS)
def test_captions_are_no_refusals(text: str) -> None:
    assert not is_refusal(text)


SHORT_ENGLISH = """
espresso
a golden retriever
a komondor
a red circle moving left
a blue square rotates slowly
the camera pans right
a still picture of an espresso
two men playing tennis
Barack Obama gives a speech
Lionel Messi scores a goal
a samurai practices kendo in Kyoto
a chef makes sushi and ramen
a tuk tuk in Bangkok traffic
a man says "je ne sais pas, mon ami, je ne sais pas" to a waiter
3, 2, 1
""".strip().splitlines()
OTHERS = {
    "de": "ein Mann fährt auf einem roten Fahrrad",
    "fr": "une femme coupe des oignons dans la cuisine",
    "es": "dos niños juegan con un perro",
    "it": "una donna taglia le cipolle in cucina",
    "pt": "um homem anda de bicicleta na rua",
    "ru": "красный круг движется влево",
    "zh": "一个男人在街上骑自行车",
    "ja": "女の人が台所で玉ねぎを切っている",
}


@pytest.mark.parametrize("text", SHORT_ENGLISH)
def test_short_english_is_english(text: str) -> None:
    assert language_probability(text, "en") >= 0.5


@pytest.mark.parametrize(("code", "text"), OTHERS.items())
def test_other_languages_are_not_english(code: str, text: str) -> None:
    assert language_of(text)[0] == code
    assert language_probability(text, code) > 0.5
    assert language_probability(text, "en") < 0.3


def test_a_text_without_evidence_is_not_condemned() -> None:
    assert language_of("12 34") == ("und", 0.5) and language_of("12 34", "de") == ("de", 0.5)


def texts(*captions: str) -> list[ScoreItem]:
    return [ScoreItem(caption=caption) for caption in captions]


def test_scorers_of_captions_read_no_frames() -> None:
    assert load_scorer("caption_loops", "embedded").score(texts("a cat a cat a cat", "a cat")) == [1.0, 0.0]
    assert load_scorer("caption_refusal", "embedded").score(texts("I cannot see the image", "a cat")) == [1.0, 0.0]
    english, german = (load_scorer("caption_language", "embedded", {"language": code}) for code in ("en", "de"))
    caption = texts("ein Mann fährt auf einem roten Fahrrad")
    assert english.score(caption)[0] < 0.5 < german.score(caption)[0]
    assert english.version != german.version


def test_captions_agree_with_what_they_were_made_from() -> None:
    scorer = load_scorer("scale_agreement", "embedded")
    sources = ("a dog on a lawn", "a dog", "green grass")
    items = [ScoreItem(caption=text, sources=sources) for text in ("a dog runs on the grass", "stock market news")]
    fits, strays = scorer.score(items)
    assert fits > strays + 0.3
    assert scorer.score([ScoreItem(caption="a dog", sources=("a dog",))]) == [pytest.approx(1.0, abs=1e-5)]
    assert [scorer.score([item])[0] for item in items] == pytest.approx([fits, strays], abs=1e-5)

"""What can be told of a caption from its words alone: does it loop, is it a refusal, which language is it in?

Pure functions of a text. What they are worth was measured; figures stand with each.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from functools import cache
from importlib.metadata import version
from typing import Any

CODE_VERSION = "1"
LANGUAGE_MODEL = f"py3langid=={version('py3langid')}"

_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""Scripts that put no spaces between words: Thai, Lao, Burmese, Khmer, Kana and Han."""
_WORD = re.compile(rf"[{_UNSPACED}]|(?:(?![{_UNSPACED}])[\w'’])+")
_LONGEST_PERIOD = 60
_HEAD_START, _NO_EVIDENCE = 20.0, -1e30
"""Of log-likelihoods; py3langid gives the least float to a text in which it knows nothing."""


def loop_share(text: str) -> float:
    """Share of the words, 0..1, that lie in loops: "a cat a cat a cat" has 1.0, an ordinary sentence 0.0.

    A word lies in a loop when it stands four times in a row, or two words three times ("a cat a cat a cat"), or three or
    more words twice ("a man walks. a man walks"), or when five words stand in three places. Less is ordinary English ("a
    very very very big dog", "again and again and again", "the man and the woman and the dog"). In scripts without spaces
    a character counts as half a word; a text without words is judged by its characters ("!!!!!!!!" has 1.0).
    """
    words = _WORD.findall(text.lower()) or re.findall(r"\S", text)
    per_word = 2 if sum(len(word) == 1 for word in words) > len(words) / 2 else 1
    inside = [False] * len(words)
    for period in range(1, min(len(words) // 2, _LONGEST_PERIOD) + 1):
        _mark_periods(words, period, 3 if period == 1 else 2 if period < 3 * per_word else 1, inside)
    _mark_repeats(words, 5 * per_word, inside)
    return sum(inside) / len(words) if words else 0.0


def _mark_periods(words: list[str], period: int, repeats: int, inside: list[bool]) -> None:
    """Mark runs in which `period` words follow themselves at least `repeats` times more."""
    run = 0
    for at in range(period, len(words) + 1):
        if at < len(words) and words[at] == words[at - period]:
            run += 1
            continue
        if run >= repeats * period:
            inside[at - run - period : at] = [True] * (run + period)
        run = 0


def _mark_repeats(words: list[str], length: int, inside: list[bool]) -> None:
    """Mark every stretch of `length` words that stands in three places or more."""
    starts = range(len(words) - length + 1)
    counts = Counter(tuple(words[at : at + length]) for at in starts)
    for at in starts:
        if counts[tuple(words[at : at + length])] >= 3:
            inside[at : at + length] = [True] * length


_MODEL = r"(?:an? |just an? )?(?:text[- ]based )?(?:ai|artificial intelligence|(?:large )?language model)"
_NOT = (
    r"(?:can ?not|can't|could not|couldn't|do not|don't|did not|didn't|will not|won't|"
    r"(?:am |are |was |were |'m |'re )?(?:not able|unable) to)"
)
_TASK = (
    r"(?:see|view|access|open|display|read|load|describe|caption|provide|give|generate|create|identify|recogni[sz]e|"
    r"determine|discern|analy[sz]e|process|interpret|assist|help|comply|fulfil+|complete|continue|answer|have|summari[sz]e|engage)"
)
_THING = (
    r"(?:images?|pictures?|photos?|photographs?|videos?|clips?|frames?|screenshots?|attachments?|files?|urls?|links?|"
    r"captions?|descriptions?|requests?|content|context|information|details|texts?|sentences?|prompt)"
)
_END = r"(?:$|[.!?])"
_REFUSALS = tuple(
    re.compile(pattern)
    for pattern in (
        rf"\bas {_MODEL}\b(?: language model| model| assistant| system)?,? (?:i|it|my)\b",
        rf"^(?:sorry,? )?i(?:'m| am) (?:just |only )?{_MODEL}\b(?: language)?(?: model| assistant| system)?{_END}",
        rf"^i(?:'m| am) (?:just |only )?an? ai\b.*\b(?:{_NOT}|designed|trained)\b",
        # "I'm sorry, but I can't", "My apologies, the image is blank", "Unfortunately, I cannot"
        rf"^(?:(?:i'm|i am|im|we're|we are) (?:\w+ )?sorry|(?:i|we) (?:do )?apologi[sz]e|(?:my )?apologies|sorry|unfortunately|i'm afraid|i am afraid)"
        rf"\b[^.?]{{0,60}}(?:\b(?:i|we)\b ?{_NOT}\b|\b{_THING}\b)",
        # "I cannot see the image", "I'm not able to help with that", "I won't describe this"
        rf"^(?:i|we) ?{_NOT} (?:\w+ ){{0,3}}?{_TASK}\b[^.]{{0,60}}\b{_THING}\b",
        rf"^(?:i|we) ?{_NOT} (?:\w+ )?(?:assist|help|comply|engage)\b(?: you)?(?: (?:with|in) [^.]{{0,40}})?{_END}",
        rf"^(?:i|we) ?{_NOT} (?:\w+ )?(?:describe|caption|see|view|identify) (?:it|this|that|anything)\b[^.]{{0,10}}{_END}",
        rf"^i(?:'m| am) (?:not comfortable|not allowed|not permitted|not programmed|not designed)\b.*\b(?:{_TASK}|{_THING})\b",
        rf"^i (?:must|have to|will have to) (?:respectfully )?decline\b[^.]{{0,60}}(?:\b{_THING}\b|{_END})",
        r"^i(?:'d| would)? (?:need|require) (?:more|additional|further) (?:context|information|details)\b",
        rf"^(?:currently )?(?:unable to|cannot|not possible to|it(?:'s| is) (?:not possible|impossible) to) {_TASK}\b[^.]{{0,40}}\b{_THING}\b",
        rf"^the (?:\w+ )?{_THING} (?:do not|does not|don't|doesn't) (?:provide|contain|give|have|include) (?:enough|sufficient|any)\b",
        # "No image was provided", "The image did not load", "It seems you haven't attached a picture"
        rf"^(?:(?:it (?:seems|appears|looks like)|i notice)(?: that| like)? )?(?:there (?:is|are|was|were) )?no (?:\w+ )?{_THING}\b"
        rf"(?: (?:\w+ ){{0,3}}(?:provided|attached|available|given|uploaded|shared|found|included|to (?:{_TASK}))\b| here{_END})",
        rf"^(?:it (?:seems|appears|looks like)(?: that| like)? )?(?:the|your) {_THING} "
        rf"(?:(?:is|was|were|did|could|can)(?: not|n't)|can ?not|failed to|is missing)(?: be| to)? ?"
        rf"(?:load|display|provided|attached|available|uploaded|opened|accessible|visible|viewed|processed|included|{_END})",
        r"^(?:it (?:seems|appears|looks like)(?: that| like)? |i notice(?: that)? )?you (?:have not|haven't|did not|didn't) "
        r"(?:provided?|attach(?:ed)?|upload(?:ed)?|shared?|included?|given?|specif\w+)\b",
        rf"^(?:please|could you|can you)(?: please)? (?:provide|upload|share|attach|send)\b[^.]{{0,40}}\b{_THING}\b",
        r"\b(?:against|violates?|violating) (?:my|our|the|openai's)? ?(?:\w+ )?(?:guidelines|programming|content policy|usage polic\w+)",
        # The same in languages that multilingual captioners answer in.
        r"^(?:lo siento|je suis désolée?|désolée?|es tut mir leid|entschuldigung|mi dispiace|desculpe|sinto muito|lamento)\b"
        r"[^.]{0,40}\b(?:no puedo|ne (?:peux|suis) pas|je ne|kann (?:ich )?|non posso|não (?:posso|consigo)|nicht)",
        r"\b(?:como (?:un )?modelo de (?:lenguaje|linguagem)|en tant qu(?:e modèle de langage|'ia)|als (?:ki|sprachmodell))\b",
        r"^(?:很|非常|十分)?(?:抱歉|对不起|對不起|不好意思).{0,12}(?:无法|無法|不能|没有|沒有)|^我(?:无法|無法|不能)(?:查看|看到|识别|描述|提供|访问|处理)|作为(?:一个|一名|一款)?(?:人工智能|ai|语言模型|大语言模型)",
        r"^申し訳(?:ありません|ございません|ないですが)|(?:画像|動画)を(?:見る|表示する|認識する)ことはできません",
        r"^(?:извините|простите|к сожалению)\b.{0,40}\b(?:не могу|не вижу)\b|как (?:языковая модель|ии)\b",
    )
)
_NOTHING = re.compile(
    r"(?:n/?a|none|null|undefined|unknown|error|no caption|not available|(?:cannot|unable to) (?:determine|describe))\W*"
)
_SINGLE = str.maketrans({"’": "'", "‘": "'", "ʼ": "'", "`": "'", "´": "'"})
_DOUBLE = re.compile(r"[\"“”„«»][^\"“”„«»]*[\"“”«»]")


def is_refusal(text: str) -> bool:
    """Whether a model says that it cannot or will not describe what it was shown, instead of describing it.

    Looked for at the start of each sentence, outside of quotes: "a man says he is sorry" and "I can't stop the feeling,
    sings a woman" are captions, "I'm sorry, but I can't see the image." is none.
    """
    plain = " ".join(unicodedata.normalize("NFKC", text).lower().translate(_SINGLE).split())
    outside = _DOUBLE.sub(" ", plain).strip() or plain
    sentences = re.split(r"(?<=[.!?:;。！？])\s*", outside)
    parts = [part for sentence in sentences for part in _openings(sentence)]
    return bool(_NOTHING.fullmatch(outside)) or any(pattern.search(part) for part in parts for pattern in _REFUSALS)


def _openings(sentence: str) -> list[str]:
    """The sentence without marks before it, and what follows "but", or "," before "I": refusals often begin there."""
    start = re.sub(r"^[^\w]+", "", sentence)
    return [start, *re.split(r"\b(?:but|however),? |, (?=i\b)", start)[1:]] if start else []


def language_of(text: str, expected: str = "") -> tuple[str, float]:
    """The likeliest language (ISO 639-1) and its probability against the one next to it.

    `expected` has a head start: it is given up only for a text that speaks clearly for another language, since the
    classifier takes class names and other short texts for any language ("espresso", "a komondor"). Words in quotes do not
    count. A text without evidence is in the expected language, or has the probability 0.5.

    Measured with `expected="en"`, share of English texts taken for another language: 0.004 of ImageNet's 1,000 class names,
    0.001 of 1,000 texts of three words, 0 of 4,872 of five to thirty (the head start was chosen on these). Of 22,500 program
    messages in 15 other languages with Latin letters 0.92 are found (cut to three words 0.70, to five 0.92, to eight 0.98),
    of 7,500 in other scripts all but 4.
    """
    scores, scale = _likelihoods(text, expected)
    best, second = sorted(scores, key=lambda code: -scores[code])[:2]
    if scores[best] < _NO_EVIDENCE:
        return expected or "und", 0.5
    return best, _sigmoid((scores[best] - scores[second]) / scale)


def language_probability(text: str, language: str) -> float:
    """How probable it is that the text is in this language rather than in the likeliest other one, 0..1; see `language_of`.

    Raises: ValueError for a language that the classifier does not know.
    """
    scores, scale = _likelihoods(text, language)
    wanted = scores.pop(language)
    return 0.5 if wanted < _NO_EVIDENCE else _sigmoid((wanted - max(scores.values())) / scale)


def _likelihoods(text: str, expected: str) -> tuple[dict[str, float], float]:
    """The log-likelihood of each language, with the head start, and by what a difference is divided to be a fair logit.

    Naive Bayes is far too sure of itself; py3langid, too, divides by the root of the number of bytes.
    """
    outside = _DOUBLE.sub(" ", text)
    words = (outside if re.search(r"\w", outside) else text).lower()
    scores = {code: score for code, score in _classifier().rank(words) if code != "zxx"}
    if expected:
        if expected not in scores:
            raise ValueError(f"language = {expected!r} is unknown: choose one of {', '.join(sorted(scores))}")
        scores[expected] += _HEAD_START
    return scores, math.sqrt(len(words.encode()) or 1)


def _sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit)) if logit > -500 else 0.0


@cache
def _classifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE)

"""Searches from action phrases, by which most of InternVid's videos were found.

Source: InternVid (arXiv 2307.06942), section 3.1: 6,104 action phrases (labels of ATUS 2017 to 2022 and of public video
sets, and verb phrases that a language model drew from grounding corpora) were searched for, and the top hits taken.
Differs: the paper's list was cleaned by hand; here labels are cleaned by the rules below, and nothing is invented.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable
from pathlib import Path

_PARTICLES = frozenset(
    "a an and at away back by down for from in into it of off on onto or out over the through to under up with".split()  # noqa: SIM905
)
_MAX_WORDS = 12


def search_queries(phrases: Iterable[str]) -> list[str]:
    """The searches of action labels or phrases, each once, in their order.

    `PlayingGuitar`, `playing_guitar` and `playing-guitar` are written as words (UCF101, Kinetics); a placeholder in
    brackets loses them (`Pushing [something] off`); `a/b` with blanks or single words round it becomes two; quotes,
    numbering and comments (#) go. Left out: what is only particles, has no letter, or more than 12 words.

    Raises: ValueError when nothing is left.

    Worked example: ["1. PlayingGuitar", "cook/bake", "seal-with", "up"] gives ["playing guitar", "cook", "bake", "seal with"].
    """
    found: dict[str, None] = {}
    for phrase in phrases:
        if not phrase.lstrip().startswith("#"):
            found |= dict.fromkeys(query for part in phrase.split("/") if (query := _cleaned(part)))
    if not found:
        raise ValueError("no action phrase is left to search for: give one a line, such as `playing guitar`")
    return list(found)


def _cleaned(phrase: str) -> str | None:
    """The words of a phrase; None for one that cannot be searched for."""
    phrase = re.sub(r"^\s*(\d+[.):\t ]|[-*•])\s*", "", phrase)
    phrase = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", phrase)
    phrase = re.sub(r"[_\-\[\](){}\"“”„,;:.!?]+", " ", phrase)
    words = phrase.lower().split()
    if not 0 < len(words) <= _MAX_WORDS or set(words) <= _PARTICLES or not re.search(r"[^\W\d_]", phrase):
        return None
    return " ".join(words)


def write_searches(queries: Iterable[str], path: Path, per_query: int, language: str | None) -> int:
    """Write a manifest with a row a search (`uri` = `ytsearchN:…`, `query`, `language`); how many.

    Raises: ValueError for another suffix than .jsonl or .csv.
    """
    rows = [{"uri": f"ytsearch{per_query}:{query}", "query": query, "language": language} for query in queries]
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ("uri", "query", "language"))
            writer.writeheader()
            writer.writerows(rows)
    else:
        raise ValueError(f"output {path} must end in .jsonl or .csv")
    return len(rows)

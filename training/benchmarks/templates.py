"""Sentences that a class name is put into."""

from __future__ import annotations

from pathlib import Path

ACTIONCLIP = (
    "a photo of action {}", "a picture of action {}", "human action of {}", "{} an action", "{} this is an action",
    "{} a video of action", "playing action of {}", "{}", "playing a kind of action {}", "doing a kind of action {}",
    "look the human is {}", "can you recognize the action of {}", "video classification of {}", "a video of {}",
    "the man is {}", "the woman is {}",
)  # fmt: skip
"""The 16 templates of InternVid's evaluation after its text clean-up (R:V/dataset/text_prompt.py, from ActionCLIP)."""

_NAMED = {"paper": ACTIONCLIP, "name": ("{}",), "clip": ("a photo of {}",)}


def load_templates(source: str) -> tuple[str, ...]:
    """`paper` for the 16 of the paper, `name` for the bare class name, `clip`, or a file with one template a line.

    Raises: ValueError when it is none of these, or a line has not exactly one {}.
    """
    if source in _NAMED:
        return _NAMED[source]
    if not Path(source).exists():
        raise ValueError(f"templates {source!r}: neither one of {', '.join(map(repr, _NAMED))} nor a file")
    lines = tuple(line for line in Path(source).read_text().splitlines() if line.strip())
    wrong = [line for line in lines if line.count("{}") != 1]
    if wrong or not lines:
        raise ValueError(f"templates {source}: every line needs one {{}}; got {wrong[:1] or 'no lines'}")
    return lines

"""Options of a backend arrive as strings from the settings: what they must be."""

from __future__ import annotations


def number(name: str, value: str, least: float = 0.0) -> float:
    """The value as a number of at least `least`. Raises: ValueError naming the option."""
    try:
        found = float(value)
    except ValueError:
        found = float("nan")
    if not least <= found < float("inf"):
        raise ValueError(f"{name} = {value!r} must be a number of at least {least:g}")
    return found


def positive(name: str, value: str) -> int:
    """The value as a whole number of at least 1. Raises: ValueError naming the option."""
    if not value.strip().isdigit() or int(value) < 1:
        raise ValueError(f"{name} = {value!r} must be a whole number of at least 1")
    return int(value)


def merge_template(name: str, value: str) -> str:
    """A prompt with a place for the texts. Raises: ValueError naming the option."""
    if "{texts}" not in value:
        raise ValueError(f"{name} = {value!r} must contain {{texts}}, where the clip's texts go")
    return value

"""What an annotation file says, before the videos are looked for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Items:
    """Names of videos as annotated, with labels into `classes`, or with captions."""

    videos: tuple[str, ...]
    classes: tuple[str, ...] = ()
    labels: tuple[int, ...] = ()
    captions: tuple[tuple[str, ...], ...] = ()

    @classmethod
    def captioned(cls, pairs: Iterable[tuple[str, list[str]]]) -> Items:
        """From (video, captions) pairs; several pairs of one video become one item."""
        captions_of: dict[str, list[str]] = {}
        for video, captions in pairs:
            captions_of.setdefault(video, []).extend(captions)
        return cls(tuple(captions_of), captions=tuple(tuple(captions) for captions in captions_of.values()))

    @classmethod
    def labelled(cls, pairs: Iterable[tuple[str, str]], classes: Iterable[str]) -> Items:
        """From (video, class name) pairs. Raises: ValueError naming the first class that is not among the classes."""
        names = tuple(classes)
        numbers = {name: number for number, name in enumerate(names)}
        found = list(pairs)
        unknown = [f"{video}: {name!r}" for video, name in found if name not in numbers]
        if unknown:
            raise ValueError(f"{len(unknown)} labels are not among the {len(names)} classes, the first: {unknown[0]}")
        return cls(tuple(video for video, _ in found), names, tuple(numbers[name] for _, name in found))

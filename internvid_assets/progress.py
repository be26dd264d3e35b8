"""Progress bars on standard error, one line a stage; silent where nobody looks."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


def bar(items: Iterable[T], name: str, total: int | None = None) -> Iterable[T]:
    """The items, counted on screen while they are consumed."""
    return tqdm(
        items,
        desc=f"{name:<16}",
        total=total,
        unit="",
        leave=False,
        delay=1.0,
        mininterval=0.5,
        position=int(os.environ.get("INTERNVID_BAR_POSITION", "0")),
        disable=not sys.stderr.isatty() and "INTERNVID_PROGRESS" not in os.environ,
        dynamic_ncols=True,
    )

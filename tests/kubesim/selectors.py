"""Label and field selectors, as the API server reads them."""

from __future__ import annotations

import re
from typing import Any

_SET = re.compile(r"^\s*(\S+)\s+(in|notin)\s+\(([^)]*)\)\s*$")


def matches_labels(item: dict[str, Any], selector: str) -> bool:
    """Whether an object has the labels: `a=b`, `a!=b`, `a in (b,c)`, `a notin (b)`, `a`, `!a`, joined by commas."""
    labels = item["metadata"].get("labels") or {}
    return all(_label(labels, part) for part in _parts(selector))


def matches_fields(item: dict[str, Any], selector: str) -> bool:
    """Whether an object has the fields: `path=value`, `path!=value`, joined by commas."""
    for part in _parts(selector):
        path, operator, wanted = re.match(r"^([^=!]+)(==|=|!=)(.*)$", part).groups()  # type: ignore[union-attr]
        value: Any = item
        for name in path.split("."):
            value = (value or {}).get(name)
        if (str(value or "") == wanted) == (operator == "!="):
            return False
    return True


def _label(labels: dict[str, str], part: str) -> bool:
    if found := _SET.match(part):
        name, operator, values = found.groups()
        return (labels.get(name) in {v.strip() for v in values.split(",")}) == (operator == "in")
    for operator in ("!=", "==", "="):
        if operator in part:
            name, _, value = (word.strip() for word in part.partition(operator))
            return (labels.get(name) == value) == (operator != "!=")
    return part[1:].strip() not in labels if part.startswith("!") else part.strip() in labels


def _parts(selector: str) -> list[str]:
    return [part for part in re.split(r",(?![^(]*\))", selector or "") if part.strip()]

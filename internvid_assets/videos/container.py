"""Why FFmpeg cannot open a file: cut short, empty, or no video at all."""

from __future__ import annotations

from pathlib import Path


def truncated_box(path: Path) -> str | None:
    """For an MP4 or QuickTime file whose boxes run beyond its end or that has no `moov`: what is missing; else None.

    Source: ISO/IEC 14496-12 §4.2 (a box is a 32-bit size and a type; size 1: 64 bits follow; size 0: up to the end).
    """
    seen: list[bytes] = []
    size, position = path.stat().st_size, 0
    with path.open("rb") as file:
        while position + 8 <= size and len(seen) < 64:
            file.seek(position)
            header = file.read(16)
            length, kind = int.from_bytes(header[:4], "big"), header[4:8]
            if not seen and kind != b"ftyp":
                return None
            if length == 1:
                length = int.from_bytes(header[8:16], "big")
            length = length or size - position
            if length < 8:
                return None
            seen.append(kind)
            if position + length > size:
                return f"box {kind.decode('latin-1')!r} wants {length} bytes, {size - position} are there"
            position += length
    if not seen or b"moov" in seen:
        return None
    return "the index (box 'moov') is missing"

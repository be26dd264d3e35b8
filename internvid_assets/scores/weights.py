"""Weights named by a path: which file it is, and the hash of its content for versions."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from internvid_assets.store.objects import file_sha256


def weights_sha256(path: Path) -> str:
    """Hex SHA-256 of a weights file, or of `model.safetensors` in a folder.

    Raises: ValueError when there is none.
    """
    file = path / "model.safetensors" if path.is_dir() else path
    if not file.is_file():
        raise ValueError(f"no weights at {file}")
    status = file.stat()
    return _sha256(file, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=16)
def _sha256(file: Path, size: int, mtime_ns: int) -> str:
    """Size and time only tell the cache that a file was written again."""
    return file_sha256(file)

"""What an address names, and the one spelling of it by which the lake knows a source."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit, urlunsplit

MEDIA_SUFFIXES = frozenset(
    [
        ".mp4",
        ".m4v",
        ".mov",
        ".mkv",
        ".webm",
        ".avi",
        ".flv",
        ".wmv",
        ".mpg",
        ".mpeg",
        ".ts",
        ".m2ts",
        ".mts",
        ".ogv",
        ".3gp",
        ".vob",
        ".asf",
        ".mxf",
    ]
)
_YOUTUBE_HOSTS = frozenset({"youtube.com", "www.youtube.com", "m.youtube.com", "music.youtube.com", "youtu.be"})
_ID = re.compile(r"[A-Za-z0-9_-]{11}")
_SEARCH = re.compile(r"[a-z]+search(\d+|all|date\d*)?:")
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)


class AddressError(ValueError):
    """Not an address that can be ingested; the message says what is wanted."""


def canonical(address: str, base: Path | None = None) -> str:
    """The address as `source_uri`: absolute path, `s3://…`, `http(s)://…` without a fragment, YouTube's watch page.

    Args:
        base: folder that a relative path is relative to; None: the working directory.

    Worked example: `youtube:dQw4w9WgXcQ` and `https://youtu.be/dQw4w9WgXcQ?t=5` are
    `https://www.youtube.com/watch?v=dQw4w9WgXcQ`.

    Raises: AddressError.
    """
    address = address.strip()
    if address.startswith("youtube:"):
        return youtube_address(address.removeprefix("youtube:"))
    if is_search(address):
        return address
    scheme = _SCHEME.match(address)
    if scheme is None:
        if not address:
            raise AddressError("the address is empty")
        path, mark, member = address.partition("#") if ".tar#" in address else (address, "", "")
        return f"{((base or Path()) / path).resolve()}{mark}{member}"
    if scheme[1].lower() == "file":
        return str(Path(urlsplit(address).path).resolve())
    if scheme[1].lower() == "s3":
        return address
    if scheme[1].lower() not in ("http", "https"):
        raise AddressError(f"{address!r} begins with {scheme[0]}, which is not among s3://, http:// and https://")
    return _canonical_url(address)


def _canonical_url(address: str) -> str:
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        raise AddressError(f"{address!r} is no address: {error}") from error
    if not host or any(ord(character) <= 32 for character in address):
        raise AddressError(f"{address!r} is no address: give http://HOST/PATH without blanks")
    if video := youtube_id(address):
        return youtube_address(video)
    return urlunsplit((parts.scheme.lower(), parts.netloc.lower(), parts.path or "/", parts.query, ""))


def youtube_address(video: str) -> str:
    """The watch page of an id. Raises: AddressError for what is no id."""
    if not _ID.fullmatch(video):
        raise AddressError(f"{video!r} is no YouTube id: it has 11 letters, digits, - and _")
    return f"https://www.youtube.com/watch?v={video}"


def youtube_id(address: str) -> str | None:
    """The id of a YouTube video's page; None for any other address."""
    parts = urlsplit(address)
    if parts.hostname not in _YOUTUBE_HOSTS:
        return None
    if parts.hostname == "youtu.be":
        found = parts.path.strip("/")
    elif parts.path.rstrip("/") == "/watch":
        found = parse_qs(parts.query).get("v", [""])[0]
    else:
        kind, _, found = parts.path.strip("/").partition("/")
        found = found if kind in ("shorts", "embed", "live", "v") else ""
    return found if _ID.fullmatch(found) else None


def is_search(address: str) -> bool:
    """Whether it is one of yt-dlp's searches, such as `ytsearch20:people dancing`."""
    return _SEARCH.match(address) is not None


def is_list(address: str) -> bool:
    """Whether it names many videos of a site: a search, or a YouTube playlist or channel."""
    if is_search(address):
        return True
    parts = urlsplit(address)
    if parts.hostname not in _YOUTUBE_HOSTS or youtube_id(address):
        return False
    return parts.path.startswith(("/playlist", "/@", "/channel/", "/c/", "/user/"))


def is_remote(address: str) -> bool:
    """Whether its bytes are to be fetched from another machine."""
    return _SCHEME.match(address) is not None


def split_member(address: str) -> tuple[Path, str] | None:
    """Tar file and member's name of `/path/shard.tar#name`; None for any other address."""
    path, mark, member = address.partition(".tar#")
    return (Path(f"{path}.tar"), member) if mark and not is_remote(address) else None


def suffix_of(address: str) -> str:
    """The file name's suffix, in lower case; empty where there is none that is fit for a key."""
    name = urlsplit(address).path if is_remote(address) else (split_member(address) or ("", address))[1]
    suffix = Path(name).suffix.lower()
    return suffix if re.fullmatch(r"\.[a-z0-9]{1,6}", suffix) else ""


def host_of(address: str) -> str:
    """Whom to ask for the bytes, by which requests are paced: a host, a bucket, or empty for this machine."""
    if not is_remote(address):
        return ""
    parts = urlsplit(address)
    return f"s3://{parts.netloc}" if parts.scheme == "s3" else parts.netloc

"""Immutable objects addressed by key, in a folder or in S3.

An object appears whole or not at all and never changes: putting the same bytes again does nothing, putting other bytes
under a taken key raises `ObjectConflict`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from internvid_assets.costs.meter import count_bytes
from internvid_assets.settings import S3Settings, Settings

_CHUNK_BYTES = 1 << 20


class ObjectConflict(ValueError):
    """A key already holds other bytes."""


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file, read in chunks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def s3_client(settings: S3Settings, **config: Any) -> Any:
    """A boto3 client of the settings' server; `config` goes to botocore. Threads may share it."""
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=settings.endpoint_url,
        aws_access_key_id=settings.access_key_id,
        aws_secret_access_key=settings.secret_access_key,
        region_name=settings.region,
        config=Config(**config),
    )


class ObjectStore(ABC):
    """Objects under one root. Keys are relative, with forward slashes."""

    @abstractmethod
    def put_file(self, key: str, path: Path, sha256: str | None = None) -> None:
        """Store a copy of the file under the key. Pass the hash when it is known, to save a read.

        Raises: ObjectConflict when the key holds other bytes.
        """

    def adopt_file(self, key: str, path: Path, sha256: str) -> None:
        """Store a file that nobody will change any more; see `put_file`. Its bytes are shared where that can be done."""
        self.put_file(key, path, sha256)

    @abstractmethod
    def local_path(self, key: str) -> Path:
        """A readable local file with the object's bytes (S3 objects are copied into the cache once).

        Raises: FileNotFoundError when there is no such object.
        """

    @abstractmethod
    def exists(self, key: str) -> bool:
        """Whether the key holds an object."""

    @abstractmethod
    def keys(self, prefix: str = "") -> Iterator[str]:
        """All keys that start with the prefix, in order."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is not an error."""

    @abstractmethod
    def uri(self, key: str) -> str:
        """Where the object lies, for people and for other programs."""

    def put_bytes(self, key: str, data: bytes) -> None:
        """Store bytes under the key; see `put_file`."""
        with tempfile.NamedTemporaryFile(delete=False) as file:
            file.write(data)
        try:
            self.put_file(key, Path(file.name))
        finally:
            os.unlink(file.name)

    def get_bytes(self, key: str) -> bytes:
        """The object's bytes."""
        return self.local_path(key).read_bytes()

    def put_folder(self, key: str, folder: Path) -> None:
        """Store every file of a folder under `key/`."""
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            self.put_file(f"{key}/{path.relative_to(folder).as_posix()}", path)

    def local_folder(self, key: str) -> Path:
        """A local folder that holds all objects under `key/`.

        Raises: FileNotFoundError when there is none.
        """
        paths = [(k.removeprefix(f"{key}/"), self.local_path(k)) for k in self.keys(f"{key}/")]
        if not paths:
            raise FileNotFoundError(f"no objects under {self.uri(key)}")
        relative, path = paths[0]
        return path.parents[relative.count("/")]


def _checked_key(key: str) -> str:
    if not key or key.startswith("/") or ".." in key.split("/"):
        raise ValueError(f"object key {key!r} must be relative and without '..'")
    return key


class LocalStore(ObjectStore):
    """Objects as files of one folder; of a cache nothing is told to the cost ledger."""

    def __init__(self, root: Path, is_cache: bool = False):
        self.root, self.is_cache = root, is_cache

    def _path(self, key: str) -> Path:
        return self.root / _checked_key(key)

    def put_file(self, key: str, path: Path, sha256: str | None = None) -> None:
        """See `ObjectStore.put_file`: copy beside the target, flush to disk, then link into place."""
        target = self._path(key)
        if target.exists():
            self._same_or_raise(key, path, sha256)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=".partial-")
        try:
            with os.fdopen(descriptor, "wb") as out, path.open("rb") as source:
                shutil.copyfileobj(source, out, _CHUNK_BYTES)
                out.flush()
                os.fsync(out.fileno())
            os.chmod(temporary, 0o644)
            os.link(temporary, target)
            if not self.is_cache:
                count_bytes("bytes_stored", target.stat().st_size)
        except FileExistsError:
            self._same_or_raise(key, path, sha256)
        finally:
            os.unlink(temporary)

    def adopt_file(self, key: str, path: Path, sha256: str) -> None:
        """See `ObjectStore.adopt_file`: another name of the same file, on the same disk."""
        target = self._path(key)
        if target.exists():
            self._same_or_raise(key, path, sha256)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        os.chmod(path, 0o644)
        with path.open("rb") as file:
            os.fsync(file.fileno())
        try:
            os.link(path, target)
        except FileExistsError:
            self._same_or_raise(key, path, sha256)
        except OSError:  # another disk
            self.put_file(key, path, sha256)

    def _same_or_raise(self, key: str, path: Path, sha256: str | None) -> None:
        if file_sha256(self._path(key)) != (sha256 or file_sha256(path)):
            raise ObjectConflict(f"{self.uri(key)} already holds other bytes than {path}")

    def local_path(self, key: str) -> Path:
        """See `ObjectStore.local_path`."""
        path = self._path(key)
        if not path.is_file():
            raise FileNotFoundError(f"no object {self.uri(key)}")
        return path

    def exists(self, key: str) -> bool:
        """See `ObjectStore.exists`."""
        return self._path(key).is_file()

    def keys(self, prefix: str = "") -> Iterator[str]:
        """See `ObjectStore.keys`."""
        top = self.root / prefix.rpartition("/")[0]
        files = (p for p in top.rglob("*") if p.is_file() and not p.name.startswith(".partial-"))
        yield from sorted(k for p in files if (k := p.relative_to(self.root).as_posix()).startswith(prefix))

    def delete(self, key: str) -> None:
        """See `ObjectStore.delete`."""
        self._path(key).unlink(missing_ok=True)

    def uri(self, key: str) -> str:
        """See `ObjectStore.uri`."""
        return str(self.root / key)


class S3Store(ObjectStore):
    """Objects of one bucket under a prefix; `put` is a conditional write, so of two racing writers one wins."""

    def __init__(self, root_uri: str, settings: S3Settings, cache: Path):
        self.bucket, _, prefix = root_uri.removeprefix("s3://").partition("/")
        self.prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self.cache = LocalStore(cache, is_cache=True)
        self._settings = settings
        self._client: Any = None

    @property
    def client(self) -> Any:
        """The boto3 client, made when first needed."""
        if self._client is None:
            self._client = s3_client(self._settings)
        return self._client

    def _head(self, key: str) -> dict[str, Any] | None:
        from botocore.exceptions import ClientError

        try:
            return self.client.head_object(Bucket=self.bucket, Key=self.prefix + _checked_key(key))
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                return None
            raise

    def put_file(self, key: str, path: Path, sha256: str | None = None) -> None:
        """See `ObjectStore.put_file`: the hash travels as object metadata and decides whether the bytes are the same."""
        from botocore.exceptions import ClientError

        digest = sha256 or file_sha256(path)
        if self._has(key, digest):
            return
        try:
            with path.open("rb") as body:
                self.client.put_object(
                    Bucket=self.bucket, Key=self.prefix + key, Body=body, Metadata={"sha256": digest}, IfNoneMatch="*"
                )
            count_bytes("bytes_stored", path.stat().st_size)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] not in (409, 412) or not self._has(key, digest):
                raise

    def _has(self, key: str, digest: str) -> bool:
        head = self._head(key)
        if head is None:
            return False
        if head["Metadata"].get("sha256") != digest:
            raise ObjectConflict(f"{self.uri(key)} already holds other bytes")
        return True

    def local_path(self, key: str) -> Path:
        """See `ObjectStore.local_path`: objects never change, so a cached copy stays good."""
        if not self.cache.exists(key):
            if self._head(key) is None:
                raise FileNotFoundError(f"no object {self.uri(key)}")
            with tempfile.TemporaryDirectory() as folder:
                temporary = Path(folder) / "object"
                self.client.download_file(self.bucket, self.prefix + key, str(temporary))
                self.cache.put_file(key, temporary)
                count_bytes("bytes_fetched", temporary.stat().st_size)
        return self.cache.local_path(key)

    def exists(self, key: str) -> bool:
        """See `ObjectStore.exists`."""
        return self._head(key) is not None

    def keys(self, prefix: str = "") -> Iterator[str]:
        """See `ObjectStore.keys`."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self.prefix + prefix)
        for page in pages:
            for item in page.get("Contents", []):
                yield item["Key"].removeprefix(self.prefix)

    def delete(self, key: str) -> None:
        """See `ObjectStore.delete`; the cached copy goes too."""
        self.client.delete_object(Bucket=self.bucket, Key=self.prefix + _checked_key(key))
        self.cache.delete(key)

    def uri(self, key: str) -> str:
        """See `ObjectStore.uri`."""
        return f"s3://{self.bucket}/{self.prefix}{key}"


def open_store(settings: Settings) -> ObjectStore:
    """The media store that the settings name."""
    if settings.media_uri.startswith("s3://"):
        return S3Store(settings.media_uri, settings.s3, settings.cache_folder / "objects")
    return LocalStore(Path(settings.media_uri))

"""Media objects: immutable bytes under one root, a local folder or an S3 bucket."""

from internvid_assets.store.objects import LocalStore, ObjectConflict, ObjectStore, S3Store, file_sha256, open_store

__all__ = ["LocalStore", "ObjectConflict", "ObjectStore", "S3Store", "file_sha256", "open_store"]

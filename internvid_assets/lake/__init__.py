"""The tables: one module owns every write, each write is one transaction with its lineage."""

from internvid_assets.lake.catalog import Lake, LakeError
from internvid_assets.lake.changes import Append, Commit, CreateAs, Replace, Write

__all__ = ["Append", "Commit", "CreateAs", "Lake", "LakeError", "Replace", "Write"]

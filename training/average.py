"""Average two sets of ViCLIP weights (WiSE-FT).

python -m training.average BEFORE AFTER --alpha 0.5 --output FOLDER
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from training.viclip import load_viclip, save_viclip

LEFT_OUT = ("vision_encoder.temporal_positional_embedding",)
"""CLIP has no temporal table, so its zeros say nothing: the trained one stays whole (R:V/tasks/shared_utils.py)."""


def wise_ft(before: Mapping[str, Tensor], after: Mapping[str, Tensor], alpha: float = 0.5) -> dict[str, Tensor]:
    """(1 - alpha) x before + alpha x after, in float32; the temporal table is that of `after`.

    Args:
        alpha: 0 gives `before`, 1 gives `after`; 0.5 is what the released zero-shot scripts use (their `wiseft05`).

    Raises: ValueError when names or shapes differ, or alpha is not within 0 and 1.

    Source: Robust fine-tuning of zero-shot models (arXiv 2109.01903), eq. 1; the exception is InternVid's code's.
    """
    if not 0.0 <= alpha <= 1.0:
        raise ValueError(f"alpha = {alpha} must be within 0 and 1")
    if before.keys() != after.keys():
        raise ValueError(f"the weights have different names: {sorted(before.keys() ^ after.keys())[:5]}")
    averaged = {}
    for name, new in after.items():
        old = before[name]
        if old.shape != new.shape:
            raise ValueError(f"{name} has shapes {tuple(old.shape)} and {tuple(new.shape)}")
        averaged[name] = new.clone() if name in LEFT_OUT else ((1 - alpha) * old.float() + alpha * new.float())
    return averaged


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code: 0 done, 2 used wrongly."""
    parser = argparse.ArgumentParser(prog="training.average", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("before", type=Path, help="CLIP or ViCLIP weights: a folder or a file")
    parser.add_argument("after", type=Path, help="ViCLIP weights trained from them; their sizes count")
    parser.add_argument("--alpha", type=float, default=0.5, help="share of AFTER")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args(argv)
    try:
        after = load_viclip(arguments.after)
        before = load_viclip(arguments.before, after.config)
        averaged = wise_ft(before.state_dict(), after.state_dict(), arguments.alpha)
    except ValueError as error:
        print(f"average: {error}", file=sys.stderr)
        return 2
    save_viclip(arguments.output, averaged, after.config)
    facts = {"before": str(arguments.before), "after": str(arguments.after), "alpha": arguments.alpha}
    (arguments.output / "average.json").write_text(json.dumps(facts, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Does the demo's ViCLIP use time, whatever the seed? Trains it and its single-frame control with several seeds.

python -m bench.viclip_seeds --home .internvid --seeds 0 1 2
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

from internvid_assets.lake import Lake
from internvid_assets.settings import Settings
from internvid_assets.store import open_store
from internvid_assets.viclip.launch import environment, evaluate_command, recipes, train_command
from internvid_assets.viclip.train import newest_shards


def main() -> None:
    """Train, evaluate, print one line a seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, default=Path(".internvid"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    settings = Settings(home=arguments.home)
    shards_id = newest_shards(Lake(settings), settings.release.training_subset)
    shards = open_store(settings).local_folder(f"shards/{shards_id}")
    print(
        f"shards {shards_id}\n{'seed':>4} {'benchmark':<20} {'viclip':>7} {'interval':>16} {'control':>8} {'chance':>7}"
    )
    for seed in arguments.seeds:
        with tempfile.TemporaryDirectory() as folder:
            for row in _figures(settings, shards, seed, Path(folder)):
                print(f"{seed:>4} {row}", flush=True)


def _figures(settings: Settings, shards: Path, seed: int, folder: Path) -> list[str]:
    import os

    viclip = settings.viclip.model_copy(update={"seed": seed})
    env = {**os.environ, **environment()}
    folders = {role: folder / role for role in recipes(viclip)}
    for role, recipe in recipes(viclip).items():
        command = train_command(viclip, recipe, shards, folders[role])
        subprocess.run(command, env=env, check=True, stderr=subprocess.DEVNULL)
    output = folder / "evaluation"
    subprocess.run(evaluate_command(viclip, folders, None, output), env=env, check=True, stderr=subprocess.DEVNULL)
    results = json.loads((output / "evaluation.json").read_text())["results"]
    values = {(r["model"], r["benchmark"], f["metric"]): f for r in results for f in r["figures"]}
    return [
        f"{benchmark + ' ' + metric:<20} {f['value']:>7.3f} {f['low']:>7.3f} to {f['high']:.3f} "
        f"{values['control', benchmark, metric]['value']:>8.3f} {f['chance']:>7.3f}"
        for (model, benchmark, metric), f in values.items()
        if model == "viclip" and metric in ("top1", "t2v_R@1", "v2t_R@1")
    ]


if __name__ == "__main__":
    main()

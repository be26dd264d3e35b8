"""A Hugging Face style folder: weights, sizes, tokenizer and a card.

python -m training.viclip.export CHECKPOINT --output FOLDER
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from training.viclip.checkpoint import load_viclip, save_viclip
from training.viclip.model import ViCLIP
from training.viclip.pixels import MEAN, STD
from training.viclip.tokenizer import save_tokenizer

_CARD = """---
license: {license}
pipeline_tag: zero-shot-classification
tags: [video, clip, viclip]
---

# {name}

A video-text model in the architecture of ViCLIP (InternVid, arXiv 2307.06942): {frames} frames of {size} x {size} pixels and
captions of up to {length} tokens into one space of {width} dimensions. {parameters:.0f} M parameters.

```python
from training.viclip import load_viclip

model = load_viclip("FOLDER")
video = model.encode_video(video_BTCHW)          # uint8 RGB [B, {frames}, 3, {size}, {size}]
text = model.encode_text(["a dog runs"])         # lower case without punctuation, done inside
similarity = video @ text.T
tokens = model.encode_video_tokens(video_BTCHW)  # every token, for models that read more than one vector
```

Frames are the middle ones of {frames} equal spans, resized without a crop. Pixels are normalised with mean {mean} and
deviation {std} (done inside for uint8).

{provenance}
"""


def export(
    model: ViCLIP, folder: Path, name: str = "ViCLIP", license: str = "apache-2.0", provenance: str = ""
) -> None:
    """Write `model.safetensors`, `viclip.json`, `config.json`, `preprocessor_config.json`, the tokenizer and `README.md`.

    `load_viclip(folder)` gives the same model back.
    """
    config, vision = model.config, model.config.vision
    save_viclip(folder, model.state_dict(), config)
    _write_json(folder / "config.json", {"model_type": "viclip", "architectures": ["ViCLIP"], **config.to_dict()})
    _write_json(
        folder / "preprocessor_config.json",
        {
            "do_rescale": True, "do_normalize": True, "image_mean": MEAN, "image_std": STD, "do_resize": True,
            "size": {"height": vision.image_size, "width": vision.image_size}, "num_frames": vision.num_frames,
        },
    )  # fmt: skip
    save_tokenizer(folder, config.text.context_length)
    card = _CARD.format(
        name=name, license=license, provenance=provenance, frames=vision.num_frames, size=vision.image_size,
        length=config.text.context_length, width=config.embed_dim, mean=MEAN, std=STD,
        parameters=sum(p.numel() for p in model.parameters()) / 1e6,
    )  # fmt: skip
    (folder / "README.md").write_text(card)


def _write_json(path: Path, values: dict) -> None:
    path.write_text(json.dumps(values, indent=1) + "\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code: 0 done, 2 used wrongly."""
    parser = argparse.ArgumentParser(prog="training.viclip.export", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("checkpoint", type=Path, help="a run's folder or a weights file")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--name", default="ViCLIP")
    parser.add_argument("--license", default="apache-2.0", help="of the weights, for the card")
    arguments = parser.parse_args(argv)
    try:
        export(load_viclip(arguments.checkpoint), arguments.output, arguments.name, arguments.license, _provenance(arguments.checkpoint))  # fmt: skip
    except ValueError as error:
        print(f"export: {error}", file=sys.stderr)
        return 2
    return 0


def _provenance(checkpoint: Path) -> str:
    """What `run.json` beside the weights says; nothing where there is none."""
    path = (checkpoint if checkpoint.is_dir() else checkpoint.parent) / "run.json"
    if not path.exists():
        return ""
    run = json.loads(path.read_text())
    facts = {
        name: run[name] for name in ("shards_id", "subset", "snapshot_id", "seed", "git_commit", "num_samples_seen")
    }
    return f"Trained by the recipe `{run['recipe']['name']}`; " + ", ".join(f"{k} {v}" for k, v in facts.items()) + "."


if __name__ == "__main__":
    sys.exit(main())

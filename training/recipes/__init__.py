"""Named recipes. Each is a function that returns a `Recipe`; `--recipe NAME` finds it here."""

from __future__ import annotations

from dataclasses import replace

from training.recipe import DataConfig, OptimiserConfig, Recipe, Stage
from training.viclip import ViCLIPConfig


def paper_l14_64gpu() -> Recipe:
    """ViCLIP-L/14 on InternVid-10M-FLT with 64 GPUs.

    Source: InternVid (arXiv 2307.06942) section 4 and the released configs (R:VE/*/config.py): masked at batch 32,768
    for 10 epochs, then half an epoch without masking at 4e-6. Start it from CLIP: `--init FOLDER` of
    openai/clip-vit-large-patch14.
    """
    return Recipe(
        name="paper_l14_64gpu",
        model=ViCLIPConfig.l14(),
        stages=(
            Stage(batch_size=32768, learning_rate=4e-4, epochs=10, warmup_share=0.05, mask_ratio=0.9),
            Stage(batch_size=2048, learning_rate=4e-6, epochs=0.5, warmup_share=0.2, mask_ratio=0.0),
        ),
        world_size=64,
        loss_chunk_rows=128,
        checkpointing=True,
    )


def paper_b16() -> Recipe:
    """ViCLIP-B/16, the released `viclip_base` (learning rate 2e-4)."""
    large = paper_l14_64gpu()
    stages = (replace(large.stages[0], learning_rate=2e-4), large.stages[1])
    return replace(large, name="paper_b16", model=ViCLIPConfig.b16(), stages=stages)


def demo_cpu() -> Recipe:
    """A tiny ViCLIP from scratch in about two minutes on two CPU cores.

    Differs from the paper: both towers learn (no CLIP weights to start from), no flips since captions say left and
    right, equal captions are positives since a small corpus repeats them, fewer tokens are dropped, a patch spans four frames
    (with one, a corpus this small teaches no motion: measured in bench/README.md), and the temporal table starts random.
    """
    return Recipe(
        name="demo_cpu",
        model=ViCLIPConfig.tiny(),
        stages=(
            Stage(batch_size=64, learning_rate=1e-3, steps=420, warmup_share=0.08, final_share=0.1, mask_ratio=0.2),
            Stage(batch_size=64, learning_rate=2e-4, steps=80, warmup_share=0.1, final_share=0.02, mask_ratio=0.0),
        ),
        data=DataConfig(min_crop_area=0.7, horizontal_flip=False, loader_workers=0, cache_frames=True),
        optimiser=OptimiserConfig(weight_decay=0.05, max_grad_norm=1.0),
        world_size=2,
        freeze_text=False,
        freeze_words=True,
        init_temporal_std=0.1,
        same_text_positives=True,
        precision="fp32",
        zero_stage=0,
        save_every=250,
    )


def demo_cpu_single_frame() -> Recipe:
    """The control: everything as `demo_cpu`, but the model sees one frame of each clip."""
    demo = demo_cpu()
    return replace(demo, name="demo_cpu_single_frame", model=ViCLIPConfig.tiny(num_frames=1, tubelet_frames=1))


def debug_tiny() -> Recipe:
    """Ends in seconds: for tests and for looking at a run."""
    demo = demo_cpu()
    stages = tuple(replace(stage, batch_size=8, steps=3, mask_ratio=0.5) for stage in demo.stages)
    return replace(
        demo, name="debug_tiny", model=ViCLIPConfig.tiny(num_frames=4, tubelet_frames=2), stages=stages,
        world_size=1, log_every=1, save_every=2,
    )  # fmt: skip


RECIPES = {
    recipe.__name__: recipe for recipe in (paper_l14_64gpu, paper_b16, demo_cpu, demo_cpu_single_frame, debug_tiny)
}


def load_recipe(name: str) -> Recipe:
    """The recipe of that name. Raises: ValueError listing the names."""
    if name not in RECIPES:
        raise ValueError(f"recipe {name!r} does not exist; there are {', '.join(RECIPES)}")
    return RECIPES[name]()

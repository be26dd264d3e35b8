"""Recipes of fine-tuning, for retrieval and for action recognition; `training.finetune --recipe NAME` finds them here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from training.recipe import DataConfig, OptimiserConfig, Recipe, Stage
from training.viclip import ViCLIPConfig


@dataclass(frozen=True)
class FinetuneRecipe(Recipe):
    """A run on the training split of one benchmark.

    `model` is what is trained without `--init`; with it, its frames, text length and drop path are taken and the rest
    comes from those weights.
    """

    task: Literal["retrieval", "action"] = "retrieval"
    benchmark: str = ""
    layer_decay: float = 1.0  # learning rate of a block relative to that of the block above it
    label_smoothing: float = 0.0
    mixup: float = 0.0  # parameter of its beta distribution; 0: off
    cutmix: float = 0.0
    random_erasing: float = 0.0  # share of clips that lose a rectangle to noise
    repeats: int = 1  # augmented copies of each video in a batch

    def __post_init__(self) -> None:
        if len(self.stages) != 1:
            raise ValueError(f"fine-tuning has one stage; {self.name} has {len(self.stages)}")


_NUM_FRAMES = 12  # P-AppE1, retrieval


def _retrieval(benchmark: str, learning_rate: float, epochs: int, text_length: int, drop_path: float) -> FinetuneRecipe:
    """Contrastive fine-tuning of both towers without masking.

    Source: InternVid (arXiv 2307.06942) appendix E.1 and table 10: AdamW 0.9/0.999, weight decay 0.02, cosine, batch 256,
    one epoch of warm-up, flips, multi-scale crops of 0.5 to 1. The table's header names its columns MSRVTT, DiDeMo, ANet,
    LSMDC, MSVD, but text lengths of 96 and 150 fit LSMDC and ActivityNet (as in UMT's configs), so its values are read in
    the order of tables 5 and 6: MSR-VTT, LSMDC, DiDeMo, MSVD, ActivityNet.
    Differs: no video-text matching loss (its head is neither described nor released); captions of one video count as
    positives of each other; multi-scale crops are random resized crops of the same range.
    """
    large = ViCLIPConfig.l14()
    return FinetuneRecipe(
        name=f"finetune_retrieval_{benchmark}",
        task="retrieval",
        benchmark=benchmark,
        model=replace(
            large,
            vision=replace(large.vision, num_frames=_NUM_FRAMES, drop_path=drop_path),
            text=replace(large.text, context_length=text_length),
        ),
        stages=(
            Stage(batch_size=256, learning_rate=learning_rate, epochs=epochs, warmup_share=1 / epochs, mask_ratio=0.0),
        ),
        data=DataConfig(min_crop_area=0.5, horizontal_flip=True),
        optimiser=OptimiserConfig(beta1=0.9, beta2=0.999, weight_decay=0.02),
        world_size=8,
        freeze_text=False,
        same_video="positives",
        checkpointing=True,
        save_every=200,
    )


def _action(
    name: str, benchmark: str, learning_rate: float, epochs: int, warmup_epochs: int, batch_size: int = 512
) -> FinetuneRecipe:
    """A classification head on the video tower, everything of which learns.

    The paper gives no settings for it (appendix E.1 names two recipes: on the set itself, or on K710 first), so these are
    of the same team's UMT, L/16 with 8 frames. Test Kinetics with `--views 4 --crops 3 --resize crop`, SSv2 with 2 views.

    Source: U:single_modality/exp/finetuning/*/l16*.sh and run_class_finetuning.py (Unmasked Teacher, arXiv 2303.16058):
    AdamW 0.9/0.999, weight decay 0.05, layer decay 0.85, drop path 0.2, label smoothing 0.1, mixup 0.8, cutmix 1.0, two
    copies of each video, 16 GPUs of 32 clips; its learning rates are for 256 clips and grow with the batch, here written out.
    RandAugment, crops of 0.08 to 1 and random erasing as U:single_modality/datasets/kinetics_sparse.py.
    """
    large = ViCLIPConfig.l14()
    return FinetuneRecipe(
        name=name,
        task="action",
        benchmark=benchmark,
        model=replace(large, vision=replace(large.vision, num_frames=8, drop_path=0.2)),
        stages=(
            Stage(batch_size=batch_size, learning_rate=learning_rate * batch_size / 256, epochs=epochs,
                  warmup_share=warmup_epochs / epochs, final_share=1e-6 / learning_rate, mask_ratio=0.0),
        ),
        # Something-Something's classes say left and right.
        data=DataConfig(min_crop_area=0.08, horizontal_flip=benchmark != "ssv2", rand_augment=4),
        optimiser=OptimiserConfig(beta1=0.9, beta2=0.999, weight_decay=0.05),
        world_size=16,
        layer_decay=0.85,
        label_smoothing=0.1,
        mixup=0.8,
        cutmix=1.0,
        random_erasing=0.25,
        repeats=2,
        checkpointing=True,
        save_every=500,
    )  # fmt: skip


FINETUNING: dict[str, Callable[[], FinetuneRecipe]] = {
    # learning rate, epochs, text length and drop path: table 10
    "finetune_retrieval_msrvtt": partial(_retrieval, "msrvtt", 2e-5, 7, 32, 0.3),
    "finetune_retrieval_lsmdc": partial(_retrieval, "lsmdc", 4e-5, 8, 96, 0.2),
    "finetune_retrieval_didemo": partial(_retrieval, "didemo", 2e-5, 5, 64, 0.3),
    "finetune_retrieval_msvd": partial(_retrieval, "msvd", 2e-5, 10, 64, 0.3),
    "finetune_retrieval_anet": partial(_retrieval, "anet", 4e-5, 20, 150, 0.2),
    # K710 first, then one of the others from it with `--init`: the head of its classes is cut from that of the 710
    "finetune_k710": partial(_action, "finetune_k710", "k710", 1e-4, 20, 2),
    "finetune_k400": partial(_action, "finetune_k400", "k400", 1e-5, 5, 1),
    "finetune_k600": partial(_action, "finetune_k600", "k600", 1e-5, 5, 1),
    "finetune_k700": partial(_action, "finetune_k700", "k700", 1e-5, 5, 1),
    "finetune_ssv2": partial(_action, "finetune_ssv2", "ssv2", 4e-4, 14, 4),
}


def load_finetuning(name: str) -> FinetuneRecipe:
    """The recipe of that name. Raises: ValueError listing the names."""
    if name not in FINETUNING:
        raise ValueError(f"recipe {name!r} does not exist; there are {', '.join(FINETUNING)}")
    return FINETUNING[name]()

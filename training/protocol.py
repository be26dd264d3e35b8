"""The choices that change the numbers of an evaluation; all of them are in its result."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from training.benchmarks.templates import ACTIONCLIP
from training.data.video import Sampling


@dataclass(frozen=True)
class Protocol:
    """The defaults are the paper's and its released code's, as far as they are known (R:V/tasks, R:VE/zs_*)."""

    num_frames: int | None = None  # None: as many as the model was trained with
    sampling: Sampling = "middle"  # of equal spans; or evenly from the first to the last frame
    num_views: int = 1  # along time: view v takes every num_views-th of the frames
    num_crops: int = 1  # along the long side: 1 or 3
    resize: Literal["straight", "crop"] = "straight"  # to the model's square, or the short side and then a square of it
    templates: tuple[str, ...] = ACTIONCLIP
    text_clean_up: bool = True
    text_length: int | None = None  # tokens; None: the model's
    template_averaging: Literal["similarities", "embeddings"] = "similarities"
    dual_softmax: float | None = None  # its temperature; None: off
    single_frame: bool = False  # embed each frame alone and average (the paper's CLIP baselines, section 4.1)
    average_with: str | None = None  # weights to average with: alpha times the model's, 1 - alpha times these
    alpha: float = 0.5
    use_head: bool = True  # of a model with a classification head: its answers, not those of the text tower

    def __post_init__(self) -> None:
        """Raises: ValueError naming the value that cannot be."""
        for name, value in (("frames", self.num_frames), ("views", self.num_views), ("text-length", self.text_length)):
            if value is not None and value < 1:
                raise ValueError(f"--{name} = {value} must be at least 1")
        if self.num_crops not in (1, 3):
            raise ValueError(f"--crops = {self.num_crops} must be 1 or 3")
        if self.num_crops > 1 and self.resize == "straight":
            raise ValueError("--crops 3 needs --resize crop: a picture resized straight to a square has one crop")
        if not 0.0 <= self.alpha <= 1.0:
            raise ValueError(f"--alpha = {self.alpha} must be in [0, 1]")
        if self.alpha != 0.5 and self.average_with is None:
            raise ValueError("--alpha has no effect without --average-with")
        if self.dual_softmax is not None and self.dual_softmax <= 0.0:
            raise ValueError(f"--dual-softmax = {self.dual_softmax} must be a temperature above 0")

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def told(self) -> dict[str, str]:
        """Every choice in words."""
        frames = {"middle": "middle of equal spans", "endpoints": "evenly from the first to the last"}[self.sampling]
        resize = "straight to the square" if self.resize == "straight" else "short side, then a square"
        wise = f"{self.alpha} x the model + {1 - self.alpha:g} x {self.average_with}, temporal table excluded"
        return {
            "frames": f"{self.num_frames or 'as trained'}, {frames}",
            "views": f"{self.num_views} along time, {self.num_crops} crops",
            "resize": f"{resize}; bicubic, but area means when shrinking by two or more",
            "single frames averaged": "yes" if self.single_frame else "no",
            "templates": f"{len(self.templates)}, {self.template_averaging} averaged",
            "text clean-up": "yes" if self.text_clean_up else "no",
            "text length": f"{self.text_length or 'as trained'} tokens",
            "dual softmax": f"temperature {self.dual_softmax:g}" if self.dual_softmax else "no",
            "weights": wise if self.average_with else "as trained",
            "classification head": "used where a checkpoint has one" if self.use_head else "left out",
        }

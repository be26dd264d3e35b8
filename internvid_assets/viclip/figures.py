"""The report's figures, drawn from plain numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_INK, _BLUE, _ORANGE, _GREY = "#22303c", "#2f6fb0", "#d9822b", "#c9d1d8"


def training_curves(path: Path, metrics: Sequence[Mapping[str, Any]], control: Sequence[Mapping[str, Any]]) -> None:
    """Loss, accuracy inside the batch and learning rate over steps; the control's in orange."""
    figure = Figure(figsize=(10, 2.8), layout="constrained")
    axes = figure.subplots(1, 3)
    for axis, name, title in zip(
        axes,
        ("loss", "accuracy", "learning_rate"),
        ("contrastive loss", "accuracy in the batch", "learning rate"),
        strict=True,
    ):
        for rows, colour, label in ((metrics, _BLUE, "ViCLIP"), (control, _ORANGE, "control")):
            if rows:
                axis.plot([r["step"] for r in rows], [r[name] for r in rows], color=colour, linewidth=1.5, label=label)
        _dress(axis, title, "step")
    if control:
        axes[0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)


def accuracy(path: Path, results: Sequence[Mapping[str, Any]]) -> None:
    """Top-1 or R@1 of every model on every benchmark, with 95 % intervals and chance as a line."""
    heads = [
        (result, figure)
        for result in results
        for figure in result["figures"]
        if figure["metric"] in ("top1", "t2v_R@1", "v2t_R@1")
    ]
    names = list(dict.fromkeys(f"{result['benchmark']}\n{figure['metric']}" for result, figure in heads))
    models = list(dict.fromkeys(result["model"] for result, _ in heads))
    figure = Figure(figsize=(max(4.0, 2.2 * len(names)), 3.0), layout="constrained")
    axis = figure.subplots()
    width = 0.7 / len(models)
    for result, value in heads:
        model = models.index(result["model"])
        x = names.index(f"{result['benchmark']}\n{value['metric']}") + (model - (len(models) - 1) / 2) * width
        axis.bar(x, value["value"], width * 0.92, color=(_BLUE, _ORANGE, _GREY)[model % 3], label=models[model])
        error = [[value["value"] - value["low"]], [value["high"] - value["value"]]]
        axis.errorbar(x, value["value"], error, color=_INK, linewidth=1, capsize=2)
        ends = [x - width / 2, x + width / 2]
        axis.plot(ends, [value["chance"]] * 2, color=_INK, linestyle=":", linewidth=1.5, label="chance")
    axis.set_xticks(range(len(names)), names, fontsize=8)
    _dress(axis, "", "")
    handles, labels = axis.get_legend_handles_labels()
    shown = dict(zip(labels, handles, strict=True))  # one entry a name
    axis.legend(shown.values(), shown.keys(), frameon=False, fontsize=8)
    axis.set_ylim(0, 1)
    figure.savefig(path, dpi=110)


def confusion(path: Path, classes: Sequence[str], counts: Sequence[Sequence[int]]) -> None:
    """Truth in rows, answers in columns, as shares of the row."""
    shares = np.array(counts) / np.maximum(1, np.sum(counts, axis=1, keepdims=True))
    size = 2.2 + 0.34 * len(classes)
    figure = Figure(figsize=(size + 0.6, size), layout="constrained")
    axis = figure.subplots()
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axis.set_xticks(range(len(classes)), classes, rotation=60, ha="right", fontsize=8)
    axis.set_yticks(range(len(classes)), classes, fontsize=8)
    if len(classes) <= 20:
        for row, column in np.argwhere(np.array(counts) > 0):
            colour = "white" if shares[row, column] > 0.5 else _INK
            axis.text(column, row, counts[row][column], ha="center", va="center", fontsize=7, color=colour)
    _dress(axis, "", "answer")
    axis.set_ylabel("truth", fontsize=8, color=_INK)
    figure.savefig(path, dpi=110)


def histograms(path: Path, columns: Mapping[str, Sequence[float]]) -> None:
    """One small histogram a column."""
    figure = Figure(figsize=(2.6 * max(1, len(columns)), 2.4), layout="constrained")
    for axis, (name, values) in zip(np.atleast_1d(figure.subplots(1, len(columns))), columns.items(), strict=True):
        axis.hist(values, bins=24, color=_BLUE)
        _dress(axis, name, "")
    figure.savefig(path, dpi=110)


def _dress(axis: Axes, title: str, label: str) -> None:
    axis.set_title(title, fontsize=9, color=_INK)
    axis.set_xlabel(label, fontsize=8, color=_INK)
    axis.tick_params(labelsize=7, colors=_INK)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)

"""Draw the pictures of the method cards: one short run of every method on scikit-learn's digits, one SVG each.

    python docs/methods/make_plots.py                       all of them (about five minutes on one core)
    python docs/methods/make_plots.py --methods one okddip  some of them
    python docs/methods/make_plots.py --runs runs/cards     keep the run directories; finished ones are not repeated

One seed a method: the pictures show what a method logs, and compare nothing.
"""

from __future__ import annotations

import dataclasses
import io
import json
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import tyro
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

import codistill
from codistill.methods import METHODS
from codistill.training import Config, OptimConfig

IMAGES = Path(__file__).parent / "images"
BASE = Config(
    model=("resnet8_tiny",),
    peers=4,
    data="digits",
    train_subset=200,
    validation=0.2,
    batch_size=20,
    epochs=40,
    seed=0,
    device="cpu",
    threads=1,
    optim=OptimConfig(lr=0.05, schedule="cosine"),
)
OWN: dict[str, dict[str, Any]] = {
    "baseline": {"peers": 1},
    "kd": {"peers": 1},
    "cl_ilr": {"group": "branches"},
    "clnn": {"group": "tree", "split": "layer2:2,layer3:2", "peers": None},
    "one": {"group": "branches", "peers": 3},
    "okddip": {"group": "branches"},
    **{name: {"peers": 3} for name in ("kdcl_naive", "kdcl_linear", "kdcl_minlogit", "kdcl_general")},
    # 400 steps are too few for the usual decay of 0.999, with which the averages would hold the first epochs' weights.
    "pcl": {"peers": 3, "icl": True, "method_options": {"decay": 0.95}},
    "switokd": {"peers": 2, "model": ("resnet14_tiny", "resnet8_tiny")},
}
"""Where a method's run differs from BASE."""
LEADERS = {"okddip": ("auxiliary peers", "leader"), "switokd": ("larger network", "smaller network")}
"""What the others and the last student are called, where the method deploys the last one."""

# Mid tones: at least 3:1 against GitHub's white and its dark page (#0d1117).
TEXT, RULE = "#7d858e", "#8b949e"
BLUE, ORANGE, GREEN, PURPLE = "#3f83d6", "#d4711c", "#2c9a58", "#a36bd6"
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "codistill",
    "font.size": 8.5,
    "text.color": TEXT,
    "axes.labelcolor": TEXT,
    "axes.edgecolor": RULE,
    "axes.titlecolor": TEXT,
    "axes.titlesize": 9,
    "xtick.color": TEXT,
    "ytick.color": TEXT,
    "legend.labelcolor": TEXT,
    "legend.frameon": False,
    "legend.fontsize": 8,
}


@dataclass(frozen=True)
class Arguments:
    """Which pictures, and where the runs go."""

    methods: tuple[str, ...] = tuple(METHODS)
    """Names of methods; kd brings the baseline run with it, its teacher."""
    runs: Path | None = None
    """Folder for the run directories; a temporary one if left out."""
    images: Path = field(default=IMAGES)
    """Folder for the pictures."""
    png: bool = False
    """Write a PNG beside every SVG, to look at."""


def main() -> None:
    """Train, draw, and print the last epoch of every run."""
    arguments = tyro.cli(Arguments)
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.runs or Path(temporary)
        for name in arguments.methods:
            epochs = run(name, folder)
            last = epochs[-1]["validation"]
            students = ", ".join(f"{s['top1_error']:.2f}" for s in last["peers"])
            print(f"{name:14} validation error, %: students {students}; ensemble {last['ensemble']['top1_error']:.2f}")
            draw(name, epochs, arguments.images / f"{name}.svg", arguments.png)


def run(name: str, folder: Path) -> list[dict[str, Any]]:
    """Train a method where it is not trained yet; the lines of its metrics.jsonl."""
    out = folder / name
    config = dataclasses.replace(BASE, method=name, out=out, **OWN.get(name, {}))
    if name == "kd":
        run("baseline", folder)
        config = dataclasses.replace(config, teachers=(str(folder / "baseline"),))
    if not (out / "summary.json").is_file():
        codistill.train(config, overwrite=True)
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def draw(name: str, epochs: Sequence[dict[str, Any]], path: Path, png: bool) -> None:
    """Write the picture of one run."""
    diagnostics = epochs[-1]["diagnostics"]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.6 if diagnostics else 6.2, 2.5), layout="constrained")
        ratios = [1, 1, 0.62] if "attention" in diagnostics else [1] * (2 + bool(diagnostics))
        areas = figure.add_gridspec(1, len(ratios), width_ratios=ratios)
        _draw_errors(figure.add_subplot(areas[0]), name, epochs)
        _draw_parts(figure.add_subplot(areas[1]), epochs)
        if "attention" in diagnostics:
            _draw_attention(figure, areas[2], epochs)
        elif diagnostics:
            _draw_weights(figure.add_subplot(areas[2]), epochs, *diagnostics)
        path.parent.mkdir(parents=True, exist_ok=True)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        path.write_text(_shorter(buffer.getvalue()), encoding="utf-8")
        if png:
            figure.savefig(path.with_suffix(".png"), dpi=110, facecolor="white")


def _draw_errors(axes: Axes, name: str, epochs: Sequence[dict[str, Any]]) -> None:
    peers = np.array([[s["top1_error"] for s in e["validation"]["peers"]] for e in epochs])
    smallest = 50 / epochs[0]["validation"]["images"]  # No error at all is drawn at half an image.
    leader = peers.shape[1] - 1 if name in LEADERS else None
    lines = [i for i in range(peers.shape[1]) if i != leader]
    others, last = LEADERS.get(name, ("students" if len(lines) > 1 else "student", ""))
    for i in lines:
        label = "_" if i else others
        axes.plot(_x(epochs), np.maximum(peers[:, i], smallest), color=BLUE, linewidth=0.9, label=label)
    if leader is not None:
        axes.plot(_x(epochs), np.maximum(peers[:, leader], smallest), color=ORANGE, linewidth=1.4, label=last)
    if peers.shape[1] > 1:
        ensemble = np.array([e["validation"]["ensemble"]["top1_error"] for e in epochs])
        axes.plot(_x(epochs), np.maximum(ensemble, smallest), color=GREEN, linewidth=1.6, label="ensemble")
    _finish(axes, "validation error, %", logarithmic=True)


def _draw_parts(axes: Axes, epochs: Sequence[dict[str, Any]]) -> None:
    for part, colour in zip(epochs[0]["train"]["parts"], (BLUE, ORANGE, GREEN, PURPLE), strict=False):
        values = np.array([e["train"]["parts"][part] for e in epochs])
        axes.plot(_x(epochs), np.where(values > 0, values, np.nan), color=colour, linewidth=1.4, label=part)
    _finish(axes, "parts, unweighted, nats", logarithmic=True)


def _draw_weights(axes: Axes, epochs: Sequence[dict[str, Any]], diagnostic: str) -> None:
    values = np.array([e["diagnostics"][diagnostic] for e in epochs])
    if values.ndim == 1:  # a number, such as the share of steps in which a network was paused
        axes.plot(_x(epochs), values, color=BLUE, linewidth=1.4, label=diagnostic)
        axes.set_ylim(0, 1)
        _finish(axes, f"{diagnostic}, share of steps", logarithmic=False)
        return
    for i, colour in zip(range(values.shape[1]), (BLUE, ORANGE, GREEN, PURPLE), strict=False):
        axes.plot(_x(epochs), values[:, i], color=colour, linewidth=1.4, label=f"student {i}")
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1] if values.max() > 0.5 else [0, 0.1, 0.2, 0.3, 0.4, 0.5])
    axes.set_ylim(0, max(1.5 * values.max(), 0.6))  # Room for the legend above the lines.
    _finish(axes, diagnostic, logarithmic=False)


def _draw_attention(figure: Figure, area: Any, epochs: Sequence[dict[str, Any]]) -> None:
    chosen = [0, len(epochs) // 4 - 1, len(epochs) - 1]
    for place, index in zip(area.subgridspec(3, 1), chosen, strict=True):
        matrix = np.array(epochs[index]["diagnostics"]["attention"])
        axes = figure.add_subplot(place)
        axes.set_xlim(0, len(matrix))
        axes.set_ylim(len(matrix), 0)
        for a, b in np.ndindex(matrix.shape):
            box = mpl.patches.Rectangle((b, a), 1, 1, facecolor=BLUE, alpha=0.35 * matrix[a, b], edgecolor=RULE)
            axes.add_patch(box)
            axes.text(b + 0.5, a + 0.54, f"{matrix[a, b]:.2f}", ha="center", va="center", fontsize=7.5)
        axes.set(xticks=[], yticks=[])
        axes.set_ylabel(f"epoch {epochs[index]['epoch']}", rotation=0, ha="right", va="center", fontsize=8)
        if index == chosen[0]:
            axes.set_title("attention", loc="left")


def _shorter(svg: str) -> str:
    """Coordinates (not the text) to a hundredth of a point, and no indentation: the same picture in two thirds."""

    def rounded(tag: re.Match[str]) -> str:
        return re.sub(r"-?\d+\.\d{3,}", lambda n: f"{float(n[0]):.2f}".rstrip("0").rstrip("."), tag[0])

    return re.sub(r"\n\s+", "\n", re.sub(r"<[^>]*>", rounded, svg))


def _x(epochs: Sequence[dict[str, Any]]) -> list[int]:
    return [e["epoch"] for e in epochs]


def _finish(axes: Axes, title: str, logarithmic: bool) -> None:
    axes.set_title(title, loc="left")
    axes.set_xlabel("epoch")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color=RULE, linewidth=0.4, alpha=0.5)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    if logarithmic:
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0,) if high / low > 300 else (1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
    axes.legend(handlelength=1.2)


if __name__ == "__main__":
    main()

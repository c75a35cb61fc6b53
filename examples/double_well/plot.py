"""The picture of a case: where trajectories go, how the estimate converges, how the levels rise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from matplotlib.ticker import MaxNLocator

from double_well.statistics import estimate

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from double_well.model import Model
    from double_well.splitting import Run

# Okabe & Ito's colours, told apart with any colour vision.
BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
SHOWN = 3
"""Reactive trajectories drawn; more hide one another."""


def save_plot(path: Path, model: Model, runs: Sequence[Run], reference: float | None) -> None:
    """Draw the three panels; ``reference`` is the probability known otherwise, if it is."""
    # No pyplot: it keeps global state, and this runs inside a user's program.
    (west, east), (south, north) = model.landscape.box
    shape = (east - west) / (north - south)
    figure = Figure(figsize=(4.2 * (shape + 2.4), 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    left, middle, right = figure.subplots(1, 3, width_ratios=(shape + 0.25, 1.0, 1.0))
    _potential(left, model, runs)
    _convergence(middle, model, [run.probability for run in runs], reference)
    _levels(right, runs, reference)
    for panel, letter in zip((left, middle, right), "abc", strict=True):
        panel.set_title(f"({letter}) {panel.get_title()}", loc="left", fontsize=11)
        panel.set_title("")
    figure.savefig(path, dpi=150)


def _potential(panel: Any, model: Model, runs: Sequence[Run]) -> None:
    landscape = model.landscape
    x, y = (np.linspace(low, high, 300) for low, high in landscape.box)
    grid_x, grid_y = np.meshgrid(x, y)
    value = landscape.value(grid_x, grid_y)
    value -= value.min()
    barrier = 5.0 * (landscape.value(0.0, 0.0) - landscape.value(*landscape.well_a))
    filled = panel.contourf(grid_x, grid_y, value, np.linspace(0.0, barrier, 21), cmap="Greys", extend="max", alpha=0.8)
    panel.figure.colorbar(filled, ax=panel, label="V(x, y) - min V", ticks=MaxNLocator(6))
    for path, colour in zip(_reactive(runs), (BLUE, ORANGE, GREEN), strict=False):
        panel.plot(path[:, 0], path[:, 1], color=colour, linewidth=0.7)
    panel.add_patch(Circle(landscape.well_b, model.target_radius, fill=False, color=VERMILION, linewidth=2.0))
    panel.plot(*landscape.well_a, "o", color=PURPLE, markeredgecolor="black", markersize=8)
    (start_x, start_y), (end_x, end_y) = landscape.well_a, landscape.well_b
    low = start_y - 1.6 * model.target_radius
    style: dict[str, Any] = {"ha": "center", "va": "top", "fontsize": 11, "fontweight": "bold"}
    style["bbox"] = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 1.5}
    panel.text(start_x, low, "A (start)", **style)
    panel.text(end_x, end_y + low - start_y, "B (target)", color=VERMILION, **style)
    panel.set(title="Potential and reactive trajectories", xlabel="x", ylabel="y", xlim=x[[0, -1]], ylim=y[[0, -1]])
    panel.set_aspect("equal")


def _reactive(runs: Sequence[Run]) -> list[Any]:
    """A few trajectories that reached B, each from another run, so that they share no ancestor."""
    found = []
    for run in runs:
        reached = [path for path, scores in zip(run.paths, run.scores, strict=True) if scores.max() >= 1.0]
        found += reached[:1]
    return found[:SHOWN]


def _convergence(panel: Any, model: Model, values: Sequence[float], reference: float | None) -> None:
    counts = range(2, len(values) + 1)
    running = [estimate(values[:count]) for count in counts]
    means = [one.mean for one in running]
    low, high = [one.low for one in running], [one.high for one in running]
    panel.fill_between(counts, low, high, color=SKY, alpha=0.35, label="its 95 % interval")
    panel.plot(counts, means, "o-", color=BLUE, markersize=4, label="mean of the runs so far")
    panel.plot(range(1, len(values) + 1), values, "x", color="black", markersize=5, label="single run")
    top = [*values, 2.0 * means[-1], running[-1].high]
    if reference is not None:
        panel.axhline(reference, color=VERMILION, linestyle="--", label="reference (Kolmogorov equation)")
        top.append(reference)
    # The interval of two or three runs is huge; it must not set the scale.
    panel.set_ylim(0.0, 1.55 * max(top) or 1.0)
    panel.yaxis.set_major_formatter("{x:.2g}")
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    panel.legend(loc="upper right", fontsize=9, framealpha=0.9)
    panel.set(title="Convergence of the estimate", xlabel="independent runs")
    panel.set_ylabel(f"P(B reached within T = {model.horizon:g})")


def _levels(panel: Any, runs: Sequence[Run], reference: float | None) -> None:
    for run in runs:
        levels = [0.0, *run.levels, 1.0]
        weights = [1.0, *run.weights, run.probability]
        panel.step(
            levels,
            [weight or np.nan for weight in weights],
            where="post",
            color=BLUE,
            linewidth=0.9,
            alpha=0.6,
        )
    panel.plot([], [], color=BLUE, linewidth=0.9, label=f"{len(runs)} runs, one line each")
    if reference is not None:
        panel.plot(1.0, reference, "D", color=VERMILION, markersize=7, clip_on=False, zorder=5, label="reference")
    panel.set_yscale("log")
    panel.set(title="Levels of the runs", xlabel="score level (1 = in B)", xlim=(0.0, 1.0))
    panel.set_ylabel("P(highest score > level)")
    panel.legend(loc="lower left", fontsize=9)

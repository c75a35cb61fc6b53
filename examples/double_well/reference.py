"""The same probability without any trajectory: the backward Kolmogorov equation on a grid.

u(x, t) = P(B is reached within t | start at x) solves u_t = -grad V . grad u + lap u / beta outside
of B, with u = 1 on B and u(., 0) = 0. Space: the Scharfetter-Gummel finite volumes (a Markov jump
process between the cells of a grid with reflecting edges; Scharfetter & Gummel, IEEE Trans. Electron
Devices 16, 64, 1969). Time: Crank-Nicolson after four implicit half steps (Rannacher's start-up, for
the jump at t = 0). It shares with the driver the potential and B, and nothing else.

A trajectory is looked at only every ``time_step``, and so enters B a little later than the diffusion
does. To leading order that is a B whose radius is smaller by 0.5826 sqrt(2 time_step / beta)
(Broadie, Glasserman & Kou, Math. Finance 7, 325, 1997; Gobet & Menozzi, Stoch. Process. Appl. 120,
130, 2010, for Euler schemes); :func:`probability` applies it unless told not to.

Measured for the parameters of ``case.toml``: 5.214e-3, 5.167e-3, 5.155e-3, 5.153e-3 at spacings 0.08,
0.04, 0.02, 0.01 (second order; the limit is 5.152e-3), and the same six digits from interval 0.08 to
0.01. Observed every 0.01, 0.005, 0.0025, 0.00125 and without pause (spacing 0.02): 5.142e-3, 5.155e-3,
5.165e-3, 5.171e-3, 5.188e-3. So the grid matters by 0.1 %, and that a trajectory is looked at in steps
by 0.6 %, where the driver's interval is +-60 % wide. 800 000 direct Euler-Maruyama trajectories at time
step 0.005, which have that scheme's own error as well: (5.09 +- 0.08)e-3. The triple well at inverse
temperature 3.5: 3.484e-3, 3.458e-3, 3.452e-3 at spacings 0.08, 0.04, 0.02.

Needs scipy (not an example requirement): ``pip install scipy``, then, in ``examples/``,
``python -m double_well.reference double_well/case.toml``.
"""

from __future__ import annotations

import dataclasses
import math
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.interpolate  # type: ignore[import-untyped]
import scipy.sparse  # type: ignore[import-untyped]
import scipy.sparse.linalg  # type: ignore[import-untyped]

from double_well.options import Options

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from double_well.model import Model

OVERSHOOT = 0.5826
"""-zeta(1/2) / sqrt(2 pi), the mean overshoot of a Gaussian random walk in units of its step."""
START_UP = 4
"""Implicit half steps before Crank-Nicolson."""


def probability(model: Model, *, spacing: float = 0.02, interval: float = 0.02, discrete: bool = True) -> float:
    """P(B is reached within the horizon) from the model's start.

    Args:
        model: The dynamics and the event.
        spacing: Width of a cell.
        interval: Time step of the solver, rounded so that the horizon is a multiple of it.
        discrete: Whether B is looked for at multiples of ``model.time_step`` only, as the driver does.
    """
    seen = with_observed_target(model) if discrete else model
    x, y = (_axis(low, high, spacing) for low, high in model.landscape.box)
    generator = _generator(seen, x, y)
    grid_x, grid_y = np.meshgrid(x, y, indexing="ij")
    target = seen.in_target(grid_x, grid_y)
    solution = _evolve(generator, target.ravel(), model.horizon, interval).reshape(target.shape)
    spline = scipy.interpolate.RectBivariateSpline(x, y, solution)
    return float(spline(*model.start)[0, 0])


def with_observed_target(model: Model) -> Model:
    """The model with the target that a continuous trajectory must reach to be seen in B in time."""
    overshoot = OVERSHOOT * math.sqrt(2.0 * model.time_step / model.inverse_temperature)
    return dataclasses.replace(model, target_radius=model.target_radius - overshoot)


def _axis(low: float, high: float, spacing: float) -> NDArray[np.float64]:
    return np.linspace(low, high, round((high - low) / spacing) + 1)


def _bernoulli(z: NDArray[np.float64]) -> NDArray[np.float64]:
    """Z / (exp(z) - 1), also at 0."""
    safe = np.where(np.abs(z) < 1e-8, 1.0, z)
    return np.where(np.abs(z) < 1e-8, 1.0 - 0.5 * z, safe / np.expm1(safe))


def _generator(model: Model, x: NDArray[np.float64], y: NDArray[np.float64]) -> Any:
    """The jump process's generator, a sparse matrix: rate from each cell to its four neighbours."""
    beta, value = model.inverse_temperature, model.landscape.value
    points = np.stack([grid.ravel() for grid in np.meshgrid(x, y, indexing="ij")])
    here, there = _links(len(x), len(y))
    fraction = _fraction_outside(model, points[:, here], points[:, there])
    # A jump into B ends on B's edge, nearer than the next cell, which makes it more frequent.
    end = points[:, here] + fraction * (points[:, there] - points[:, here])
    rise = beta * (value(*end) - value(*points[:, here]))
    spacing = np.abs(points[:, there] - points[:, here]).sum(axis=0)
    rates = _bernoulli(rise) / (beta * spacing**2 * fraction)
    jumps = scipy.sparse.csr_array((rates, (here, there)), (points.shape[1],) * 2)
    return (jumps - scipy.sparse.diags_array(jumps.sum(axis=1))).tocsr()


def _links(columns: int, rows: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """All pairs of neighbouring cells, in both directions."""
    cells = np.arange(columns * rows).reshape(columns, rows)
    lower = np.concatenate([cells[:-1].ravel(), cells[:, :-1].ravel()])
    upper = np.concatenate([cells[1:].ravel(), cells[:, 1:].ravel()])
    return np.concatenate([lower, upper]), np.concatenate([upper, lower])


def _fraction_outside(model: Model, here: NDArray[np.float64], there: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much of each link lies outside of B: 1, or less where it leads into B (by bisection).

    Without this B would be a staircase of cells, and the error of first order in the spacing
    (Gibou, Fedkiw, Cheng & Kang, J. Comput. Phys. 176, 205, 2002).
    """
    fraction = np.ones(here.shape[1])
    cut = ~model.in_target(*here) & model.in_target(*there)
    start, step = here[:, cut], (there - here)[:, cut]
    low, high = np.zeros(cut.sum()), np.ones(cut.sum())
    for _ in range(40):
        middle = 0.5 * (low + high)
        inside = model.in_target(*(start + middle * step))
        low, high = np.where(inside, low, middle), np.where(inside, middle, high)
    fraction[cut] = np.maximum(high, 1e-6)
    return fraction


def _evolve(generator: Any, target: NDArray[np.bool_], horizon: float, interval: float) -> NDArray[np.float64]:
    """Solve u' = G u outside of the target, where u = 1 on it, from u = 0 to the horizon."""
    free = np.flatnonzero(~target)
    inner = generator[free][:, free].tocsc()
    source = np.asarray(generator[free][:, np.flatnonzero(target)].sum(axis=1)).ravel()
    steps = math.ceil(horizon / interval)
    half = 0.5 * horizon / steps
    one = scipy.sparse.eye_array(len(free), format="csc")
    # Implicit Euler over half a step and Crank-Nicolson over a whole one invert the same matrix.
    solver = scipy.sparse.linalg.splu((one - half * inner).tocsc())
    u = np.zeros(len(free))
    for _ in range(START_UP):
        u = solver.solve(u + half * source)
    for _ in range(steps - START_UP // 2):
        u = solver.solve(u + half * (inner @ u) + 2.0 * half * source)
    solution = np.ones(len(target))
    solution[free] = u
    return solution


def main(case: Path) -> None:
    """Print the reference of a case file on two grids, so that its accuracy can be seen."""
    with case.open("rb") as file:
        model = Options.from_mapping(tomllib.load(file)["driver"].get("options", {})).model
    for spacing in (0.04, 0.02):
        print(f"spacing {spacing}: P = {probability(model, spacing=spacing, interval=spacing):.5e}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

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

@CONVERGENCE@

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
import scipy.interpolate
import scipy.sparse
import scipy.sparse.linalg

from double_well.options import Options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from double_well.model import Model

OVERSHOOT = 0.5826
"""-zeta(1/2) / sqrt(2 pi), the mean overshoot of a Gaussian random walk in units of its step."""
START_UP = 4
"""Implicit half steps before Crank-Nicolson."""


def probability(
    model: Model, *, spacing: float = 0.02, interval: float = 0.02, discrete: bool = True
) -> float:
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
    """z / (exp(z) - 1), also at 0."""
    safe = np.where(np.abs(z) < 1e-8, 1.0, z)
    return np.where(np.abs(z) < 1e-8, 1.0 - 0.5 * z, safe / np.expm1(safe))


def _generator(model: Model, x: NDArray[np.float64], y: NDArray[np.float64]) -> Any:
    """The jump process's generator, a sparse matrix: rate from each cell to its four neighbours."""
    beta = model.inverse_temperature
    energy = beta * model.landscape.value(x[:, None], y[None, :])
    cells = np.arange(energy.size).reshape(energy.shape)
    rows, columns, rates = [], [], []
    for axis, points in enumerate((x, y)):
        spacing = float(points[1] - points[0])
        lower, upper = (np.take(cells, s, axis).ravel() for s in _neighbours(len(points)))
        rise = energy.ravel()[upper] - energy.ravel()[lower]
        rows += [lower, upper]
        columns += [upper, lower]
        rates += [_bernoulli(z) / (beta * spacing**2) for z in (rise, -rise)]
    shape = (energy.size, energy.size)
    jumps = scipy.sparse.csr_array((np.concatenate(rates), (np.concatenate(rows), np.concatenate(columns))), shape)
    return (jumps - scipy.sparse.diags_array(jumps.sum(axis=1))).tocsr()


def _neighbours(length: int) -> Sequence[NDArray[np.intp]]:
    return np.arange(length - 1), np.arange(1, length)


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

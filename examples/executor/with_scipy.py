"""A global optimum with SciPy: its ``workers`` takes whatever has the shape of ``map``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scipy.optimize import differential_evolution

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gutscore_rs.manager import ResourceManager


def rastrigin(point: Sequence[float]) -> float:
    """A function with a local minimum at each whole number; the lowest, 0, is at the origin (Rastrigin 1974)."""
    return 10 * len(point) + sum(x * x - 10 * math.cos(2 * math.pi * x) for x in point)


def main(manager: ResourceManager, options: Mapping[str, Any], _output: Path) -> dict[str, Any]:
    """Find the minimum; where it is, and how many generations that took."""
    dimensions, generations = int(options.get("dimensions", 4)), 0

    def tell(_best: Any, convergence: float) -> None:
        nonlocal generations
        generations += 1
        if generations % 20 == 0:
            manager.progress(f"generation {generations}: convergence {convergence:.3f}")

    with manager.executor() as executor:
        found = differential_evolution(
            rastrigin,
            [(-5.12, 5.12)] * dimensions,
            # A whole generation at once ("deferred"), so that its points are tasks side by side.
            workers=executor.map,
            updating="deferred",
            rng=int(options.get("seed", 2026)),
            callback=tell,
        )
    return {"minimum": float(found.fun), "at": [round(float(x), 6) for x in found.x], "evaluations": int(found.nfev)}

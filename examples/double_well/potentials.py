"""The potentials V(x, y), dimensionless, with their wells.

The double well is the usual test of splitting methods (for TAMS: Wang, Castellana & Dijkstra,
Nonlin. Processes Geophys. 28, 135, 2021, use the same kind); the triple well is eq. (3-hole
potential) of Metzner, Schuette & Vanden-Eijnden, J. Chem. Phys. 125, 084110, 2006.
Well A, where trajectories start, is the left one; well B, the target, the right one.
"""

from __future__ import annotations

import math
from typing import Any, Final, Protocol

import numpy as np


class Potential(Protocol):
    """A potential of two variables and where its wells are."""

    well_a: tuple[float, float]
    well_b: tuple[float, float]
    box: tuple[tuple[float, float], tuple[float, float]]
    """x and y ranges outside of which a trajectory is never seen (the grid and the plot end there)."""

    def value(self, x: Any, y: Any) -> Any:
        """V, for numbers or arrays."""

    def force(self, x: Any, y: Any, exp: Any = math.exp) -> tuple[Any, Any]:
        """-grad V; for arrays pass ``exp=numpy.exp`` (math.exp is several times faster for numbers)."""


class DoubleWell:
    """V = x^4/4 - x^2/2 + y^2: minima at (-1, 0) and (1, 0), barrier 1/4 at the origin."""

    well_a = (-1.0, 0.0)
    well_b = (1.0, 0.0)
    box = ((-2.0, 2.0), (-1.2, 1.2))

    def value(self, x: Any, y: Any) -> Any:
        """V, for numbers or arrays."""
        return 0.25 * x**4 - 0.5 * x**2 + y**2

    def force(self, x: Any, y: Any, exp: Any = math.exp) -> tuple[Any, Any]:  # noqa: ARG002
        """-grad V."""
        return x - x * x * x, -2.0 * y


class TripleWell:
    """Two deep wells, joined by a direct channel (barrier 2.3) and one through a shallow third well."""

    well_a = (-1.05, -0.04)
    well_b = (1.05, -0.04)
    box = ((-2.2, 2.2), (-1.6, 2.6))

    def value(self, x: Any, y: Any) -> Any:
        """V, for numbers or arrays."""
        third = y - 1 / 3
        return (
            3.0 * np.exp(-(x**2) - third**2)
            - 3.0 * np.exp(-(x**2) - (y - 5 / 3) ** 2)
            - 5.0 * np.exp(-((x - 1.0) ** 2) - y**2)
            - 5.0 * np.exp(-((x + 1.0) ** 2) - y**2)
            + 0.2 * x**4
            + 0.2 * third**4
        )

    def force(self, x: Any, y: Any, exp: Any = math.exp) -> tuple[Any, Any]:
        """-grad V."""
        third, upper = y - 1 / 3, y - 5 / 3
        hill = 6.0 * exp(-x * x - third * third)
        hole = -6.0 * exp(-x * x - upper * upper)
        right = -10.0 * exp(-(x - 1.0) * (x - 1.0) - y * y)
        left = -10.0 * exp(-(x + 1.0) * (x + 1.0) - y * y)
        force_x = x * (hill + hole) + (x - 1.0) * right + (x + 1.0) * left - 0.8 * x * x * x
        force_y = third * hill + upper * hole + y * (right + left) - 0.8 * third * third * third
        return force_x, force_y


POTENTIALS: Final[dict[str, Potential]] = {"double_well": DoubleWell(), "triple_well": TripleWell()}

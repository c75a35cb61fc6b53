"""Overdamped Langevin dynamics dX = -grad V(X) dt + sqrt(2 / beta) dW, its target B and its score.

Everything is dimensionless. A trajectory starts in well A and ends when it is *seen* in B, at a
multiple of the time step, or at the horizon. B is the closed disc of ``target_radius`` around the
right well; the reference (:mod:`double_well.reference`) uses the same :meth:`Model.in_target`.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from double_well.potentials import POTENTIALS, Potential

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

ALMOST_ONE = float(np.nextafter(1.0, 0.0))


@dataclass(frozen=True)
class Model:
    """The dynamics and the event: all that a worker must know to run a trajectory.

    Attributes:
        potential: A name in :data:`double_well.potentials.POTENTIALS`.
        inverse_temperature: beta; the noise has the amplitude sqrt(2 / beta).
        time_step: Of the Euler-Maruyama scheme, also the interval at which B is looked for.
        horizon: The time T within which B must be reached.
        target_radius: Of the disc B.
    """

    potential: str = "double_well"
    inverse_temperature: float = 22.0
    time_step: float = 0.005
    horizon: float = 10.0
    target_radius: float = 0.3

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Model:
        """The model that :meth:`to_plain` described."""
        return cls(**plain)

    def to_plain(self) -> dict[str, Any]:
        """Numbers and strings only, so that any serializer can carry it to a worker."""
        return asdict(self)

    @property
    def landscape(self) -> Potential:
        """The potential itself."""
        return POTENTIALS[self.potential]

    @property
    def steps(self) -> int:
        """Number of time steps until the horizon."""
        return round(self.horizon / self.time_step)

    @property
    def start(self) -> tuple[float, float]:
        """The bottom of well A."""
        return self.landscape.well_a

    def _squared_distance_to_b(self, x: Any, y: Any) -> Any:
        centre_x, centre_y = self.landscape.well_b
        return (x - centre_x) * (x - centre_x) + (y - centre_y) * (y - centre_y)

    def in_target(self, x: Any, y: Any) -> Any:
        """Whether a point (or each of many) is in B."""
        return self._squared_distance_to_b(x, y) <= self.target_radius * self.target_radius

    def score(self, x: Any, y: Any) -> Any:
        """The normalised distance a^2 / (a^2 + b^2), a and b being the distances to well A's bottom and to B.

        0 at the bottom of A, smooth outside of B, exactly 1 on B and nowhere else: a point
        outside never rounds up to 1, so that "score 1" and "in B" are one statement.
        """
        start_x, start_y = self.start
        a_squared = (x - start_x) ** 2 + (y - start_y) ** 2
        b = np.sqrt(self._squared_distance_to_b(x, y)) - self.target_radius
        outside = np.minimum(a_squared / (a_squared + b * b), ALMOST_ONE)
        return np.where(self.in_target(x, y), 1.0, outside)


def integrate(
    model: Model, position: tuple[float, float], steps: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Run one trajectory by Euler-Maruyama until it is in B or ``steps`` are done.

    Plain floats: for a single trajectory they are about ten times faster than numpy scalars.

    Returns:
        The positions *after* ``position``, shape (n, 2), n <= steps; n = 0 when it was in B already.
    """
    x, y = position
    if model.in_target(x, y):
        return np.empty((0, 2))
    force, in_target, time_step = model.landscape.force, model.in_target, model.time_step
    amplitude = math.sqrt(2.0 * time_step / model.inverse_temperature)
    path = []
    for noise_x, noise_y in (amplitude * generator.standard_normal((steps, 2))).tolist():
        force_x, force_y = force(x, y)
        x += force_x * time_step + noise_x
        y += force_y * time_step + noise_y
        path.append((x, y))
        if in_target(x, y):
            break
    return np.array(path, dtype=np.float64).reshape(-1, 2)

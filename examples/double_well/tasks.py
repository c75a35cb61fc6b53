"""What the workers run: one trajectory per task, from plain arguments to a small plain result.

The random numbers of a trajectory come from its own ``SeedSequence`` (seed, run, number), made
where the task runs. So the result depends neither on the worker nor on the order of the tasks,
and a task that is run again gives the same trajectory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from double_well.model import Model, integrate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

FLOATS = "<f8"
TRAJECTORIES, SELECTION = 0, 1
"""First word of a spawn key: what the stream is for, so that a run's choices share none with a trajectory."""


def sample(model: Mapping[str, Any], seed: Sequence[int]) -> dict[str, Any]:
    """A trajectory from the bottom of well A.

    Args:
        model: As :meth:`Model.to_plain` gives it.
        seed: The seed of the case, the number of the run and the trajectory's own number in it.

    Returns:
        ``{"positions": bytes}``: the positions after the first, x and y by turns, as
        little-endian float64 (16 bytes a step: 32 kB for the 2000 steps of ``case.toml``).
    """
    described = Model.from_plain(model)
    return branch(model, seed, 0, described.start)


def branch(model: Mapping[str, Any], seed: Sequence[int], step: int, position: Sequence[float]) -> dict[str, Any]:
    """A trajectory that goes on from another one's position at ``step``, with its own noise.

    Returns:
        As :func:`sample`; nothing but the new part. Empty when ``position`` is in B.
    """
    described = Model.from_plain(model)
    case_seed, run, number = seed
    sequence = np.random.SeedSequence(case_seed, spawn_key=(TRAJECTORIES, run, number))
    x, y = position
    path = integrate(described, (x, y), described.steps - step, np.random.default_rng(sequence))
    return {"positions": path.astype(FLOATS).tobytes()}


def decode(result: Mapping[str, Any]) -> NDArray[np.float64]:
    """The positions in a task's result, shape (n, 2)."""
    return np.frombuffer(result["positions"], dtype=FLOATS).reshape(-1, 2)

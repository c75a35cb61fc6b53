"""The driver's options: what ``[driver.options]`` of a case may hold, checked before anything runs."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from double_well.model import Model
from double_well.potentials import POTENTIALS

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Options:
    """Parameters of the model (see :class:`Model`) and of the algorithm, with their defaults.

    Attributes:
        trajectories: N, trajectories per run.
        discard: k, how many of the worst an iteration discards at least (their replacements run in parallel).
        repetitions: Independent runs, from which the confidence interval comes.
        max_iterations: A run stops there, with a valid though noisier estimate.
        seed: Of everything random; the same seed gives the same estimate.
        reference: A known value of the probability, drawn in the plot; 0 = none.
    """

    potential: str = "double_well"
    inverse_temperature: float = 22.0
    time_step: float = 0.005
    horizon: float = 10.0
    target_radius: float = 0.3
    trajectories: int = 16
    discard: int = 4
    repetitions: int = 10
    max_iterations: int = 200
    seed: int = 2026
    reference: float = 0.0

    @classmethod
    def from_mapping(cls, given: Mapping[str, Any]) -> Options:
        """Check and complete what a case gives.

        Raises:
            ValueError: For an unknown option (with the nearest known name) or a bad value; names the option.
        """
        known = {field.name: field.default for field in fields(cls)}
        for name in given:
            if name not in known:
                raise ValueError(f"unknown option {name!r}{_suggestion(name, known)}; known: {', '.join(known)}")
        options = cls(**{name: _typed(name, given.get(name, default), default) for name, default in known.items()})
        options._check()
        return options

    @property
    def model(self) -> Model:
        """The part that the workers need."""
        return Model(**{field.name: getattr(self, field.name) for field in fields(Model)})

    def _check(self) -> None:
        _require(self.potential in POTENTIALS, "potential", self.potential, f"one of {', '.join(POTENTIALS)}")
        for name in ("inverse_temperature", "time_step", "horizon", "target_radius"):
            value = getattr(self, name)
            _require(math.isfinite(value) and value > 0, name, value, "a finite number above 0")
        steps = self.horizon / self.time_step
        whole = steps >= 0.5 and abs(steps - round(steps)) < 1e-6 * steps
        _require(whole, "horizon", self.horizon, f"a multiple of time_step = {self.time_step}")
        _require(
            round(steps) <= 50_000,
            "time_step",
            self.time_step,
            "at least horizon / 50000 (a result is < 1 MB)",
        )
        separate = not self.model.in_target(*self.model.start)
        _require(separate, "target_radius", self.target_radius, "smaller than the distance between the wells")
        _require(self.trajectories >= 2, "trajectories", self.trajectories, "at least 2")
        _require(1 <= self.discard < self.trajectories, "discard", self.discard, "from 1 to trajectories - 1")
        _require(self.repetitions >= 2, "repetitions", self.repetitions, "at least 2: one run has no error bar")
        _require(self.max_iterations >= 1, "max_iterations", self.max_iterations, "at least 1")
        _require(self.seed >= 0, "seed", self.seed, "0 or more")
        _require(0.0 <= self.reference <= 1.0, "reference", self.reference, "a probability, or 0 for none")


def _suggestion(name: str, known: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _typed(name: str, value: Any, default: Any) -> Any:
    """``value`` as the type of ``default``; an integer may stand for a number, nothing else for anything."""
    wanted = type(default)
    fits = isinstance(value, (int, float) if wanted is float else wanted) and not isinstance(value, bool)
    noun = {str: "a text", int: "a whole number", float: "a number"}[wanted]
    _require(fits, name, value, noun)
    return wanted(value)


def _require(condition: Any, name: str, value: Any, allowed: str) -> None:
    if not condition:
        raise ValueError(f"option {name} = {value!r}: must be {allowed}")

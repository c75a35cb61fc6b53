"""One run of TAMS as a state machine: it says what to simulate and is told the results.

TAMS is adaptive multilevel splitting of trajectories of fixed length: Lestang, Ragone, Brehier,
Herbert & Bouchet, J. Stat. Mech. 2018, 043213; adaptive multilevel splitting itself: Cerou &
Guyader, Stoch. Anal. Appl. 25, 417, 2007. How ties, several discarded at once and discrete time
are treated so that the estimate has no bias: Brehier, Gazeau, Goudenege, Lelievre & Rousset,
Ann. Appl. Probab. 26, 3559, 2016 ("generalized AMS").

- The *level* of an iteration is the k-th smallest of the N maximal scores. Every trajectory
  whose maximum is **at most** the level is discarded (with ties more than k), and the weight is
  multiplied by 1 - discarded / N.
- Each discarded one is replaced by a copy of a uniformly drawn survivor up to the first step at
  which its score is **strictly above** the level, and new noise from there on.
- It ends when the level is 1 (fewer than k are not in B), when nobody survives (estimate 0) or
  after ``max_iterations``. Each is a stopping time, so weight x (fraction in B) is unbiased.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from double_well.tasks import SELECTION

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from double_well.model import Model


@dataclass(frozen=True)
class Request:
    """A trajectory to simulate for slot ``slot``: its number, and where it goes on from."""

    slot: int
    number: int
    step: int
    position: tuple[float, float]


class Run:
    """One independent run with N slots; deterministic in (seed, number of the run).

    Random choices are made only when an iteration is complete, in the order of the slots, so
    that the order in which its trajectories arrive does not matter.
    """

    def __init__(
        self, model: Model, *, trajectories: int, discard: int, max_iterations: int, seed: int, number: int
    ) -> None:
        self._model = model
        self._discard = discard
        self._max_iterations = max_iterations
        self._generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(SELECTION, number)))
        self._prefixes: list[NDArray[np.float64]] = [np.array([model.start])] * trajectories
        self._waiting: set[int] = set()
        self.paths: list[NDArray[np.float64]] = [np.empty((0, 2))] * trajectories
        self.scores: list[NDArray[np.float64]] = [np.empty(0)] * trajectories
        self.number = number
        self.simulated = 0
        self.iterations = 0
        self.weight = 1.0
        self.levels: list[float] = []
        self.weights: list[float] = []
        self.finished = False

    @property
    def probability(self) -> float:
        """The estimate: the weight times the fraction of trajectories that are in B."""
        return self.weight * float(np.mean(self._maxima() >= 1.0))

    def start(self) -> list[Request]:
        """The first N trajectories, all from the start."""
        return [self._request(slot, 0) for slot in range(len(self.paths))]

    def receive(self, slot: int, positions: NDArray[np.float64]) -> list[Request]:
        """Take a simulated trajectory; when it completes the iteration, say what to simulate next."""
        path = np.concatenate([self._prefixes[slot], positions])
        self.paths[slot] = path
        self.scores[slot] = self._model.score(path[:, 0], path[:, 1])
        self._waiting.remove(slot)
        return [] if self._waiting else self._split()

    def _maxima(self) -> NDArray[np.float64]:
        return np.array([scores.max(initial=0.0) for scores in self.scores])

    def _request(self, slot: int, step: int) -> Request:
        x, y = self._prefixes[slot][-1].tolist()
        request = Request(slot, self.simulated, step, (x, y))
        self._waiting.add(slot)
        self.simulated += 1
        return request

    def _split(self) -> list[Request]:
        maxima = self._maxima()
        level = float(np.sort(maxima)[self._discard - 1])
        if level >= 1.0 or self.iterations >= self._max_iterations:
            self.finished = True
            return []
        lost = np.flatnonzero(maxima <= level)
        survivors = np.flatnonzero(maxima > level)
        self.iterations += 1
        self.weight *= len(survivors) / len(maxima)
        self.levels.append(level)
        self.weights.append(self.weight)
        if not len(survivors):
            self.finished = True
            return []
        parents = self._generator.choice(survivors, size=len(lost))
        return [self._branch(int(slot), int(parent), level) for slot, parent in zip(lost, parents, strict=True)]

    def _branch(self, slot: int, parent: int, level: float) -> Request:
        step = int(np.argmax(self.scores[parent] > level))
        self._prefixes[slot] = self.paths[parent][: step + 1]
        return self._request(slot, step)

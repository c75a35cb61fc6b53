"""joblib on the workers of a case: a backend over an executor, and a program that uses it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

from joblib import Parallel, delayed, parallel_config, register_parallel_backend
from joblib.parallel import ParallelBackendBase

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import Future

    from gutscore_rs import Executor
    from gutscore_rs.manager import ResourceManager


class CaseBackend(ParallelBackendBase):  # type: ignore[misc]
    """Hands joblib's batches to an executor."""

    supports_retrieve_callback = True

    def __init__(self, executor: Executor, workers: int, **options: Any) -> None:
        super().__init__(**options)
        self._executor, self._workers = executor, workers

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """All workers of the case, unless fewer are asked for."""
        return self._workers if n_jobs is None or n_jobs < 0 else min(n_jobs, self._workers)

    def submit(self, func: Callable[[], Any], callback: Callable[[Future[Any]], None] | None = None) -> Future[Any]:
        """Submit a batch; ``callback`` is told when it is done."""
        future = self._executor.submit(func)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, future: Future[Any]) -> Any:
        """What the batch returned, or raised."""
        return future.result()


def hits(samples: int, seed: int) -> int:
    """How many random points of the unit square lie in the quarter circle."""
    draw = random.Random(seed).random
    return sum(draw() ** 2 + draw() ** 2 < 1 for _ in range(samples))


def main(manager: ResourceManager, options: Mapping[str, Any], _output: Path) -> dict[str, Any]:
    """Estimate pi."""
    repetitions, samples = int(options.get("repetitions", 40)), int(options.get("samples", 20000))
    with manager.executor() as executor:
        register_parallel_backend("gutscore_rs", lambda **given: CaseBackend(executor, manager.count(), **given))
        with parallel_config(backend="gutscore_rs", n_jobs=-1):
            results = Parallel(return_as="generator_unordered")(
                delayed(hits)(samples, seed) for seed in range(repetitions)
            )
            inside = 0
            for number, one in enumerate(results, 1):
                inside += one
                if number % 10 == 0:
                    estimate = 4 * inside / number / samples
                    manager.progress(f"{number} of {repetitions} repetitions: pi is about {estimate:.4f}")
    return {"pi": 4 * inside / repetitions / samples, "repetitions": repetitions}

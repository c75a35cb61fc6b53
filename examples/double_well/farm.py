"""Keeps trajectories of all runs in flight on the workers, and hands each result to its run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from double_well.tasks import branch, decode, sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from double_well.model import Model
    from double_well.splitting import Request, Run

RETRIES = 2


class Result(Protocol):
    """The part of ``rq.results.Result`` used here."""

    exc_string: str | None


class Job(Protocol):
    """The part of ``rq.job.Job`` used here."""

    @property
    def id(self) -> str:
        """Names the job; as_completed may yield another object with the same id."""

    @property
    def is_failed(self) -> bool:
        """Whether the job ended with an error."""

    def return_value(self) -> Any:
        """What the task returned; None if that has expired."""

    def latest_result(self) -> Result | None:
        """Of the last execution."""


class Manager(Protocol):
    """The part of ``gutscore_rs.ResourceManager`` that this driver uses."""

    def enqueue(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Job:
        """Put a call on the case's task queue."""

    def as_completed(self, jobs: Iterable[Any], timeout: float | None = None) -> Iterator[Any]:
        """Yield each job once, when it has finished or failed."""

    def progress(self, text: str) -> None:
        """Show a line to the user."""


@dataclass(frozen=True)
class _Flight:
    """A task that is on its way."""

    job: Job
    run: Run
    request: Request
    attempt: int


class Farm:
    """The tasks of several runs side by side on the same workers.

    A run that waits for its last trajectory leaves no worker idle as long as others have work.
    """

    def __init__(self, manager: Manager, model: Model, seed: int) -> None:
        self._manager = manager
        self._model = model.to_plain()
        self._seed = seed
        self._flights: dict[str, _Flight] = {}
        self.tasks = 0
        self.failed = 0

    def work(self, runs: Iterable[Run], on_progress: Callable[[], None]) -> None:
        """Bring all runs to their end.

        Raises:
            RuntimeError: If a task failed 1 + RETRIES times, or no task comes back any more.
        """
        for run in runs:
            self._submit(run, run.start())
        while self._flights:
            # What is enqueued while this generation is collected is at once taken by the workers
            # and collected in the next one: a single pass over many jobs costs the manager least.
            waiting = len(self._flights)
            for job in self._manager.as_completed([flight.job for flight in self._flights.values()]):
                waiting -= 1
                self._land(job)
            if waiting:
                raise RuntimeError(f"{waiting} tasks did not come back; look at the workers' logs, then run again")
            on_progress()

    def _submit(self, run: Run, requests: Iterable[Request], attempt: int = 1) -> None:
        for request in requests:
            seed = [self._seed, run.number, request.number]
            if request.step == 0:
                job = self._manager.enqueue(sample, self._model, seed)
            else:
                job = self._manager.enqueue(branch, self._model, seed, request.step, list(request.position))
            self.tasks += 1
            self._flights[job.id] = _Flight(job, run, request, attempt)

    def _land(self, job: Job) -> None:
        flight = self._flights.pop(job.id)
        result = None if job.is_failed else job.return_value()
        if result is not None:
            self._submit(flight.run, flight.run.receive(flight.request.slot, decode(result)))
            return
        self.failed += 1
        if flight.attempt > RETRIES:
            raise RuntimeError(
                f"trajectory {flight.request.number} of run {flight.run.number} failed {flight.attempt} "
                f"times (job {job.id}); its last error:\n{_error_text(job)}"
            )
        self._submit(flight.run, [flight.request], flight.attempt + 1)


def _error_text(job: Job) -> str:
    latest = job.latest_result()
    return (latest and latest.exc_string) or "no error text: the worker was lost, or the result has expired"

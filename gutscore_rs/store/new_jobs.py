"""RQ jobs on their way into a queue, many at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gutscore_rs.store.claims import DEFAULT_TIMEOUT
from gutscore_rs.store.jobs import rq_time
from gutscore_rs.store.keys import RqKeys
from gutscore_rs.store.scripts import Argument, Scripts

MOST_JOBS, MOST_BYTES = 500, 4 << 20


@dataclass(frozen=True, slots=True)
class NewJob:
    """A plain RQ job to be enqueued.

    Attributes:
        data: The call, as RQ writes it.
        description: For people.
        timeout: Seconds that it may run, -1 for ever; None: RQ's default.
        result_ttl: Seconds to keep its result; None: RQ's default.
        time_request: Seconds that it takes, as its enqueuer says; None: not known.
    """

    job_id: str
    data: bytes
    description: str
    timeout: int | None = None
    result_ttl: int | None = None
    time_request: int | None = None


class NewJobs:
    """Enqueues jobs."""

    def __init__(self, scripts: Scripts, keys: RqKeys) -> None:
        self._scripts = scripts
        self._keys = keys

    def enqueue(self, queue: str, jobs: Sequence[NewJob]) -> None:
        """Enqueue jobs, each once: those that a lost reply left in doubt are sent again and change nothing.

        Args:
            queue: Full name of the queue.
            jobs: What to enqueue, in this order.

        Raises:
            StoreError: Some, from one on, are not enqueued as far as is known.
        """
        keys = [self._keys.queue(queue), self._keys.queues]
        for part in _parts(jobs):
            arguments: list[Argument] = [queue, self._keys.prefix, rq_time()]
            for job in part:
                arguments += (
                    job.job_id,
                    job.data,
                    job.description,
                    DEFAULT_TIMEOUT if job.timeout is None else job.timeout,
                    "" if job.result_ttl is None else job.result_ttl,
                    "" if job.time_request is None else job.time_request,
                )
            self._scripts.run("enqueue_jobs", keys, arguments)


def _parts(jobs: Sequence[NewJob]) -> Iterator[Sequence[NewJob]]:
    part: list[NewJob] = []
    size = 0
    for job in jobs:
        if part and (len(part) == MOST_JOBS or size + len(job.data) > MOST_BYTES):
            yield part
            part, size = [], 0
        part.append(job)
        size += len(job.data)
    if part:
        yield part

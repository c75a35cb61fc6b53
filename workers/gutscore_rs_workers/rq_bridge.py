"""Everything of RQ's inside that we rely on, in one place (rq >= 3.0, < 4).

``tests/system/test_rq_internals.py`` says which of these moved when RQ changes:
``Job.restore/perform/timeout/get_result_ttl/should_retry``, ``Execution(id, job_id, connection, worker_name)``,
``BaseWorker._finalize_success/_finalize_failure/handle_job_failure``, ``UnixSignalDeathPenalty``,
``execute_failure_callback``, ``ScheduledJobRegistry``.
"""

from __future__ import annotations

import logging
import pickle
import sys
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

import redis
from rq.callbacks import execute_failure_callback
from rq.defaults import DEFAULT_FAILURE_TTL, DEFAULT_RESULT_TTL
from rq.exceptions import NoSuchJobError
from rq.executions import Execution
from rq.job import Job, JobStatus, Retry
from rq.queue import Queue
from rq.registry import ScheduledJobRegistry
from rq.scheduler import RQScheduler
from rq.timeouts import JobTimeoutException, UnixSignalDeathPenalty
from rq.worker import SimpleWorker

from gutscore_rs.errors import WorkerLostError
from gutscore_rs.store import Claim
from gutscore_rs.store.connection import sent_once

__all__ = [
    "DEFAULT_FAILURE_TTL",
    "ExcInfo",
    "JobBooks",
    "exception_info",
    "move_due_jobs",
    "result_ttl",
    "wants_another_run",
]

log = logging.getLogger(__name__)

__all__ = [
    "DEFAULT_FAILURE_TTL",
    "JobBooks",
    "SealedSerializer",
    "exception_info",
    "move_due_jobs",
    "result_ttl",
    "wants_another_run",
]

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]


class SealedSerializer:
    """Writes as RQ does and never reads: for processes that must not unpickle what users put into Redis.

    RQ keeps a job's data and meta as they are when they cannot be read (``Job.restore``).
    """

    def dumps(self, obj: Any) -> bytes:
        """As RQ's default serializer."""
        return pickle.dumps(obj, protocol=pickle.HIGHEST_PROTOCOL)

    def loads(self, data: bytes) -> Any:
        """Refuse."""
        raise ValueError(f"{len(data)} bytes stay sealed in this process")


class JobBooks(SimpleWorker):
    """RQ's own book-keeping for one worker, without its loop, its beats and its registration.

    Args:
        name: The worker's RQ name.
        connection: A connection of this process.
        sealed: Neither unpickle anything nor call anything that a job names.
    """

    log_result_lifespan = False

    def __init__(self, name: str, connection: redis.Redis, *, sealed: bool = False) -> None:
        super().__init__(
            [],
            name=name,
            connection=connection,
            prepare_for_work=False,
            log_job_description=False,
            serializer=SealedSerializer() if sealed else None,
        )
        self._sealed = sealed

    def job_of(self, claim: Claim) -> Job:
        """The claimed job as an RQ object. Unpickles its meta: only in processes that run tasks anyway."""
        job = Job(claim.job_id, connection=self.connection, serializer=self.serializer)
        job.restore(dict(claim.fields))
        job.started_at = datetime.fromtimestamp(claim.started_at, UTC)
        job.worker_name = self.name
        return job

    def perform(self, job: Job) -> Any:
        """Run the job's function within its timeout; whatever it raises comes out."""
        timeout = job.timeout or Queue.DEFAULT_TIMEOUT
        if timeout < 0:
            return job.perform()
        with UnixSignalDeathPenalty(timeout, JobTimeoutException, job_id=job.id):
            return job.perform()

    def succeeded(self, claim: Claim, job: Job, value: Any) -> None:
        """Book a good end by RQ's code: callbacks, dependents, repeats, groups, webhooks, ``Retry`` results."""
        with sent_once(self.connection):
            self._finalize_success(job, self._queue(claim.queue), self._execution(claim.job_id, claim.execution), value)

    def failed(self, claim: Claim, job: Job, exc_info: ExcInfo) -> None:
        """Book an exception by RQ's code: retries, failure callback, dependents, webhooks."""
        with sent_once(self.connection):
            execution = self._execution(claim.job_id, claim.execution)
            self._finalize_failure(job, self._queue(claim.queue), execution, exc_info)

    def lost(self, job_id: str, execution: str, queue_name: str, reason: str) -> bool:
        """Book a job whose worker died in the middle: retried if it may be, else failed with the reason.

        Returns:
            False when the job does not exist any more.
        """
        try:
            job = Job.fetch(job_id, connection=self.connection, serializer=self.serializer)
        except NoSuchJobError:
            return False
        error = WorkerLostError(reason)
        job.ended_at = datetime.now(UTC)
        job._status = JobStatus.FAILED  # noqa: SLF001 - as RQ's _finalize_failure; callbacks see it
        if not job.should_retry and not self._sealed:
            try:
                execute_failure_callback(job, UnixSignalDeathPenalty, WorkerLostError, error, None)
            except Exception:
                log.exception("the failure callback of job %s failed", job_id)
        with sent_once(self.connection):
            self.handle_job_failure(
                job,
                self._queue(queue_name),
                exc_string=f"{WorkerLostError.__name__}: {reason}",
                execution=self._execution(job_id, execution),
            )
        return True

    def _queue(self, name: str) -> Queue:
        return Queue(name, connection=self.connection, serializer=self.serializer)

    def _execution(self, job_id: str, execution: str) -> Execution:
        return Execution(execution, job_id, self.connection, worker_name=self.name)


def result_ttl(job: Job) -> int:
    """Seconds to keep the job's result, -1 for ever."""
    return int(job.get_result_ttl(DEFAULT_RESULT_TTL))


def wants_another_run(value: Any) -> bool:
    """Whether a job's return value asks RQ to run it again."""
    return isinstance(value, Retry)


def exception_info() -> ExcInfo:
    """The exception that is being handled."""
    kind, value, trace = sys.exc_info()
    assert kind is not None and value is not None  # noqa: S101, PT018 - only called in an except block
    return kind, value, trace


def move_due_jobs(queue_names: list[str], connection: redis.Redis) -> None:
    """Enqueue the scheduled jobs and delayed retries that are due (RQ needs a scheduler process for it; rulings 9)."""
    scheduler = RQScheduler(queue_names, connection=connection, serializer=SealedSerializer())
    scheduler._scheduled_job_registries = [  # noqa: SLF001 - else it wants locks of its own; ours is the duty's lease
        ScheduledJobRegistry(name, connection=connection, serializer=SealedSerializer()) for name in queue_names
    ]
    scheduler.enqueue_scheduled_jobs()

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
from base64 import b64decode
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

import redis
from rq.callbacks import execute_failure_callback, execute_stopped_callback
from rq.defaults import DEFAULT_FAILURE_TTL
from rq.exceptions import NoSuchJobError
from rq.executions import Execution
from rq.job import Job, JobStatus, Retry
from rq.job import _current_job as CURRENT_JOB  # noqa: N812 - the variable behind rq.get_current_job
from rq.queue import Queue
from rq.registry import ScheduledJobRegistry
from rq.scheduler import RQScheduler
from rq.serializers import DefaultSerializer
from rq.timeouts import JobTimeoutException, UnixSignalDeathPenalty
from rq.utils import import_attribute
from rq.worker import SimpleWorker

from gutscore_rs.errors import WorkerLostError
from gutscore_rs.lazy_job import LazyJob
from gutscore_rs.store import Claim, End
from gutscore_rs.store.connection import sent_once

log = logging.getLogger(__name__)

__all__ = [
    "CURRENT_JOB",
    "DEFAULT_FAILURE_TTL",
    "DEFAULT_TIMEOUT",
    "JobBooks",
    "JobTimeoutException",
    "NoSuchJobError",
    "SealedSerializer",
    "exception_info",
    "import_attribute",
    "move_due_jobs",
    "wants_another_run",
]

DEFAULT_TIMEOUT = Queue.DEFAULT_TIMEOUT
# As RQ's own workers say it.
STOPPED = "Job stopped by user, work-horse terminated."
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
        options: Of RQ's workers: serializer, job class, exception handlers and so on.
    """

    log_result_lifespan = False

    def __init__(self, name: str, connection: redis.Redis, *, sealed: bool = False, **options: Any) -> None:
        if sealed:
            options["serializer"] = SealedSerializer()
        usual = {"prepare_for_work": False, "log_job_description": False}
        super().__init__([], name=name, connection=connection, **(usual | options))
        self._sealed = sealed

    @property
    def is_stock(self) -> bool:
        """Whether jobs are of RQ's own class, written by its own serializer, and so need not go through either."""
        return self.serializer is DefaultSerializer and self.job_class is Job

    def job_of(self, claim: Claim) -> Job:
        """The claimed job as an RQ object.

        Reading it unpickles its meta: only in processes that run tasks anyway.
        """
        if self.is_stock and claim.is_plain:
            return LazyJob(claim.job_id, self.connection)
        job: Job = self.job_class.fetch(claim.job_id, connection=self.connection, serializer=self.serializer)
        return job

    def succeeded(self, claim: Claim, job: Job, value: Any, started_at: float) -> None:
        """Book a good end by RQ's code: callbacks, dependents, repeats, groups, webhooks, ``Retry`` results.

        Args:
            claim: What was run.
            job: The same as RQ's object.
            value: What it returned.
            started_at: Seconds by the server's clock.
        """
        with sent_once(self.connection):
            execution, queue = self._begun(claim, job, started_at), self._queue(claim.queue)
            try:
                self._finalize_success(job, queue, execution, value)
            except redis.RedisError:
                raise
            except Exception:  # noqa: BLE001 - as in RQ, a success callback that raises fails its job
                self._finalize_failure(job, queue, execution, exception_info())

    def failed(self, claim: Claim, job: Job, exc_info: ExcInfo, started_at: float) -> None:
        """Book an exception by RQ's code: retries, failure callback, dependents, webhooks; see :meth:`succeeded`."""
        with sent_once(self.connection):
            execution = self._begun(claim, job, started_at)
            self._finalize_failure(job, self._queue(claim.queue), execution, exc_info)

    def ended_well(self, end: End) -> None:
        """Book a good end of which only this is left: its worker died before RQ's code could (see ``succeeded``)."""
        try:
            job = Job.fetch(end.job_id, connection=self.connection, serializer=self.serializer)
        except NoSuchJobError:
            return
        value = self.serializer.loads(b64decode(end.result)) if end.result else None
        with sent_once(self.connection):
            execution = self._execution(end.job_id, end.execution)
            job.started_at = execution.created_at = datetime.fromtimestamp(end.started_at, UTC)
            self._finalize_success(job, self._queue(end.queue), execution, value)

    def _begun(self, claim: Claim, job: Job, started_at: float) -> Execution:
        """The execution; a job of a batch began later than it was taken."""
        execution = self._execution(claim.job_id, claim.execution)
        assert job.created_at  # noqa: S101 - a claimed job is read before it is written to
        job.started_at = execution.created_at = datetime.fromtimestamp(started_at, UTC)
        return execution

    def lost(self, job_id: str, execution: str, queue_name: str, reason: str, *, stopped: bool = False) -> bool:
        """Book a job whose worker died in the middle: retried if it may be, else failed with the reason.

        Args:
            job_id: The job.
            execution: The execution that was cut.
            queue_name: Full name of its queue.
            reason: Why, for its record.
            stopped: Its user asked for it: it is stopped, not failed, and not retried.

        Returns:
            False when the job does not exist any more.
        """
        try:
            job = self.job_class.fetch(job_id, connection=self.connection, serializer=self.serializer)
        except NoSuchJobError:
            return False
        error = WorkerLostError(reason)
        job.ended_at = datetime.now(UTC)
        job._status = JobStatus.FAILED  # noqa: SLF001 - as RQ's _finalize_failure; callbacks see it
        if stopped:
            self._stopped_job_id = job_id
            if not self._sealed:
                execute_stopped_callback(job, UnixSignalDeathPenalty)
        elif not job.should_retry and not self._sealed:
            try:
                execute_failure_callback(job, UnixSignalDeathPenalty, WorkerLostError, error, None)
            except Exception:
                log.exception("the failure callback of job %s failed", job_id)
        with sent_once(self.connection):
            self.handle_job_failure(
                job,
                self._queue(queue_name),
                exc_string=STOPPED if stopped else f"{WorkerLostError.__name__}: {reason}",
                execution=self._execution(job_id, execution),
            )
        return True

    def _queue(self, name: str) -> Queue:
        return Queue(name, connection=self.connection, serializer=self.serializer)

    def _execution(self, job_id: str, execution: str) -> Execution:
        return Execution(execution, job_id, self.connection, worker_name=self.name)


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

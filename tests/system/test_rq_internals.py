"""Which of RQ's internals moved: each that we rely on, by name, with what we expect of it (workers/.../rq_bridge.py)."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import pytest
import rq
from rq import Queue, Retry, Worker
from rq.callbacks import execute_failure_callback
from rq.defaults import DEFAULT_RESULT_TTL, DEFAULT_WORKER_TTL
from rq.executions import Execution
from rq.job import Job, JobStatus
from rq.registry import FailedJobRegistry, FinishedJobRegistry, ScheduledJobRegistry, StartedJobRegistry
from rq.results import Result
from rq.scheduler import RQScheduler
from rq.suspension import WORKERS_SUSPENDED
from rq.timeouts import UnixSignalDeathPenalty
from rq.utils import utcformat
from rq.worker import SimpleWorker
from rq.worker.base import BaseWorker
from support import jobs as tasks

from gutscore_rs.store import RqKeys, Store
from gutscore_rs.store.jobs import DEFAULT_TIMEOUT, WORKER_TTL, rq_time
from gutscore_rs_workers import rq_bridge
from gutscore_rs_workers.rq_bridge import JobBooks, move_due_jobs

KEYS = RqKeys()

RELIED_ON: list[tuple[Any, str, tuple[str, ...]]] = [
    (Job, "restore", ("raw_data",)),
    (Job, "perform", ()),
    (Job, "get_result_ttl", ("default_ttl",)),
    (Job, "fetch", ("id",)),
    (Execution, "__init__", ("id", "job_id", "connection", "worker_name")),
    (BaseWorker, "_finalize_success", ("job", "queue", "execution", "return_value")),
    (BaseWorker, "_finalize_failure", ("job", "queue", "execution", "exc_info")),
    (BaseWorker, "handle_job_failure", ("job", "queue")),
    (
        SimpleWorker,
        "__init__",
        ("queues", "name", "connection", "serializer", "prepare_for_work", "log_job_description"),
    ),
    (UnixSignalDeathPenalty, "__init__", ("timeout", "exception")),
    (ScheduledJobRegistry, "__init__", ("name", "connection", "serializer")),
    (RQScheduler, "__init__", ("queues", "connection", "serializer")),
    (RQScheduler, "enqueue_scheduled_jobs", ()),
]


def moved(what: str) -> str:
    return f"rq {rq.VERSION if hasattr(rq, 'VERSION') else rq.__version__}: {what} moved; see gutscore_rs_workers/rq_bridge.py"


@pytest.mark.parametrize(
    ("owner", "name", "wanted"), RELIED_ON, ids=lambda value: getattr(value, "__name__", str(value))
)
def test_what_we_call_of_rq_takes_what_we_give(owner: Any, name: str, wanted: tuple[str, ...]) -> None:
    function = getattr(owner, name, None)
    assert callable(function), moved(f"{owner.__name__}.{name}")
    parameters = inspect.signature(function).parameters
    takes_any = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
    for parameter in wanted:
        assert takes_any or parameter in parameters, moved(f"parameter {parameter!r} of {owner.__name__}.{name}")


def test_every_internal_that_the_bridge_names_is_checked_here() -> None:
    assert rq_bridge.__doc__
    named = set(re.findall(r"[A-Z]\w+|\b_\w+|\w+_\w+", " ".join(re.findall(r"``([^`]+)``", rq_bridge.__doc__)[1:])))
    here = inspect.getsource(sys.modules[__name__])
    assert {name for name in named if name not in here} == set()


def test_properties_and_attributes_that_we_read_are_there(store: Store) -> None:
    job = Queue("q", connection=store.client).enqueue(tasks.square, 2, retry=Retry(max=1))
    for name in (
        "timeout",
        "should_retry",
        "retries_left",
        "_status",
        "started_at",
        "ended_at",
        "worker_name",
        "serializer",
    ):
        assert hasattr(job, name), moved(f"Job.{name}")
    assert job.should_retry is True
    assert hasattr(RQScheduler(["q"], connection=store.client), "_scheduled_job_registries") or hasattr(
        RQScheduler, "enqueue_scheduled_jobs"
    ), moved("RQScheduler._scheduled_job_registries")
    assert list(inspect.signature(execute_failure_callback).parameters)[:2] == ["job", "death_penalty_class"], moved(
        "execute_failure_callback"
    )


def test_constants_that_we_copied_are_rqs() -> None:
    assert DEFAULT_TIMEOUT == Queue.DEFAULT_TIMEOUT, moved("Queue.DEFAULT_TIMEOUT")
    assert WORKER_TTL == DEFAULT_WORKER_TTL + 60, moved("DEFAULT_WORKER_TTL")
    assert DEFAULT_RESULT_TTL > 0
    assert {status.value for status in JobStatus} >= {"queued", "started", "finished", "failed", "canceled", "stopped"}
    assert (Result.Type.SUCCESSFUL.value, Result.Type.FAILED.value) == (1, 2), moved("Result.Type")


@pytest.mark.parametrize("moment", [datetime(2026, 1, 2, 3, 4, 5, 678901, UTC), datetime(2026, 1, 2, tzinfo=UTC)])
def test_times_are_written_as_rq_writes_them(moment: datetime) -> None:
    assert rq_time(moment) == utcformat(moment), moved("rq.utils.utcformat")


def test_keys_are_rqs(store: Store) -> None:
    queue = Queue("q", connection=store.client)
    job = queue.enqueue(tasks.square, 1)
    worker = Worker([queue], name="w", connection=store.client)
    execution = Execution("e", job.id, store.client)
    assert {
        KEYS.queue("q"): queue.key,
        KEYS.job(job.id): job.key,
        KEYS.worker("w"): worker.key,
        KEYS.workers: Worker.redis_workers_keys,
        KEYS.started("q"): StartedJobRegistry("q", store.client).key,
        KEYS.failed("q"): FailedJobRegistry("q", store.client).key,
        KEYS.finished("q"): FinishedJobRegistry("q", store.client).key,
        KEYS.results(job.id): Result.get_key(job.id),
        KEYS.suspended: WORKERS_SUSPENDED,
        KEYS.queues: Queue.redis_queues_keys,
        f"rq:execution:{job.id}:e": execution.key,
        KEYS.queue_workers("q"): "rq:workers:q",
    } == {
        key: key
        for key in (
            queue.key,
            job.key,
            worker.key,
            Worker.redis_workers_keys,
            "rq:wip:q",
            "rq:failed:q",
            "rq:finished:q",
            f"rq:results:{job.id}",
            "rq:suspended",
            Queue.redis_queues_keys,
            f"rq:execution:{job.id}:e",
            "rq:workers:q",
        )
    }, moved("a key")


def test_a_worker_of_ours_is_read_by_rq(store: Store) -> None:
    queue = Queue(f"{store.case}:tasks", connection=store.client)
    queue.enqueue(tasks.square, 3)
    fields = {
        "birth": rq_time(),
        "pid": 77,
        "hostname": "node-1",
        "ip_address": "unknown",
        "version": "gutscore_rs",
        "python_version": "3",
        "state": "idle",
    }
    store.jobs.register_workers({"case.0.1.0.abc": fields}, [queue.name])
    claim = store.jobs.claim([queue.name], "case.0.1.0.abc")
    assert claim is not None
    [worker] = Worker.all(connection=store.client)
    assert (worker.name, worker.pid, worker.hostname, worker.get_state()) == ("case.0.1.0.abc", 77, "node-1", "busy")
    assert worker.queue_names() == [queue.name]
    assert worker.birth_date is not None
    assert [one.name for one in Worker.all(queue=queue)] == ["case.0.1.0.abc"]
    assert Worker.count(connection=store.client) == 1


def test_rq_info_shows_workers_and_queues(store: Store) -> None:
    queue = Queue(f"{store.case}:tasks", connection=store.client)
    queue.enqueue(tasks.square, 3)
    store.jobs.register_workers(
        {"our-worker": {"birth": rq_time(), "pid": 77, "hostname": "node-1", "state": "idle"}}, [queue.name]
    )
    url = f"unix://{store.client.connection_pool.connection_kwargs['path']}"
    done = subprocess.run(
        [sys.executable, "-m", "rq.cli", "info", "--url", url, "--raw"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "our-worker" in done.stdout
    assert f"{queue.name} 1" in done.stdout


def test_the_bridge_books_a_good_end_with_dependents_by_rqs_code(store: Store) -> None:
    queue = Queue(f"{store.case}:tasks", connection=store.client)
    first = queue.enqueue(tasks.square, 3)
    second = queue.enqueue(tasks.square, 4, depends_on=first)
    claim = store.jobs.claim([queue.name], "w")
    assert claim is not None
    books = JobBooks("w", store.client)
    books.succeeded(claim, books.job_of(claim), 9, claim.started_at)
    assert first.return_value() == 9
    assert second.get_status() is JobStatus.QUEUED
    assert queue.job_ids == [second.id]
    assert store.jobs.held_by("w") == []


def test_the_bridge_retries_or_fails_a_job_whose_worker_died(store: Store) -> None:
    queue = Queue(f"{store.case}:tasks", connection=store.client)
    job = queue.enqueue(tasks.square, 3, retry=Retry(max=1))
    for expected in (JobStatus.QUEUED, JobStatus.FAILED):
        claim = store.jobs.claim([queue.name], "w")
        assert claim is not None
        assert JobBooks("w", store.client).lost(job.id, claim.execution, queue.name, "killed by SIGKILL")
        assert job.get_status() is expected
        assert store.jobs.held_by("w") == []
    result = job.latest_result()
    assert result is not None
    assert "killed by SIGKILL" in result.exc_string
    assert not JobBooks("w", store.client).lost("no-such-job", "e", queue.name, "x")


def test_the_bridge_moves_jobs_that_are_due(store: Store) -> None:
    queue = Queue(f"{store.case}:tasks", connection=store.client)
    due = queue.enqueue_at(datetime(2020, 1, 1, tzinfo=UTC), tasks.square, 3)
    later = queue.enqueue_at(datetime(2100, 1, 1, tzinfo=UTC), tasks.square, 3)
    move_due_jobs([queue.name], store.client)
    assert queue.job_ids == [due.id]
    assert later.get_status() is JobStatus.SCHEDULED

"""Calls of executors on their way through Redis: enqueued in batches, taken back, and their results read."""

from __future__ import annotations

import zlib
from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import redis

from gutscore_rs.store.connection import translated
from gutscore_rs.store.jobs import rq_time
from gutscore_rs.store.keys import CaseKeys, RqKeys
from gutscore_rs.store.scripts import Argument, Scripts

NUMBER_TTL = 24 * 3600
FAILURE_TTL = 24 * 3600
# Above this many jobs in a queue, one that is taken back leaves its id there.
SHORT_QUEUE = 1000


@dataclass(frozen=True, slots=True)
class CallRecord:
    """A call to be enqueued.

    Attributes:
        data: RQ's data of its job.
        timeout: Seconds that it may run, -1 for ever.
        retries: How often it is run again when it fails or loses its worker.
        time_request: Seconds that it takes, as its submitter says; None: not known.
    """

    job_id: str
    data: bytes
    timeout: int = 180
    retries: int = 0
    time_request: int | None = None
    description: str = ""


@dataclass(frozen=True, slots=True)
class CallState:
    """How a call's job stands.

    Attributes:
        status: RQ's; empty: there is no such job (any more).
        text: Why it failed.
    """

    status: str
    text: str = ""


class Calls:
    """Calls of one case's executors."""

    def __init__(self, client: redis.Redis, scripts: Scripts, keys: CaseKeys, rq_keys: RqKeys, where: str) -> None:
        self._client = client
        self._scripts = scripts
        self._keys = keys
        self._rq = rq_keys
        self._where = where

    def submit(self, executor_id: str, number: int, queue: str, calls: Sequence[CallRecord]) -> int:
        """Enqueue calls, once for each number.

        Args:
            executor_id: Who sends them.
            number: Rises with every batch of this executor.
            queue: Full name of the task queue.
            calls: What to run.

        Returns:
            How many were enqueued; 0: they were before.
        """
        arguments: list[Argument] = [
            number,
            queue,
            self._rq.prefix,
            rq_time(),
            self._keys.replies(executor_id),
            NUMBER_TTL,
            FAILURE_TTL,
        ]
        for call in calls:
            arguments += (
                call.job_id,
                call.data,
                call.timeout,
                call.retries or "",
                "" if call.time_request is None else call.time_request,
                call.description,
            )
        keys = [self._keys.executor(executor_id), self._rq.queue(queue), self._rq.queues]
        return int(self._scripts.run("submit_calls", keys, arguments))

    def cancel(self, queue: str, job_ids: Sequence[str]) -> list[bool]:
        """Take calls back; False: a worker has it, or it is over."""
        reply = self._scripts.run("cancel_calls", [self._rq.queue(queue)], [self._rq.prefix, SHORT_QUEUE, *job_ids])
        return [bool(said) for said in reply]

    def results(
        self, executor_id: str, after: bytes, read: Sequence[bytes], seconds: float
    ) -> tuple[bytes, list[bytes], dict[str, bytes]]:
        """Wait for results, and drop those that were read.

        Args:
            executor_id: Whose.
            after: The newest entry that was seen; ``0-0`` at first.
            read: Entries that are not needed any more.
            seconds: How long to wait.

        Returns:
            The newest entry, the new entries, job id -> sealed result or ``?``.
        """
        key = self._keys.replies(executor_id)
        with translated(self._where):
            pipeline = self._client.pipeline(transaction=False)
            if read:
                pipeline.xdel(key, *read)
            pipeline.xread({key: after}, count=100, block=max(1, int(seconds * 1000)))
            reply: Any = pipeline.execute()[-1]
        streams = list(reply.values()) if isinstance(reply, dict) else [entries for _, entries in reply or []]
        found: dict[str, bytes] = {}
        entries = [entry for stream in streams for entry in stream]
        for _, fields in entries:
            for job_id, payload in (fields or {}).items():
                found[job_id.decode()] = payload
        numbers = [number for number, _ in entries]
        return (numbers[-1] if numbers else after), numbers, found

    def states(self, job_ids: Sequence[str]) -> Mapping[str, CallState]:
        """How calls stand in RQ's records."""
        with translated(self._where):
            pipeline = self._client.pipeline(transaction=False)
            for job_id in job_ids:
                pipeline.hget(self._rq.job(job_id), "status")
                pipeline.xrevrange(self._rq.results(job_id), count=1)
            replies = iter(pipeline.execute())
        return {job_id: _state(next(replies), next(replies)) for job_id in job_ids}

    def forget(self, executor_id: str) -> None:
        """An executor has ended."""
        with translated(self._where):
            self._client.delete(self._keys.executor(executor_id), self._keys.replies(executor_id))


def _state(status: bytes | None, results: Any) -> CallState:
    fields = results[0][1] if results else {}
    try:
        text = zlib.decompress(b64decode(fields.get(b"exc_string", b""))).decode(errors="replace")
    except (ValueError, zlib.error):
        text = ""
    return CallState(status.decode(errors="replace") if status else "", text)

"""Calls of executors on their way through Redis: enqueued in batches, taken back, and their results read."""

from __future__ import annotations

import zlib
from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import redis
from redis.exceptions import NoScriptError

from gutscore_rs.store.connection import translated
from gutscore_rs.store.jobs import rq_time
from gutscore_rs.store.keys import CaseKeys, RqKeys
from gutscore_rs.store.line import Line
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


class Submission:
    """Calls that are enqueued in one step; sent again, they change nothing."""

    def __init__(self, scripts: Scripts, keys: Sequence[str], arguments: Sequence[Argument]) -> None:
        self._scripts = scripts
        self._keys = keys
        self._arguments = arguments
        self._command = scripts.command("submit_calls", keys, arguments)

    def ask(self, line: Line) -> None:
        """Send them, and do not wait."""
        line.ask(self._command)

    def finish(self, line: Line) -> int:
        """Wait until they are enqueued; how many were (0: they had been before).

        Raises:
            StoreError: They are not, as far as is known.
        """
        try:
            return int(line.answers(self._command)[0])
        except NoScriptError:
            return int(self._scripts.on_line(line, "submit_calls", self._keys, self._arguments))


class Replies:
    """Results of an executor's calls, in the order in which they came.

    Args:
        line: A connection of its own.
        key: The stream.
    """

    def __init__(self, line: Line, key: str) -> None:
        self._line = line
        self._key = key
        self._newest = b"0-0"
        self._commands: list[Sequence[str | bytes | int]] = []

    def ask(self, seconds: float) -> None:
        """Wait for the next results from now on; those that were read are dropped."""
        read = ("XREAD", "BLOCK", max(1, int(seconds * 1000)), "COUNT", 100, "STREAMS", self._key, self._newest)
        self._commands = [read] if self._newest == b"0-0" else [self._trim(), read]
        self._line.ask(*self._commands)

    def _trim(self) -> Sequence[str | bytes | int]:
        milliseconds, number = self._newest.split(b"-")
        return ("XTRIM", self._key, "MINID", b"%s-%d" % (milliseconds, int(number) + 1))

    def take(self) -> dict[str, bytes]:
        """Job id -> sealed result, or ``?``; empty: none came in time.

        Raises:
            StoreError: No reply.
        """
        reply = self._line.answers(*self._commands)[-1]
        streams = list(reply.values()) if isinstance(reply, dict) else [entries for _, entries in reply or []]
        found: dict[str, bytes] = {}
        for number, fields in (entry for entries in streams for entry in entries):
            found.update((job_id.decode(), payload) for job_id, payload in zip(fields[::2], fields[1::2], strict=True))
            self._newest = number
        return found

    def close(self) -> None:
        """Drop the connection."""
        self._line.close()


class Calls:
    """Calls of one case's executors."""

    def __init__(self, client: redis.Redis, scripts: Scripts, keys: CaseKeys, rq_keys: RqKeys, where: str) -> None:
        self._client = client
        self._scripts = scripts
        self._keys = keys
        self._rq = rq_keys
        self._where = where

    def open_line(self) -> Line:
        """A connection for one thread's :meth:`submission` or :class:`Replies`."""
        return Line(self._client, self._where)

    def submission(self, executor_id: str, number: int, queue: str, calls: Sequence[CallRecord]) -> Submission:
        """Calls to be enqueued together, once for each number.

        Args:
            executor_id: Who sends them.
            number: Rises with every batch of this executor.
            queue: Full name of the task queue.
            calls: What to run.
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
        return Submission(self._scripts, keys, arguments)

    def cancel(self, queue: str, job_ids: Sequence[str]) -> list[bool]:
        """Take calls back; False: a worker has it, or it is over."""
        reply = self._scripts.run("cancel_calls", [self._rq.queue(queue)], [self._rq.prefix, SHORT_QUEUE, *job_ids])
        return [bool(said) for said in reply]

    def replies(self, executor_id: str) -> Replies:
        """An executor's results."""
        return Replies(self.open_line(), self._keys.replies(executor_id))

    def nudge(self, executor_id: str) -> None:
        """Wake who listens for an executor's results."""
        with translated(self._where):
            key = self._keys.replies(executor_id)
            pipeline = self._client.pipeline(transaction=False)
            pipeline.xadd(key, {"": ""})
            pipeline.expire(key, 3600)
            pipeline.execute()

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

"""A job that a worker has taken, and the good end of one, as ``lua/exchange.lua`` gives and takes them."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from gutscore_rs.store.records import name_of

DEFAULT_TIMEOUT = 180  # rq.Queue.DEFAULT_TIMEOUT
# In the order of FIELDS in exchange.lua.
FIELDS = (
    b"status",
    b"timeout",
    b"gs_time",
    b"ttl",
    b"data",
    b"result_ttl",
    b"success_callback_name",
    b"repeats_left",
    b"rate_limit_key",
    b"webhooks",
    b"group_id",
    b"gs_reply",
    b"retries_left",
)
_TIMEOUT, _DATA, _RESULT_TTL, _REPLY, _RETRIES = (
    3 + FIELDS.index(name) for name in (b"timeout", b"data", b"result_ttl", b"gs_reply", b"retries_left")
)
# Callbacks, repeats, rate limits, webhooks, groups: a good end of these is the business of RQ's own code.
_NOT_PLAIN = slice(3 + FIELDS.index(b"success_callback_name"), 3 + FIELDS.index(b"group_id") + 1)


class Claim:
    """A job that was taken.

    Args:
        row: What the script says of it.
        queues: Full names of the queues that were looked at.
        worker: RQ name of the worker that has it.
        started_at: Server seconds of the claim.

    Attributes:
        queue: Full name of the queue that it came from.
        execution: Names this run of the job; who holds it may finish the job.
    """

    __slots__ = ("_row", "execution", "job_id", "queue", "started_at", "worker")

    def __init__(self, row: Sequence[bytes | None], queues: Sequence[str], worker: str, started_at: float) -> None:
        self._row = row
        index, job_id, execution = row[0], row[1], row[2]
        assert index is not None and job_id is not None and execution is not None  # noqa: S101, PT018 - as the script
        self.queue = queues[int(index)]
        self.job_id = job_id.decode()
        self.execution = execution.decode()
        self.worker = worker
        self.started_at = started_at

    @property
    def fields(self) -> Mapping[bytes, bytes]:
        """What of the job's hash came with the claim."""
        return {name: value for name, value in zip(FIELDS, self._row[3:], strict=True) if value is not None}

    @property
    def data(self) -> bytes:
        """The call, as RQ writes it."""
        return self._row[_DATA] or b""

    @property
    def timeout(self) -> float:
        """Seconds that it may run; negative: for ever. Garbage counts as RQ's default, as in the script."""
        try:
            seconds = float(self._row[_TIMEOUT] or DEFAULT_TIMEOUT)
        except ValueError:
            return DEFAULT_TIMEOUT
        return seconds if math.isfinite(seconds) else DEFAULT_TIMEOUT

    @property
    def is_plain(self) -> bool:
        """Whether nothing needs RQ's own code at a good end."""
        return not any(self._row[_NOT_PLAIN])

    @property
    def reply(self) -> str:
        """The stream where somebody waits for the result; empty: it is kept as RQ does."""
        stream = self._row[_REPLY]
        return name_of(stream) if stream else ""

    @property
    def may_retry(self) -> bool:
        """Whether it is run again when it fails."""
        return (self._row[_RETRIES] or b"0") not in (b"0", b"")

    def result_ttl(self, default: int) -> int:
        """Seconds to keep its result, -1: for ever.

        Raises:
            ValueError: The record holds garbage.
        """
        own = self._row[_RESULT_TTL]
        return int(own) if own else default


class End(NamedTuple):
    """The good end of a plain job, or the end of a call whose result or error somebody waits for.

    Attributes:
        result: Serialized return value in base64, or empty for none; to a ``reply``, as it is sent.
        result_ttl: Seconds to keep it, -1 for ever.
        started_at: Seconds by the server's clock.
        reply: Stream that the result goes to; empty: it is kept as RQ does.
        wrong: Whether the result is an error.
    """

    queue: str
    job_id: str
    execution: str
    result_ttl: int
    started_at: float
    ended_at: float
    result: bytes
    reply: str = ""
    wrong: bool = False

    def arguments(self, queue_index: int) -> tuple[str | bytes | int, ...]:
        """What the script is told of it."""
        return (
            queue_index,
            self.job_id,
            self.execution,
            self.result_ttl,
            iso_time(self.started_at),
            iso_time(self.ended_at),
            f"{self.started_at:.6f}",
            self.result,
            self.reply,
            1 if self.wrong else 0,
        )


@dataclass(slots=True)
class _Second:
    number: int = -1
    text: str = ""


_second = _Second()


def iso_time(seconds: float) -> str:
    """A time as RQ 3 writes it into hashes (``rq.utils.utcformat``)."""
    whole, micros = divmod(round(seconds * 1e6), 1_000_000)
    if whole != _second.number:
        # The calendar takes longer than all the rest, and most times of a batch share a second.
        _second.text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))
        _second.number = whole
    return f"{_second.text}.{micros:06d}Z"


@dataclass(frozen=True, slots=True)
class Exchange:
    """What came of a call.

    Attributes:
        outcomes: Of each end, in order: ``ok``, ``fenced`` (it was given to another worker: nothing was written) or
            ``complex`` (RQ's own code must book it).
        claims: The jobs that were taken.
        at: Server seconds of the call.
        more: Whether the queue that was looked at last has more jobs.
    """

    outcomes: Sequence[str]
    claims: Sequence[Claim]
    at: float
    more: bool


_OUTCOMES = {ord("o"): "ok", ord("f"): "fenced", ord("c"): "complex"}


def exchange_of(reply: Sequence[bytes], queues: Sequence[str], worker: str) -> Exchange:
    """Read the script's reply."""
    at = float(reply[1])
    rows: Iterable[Sequence[bytes | None]] = reply[3:]  # type: ignore[assignment]
    claims = [Claim(row, queues, worker, at) for row in rows]
    return Exchange([_OUTCOMES[letter] for letter in reply[0]], claims, at, bool(reply[2]))

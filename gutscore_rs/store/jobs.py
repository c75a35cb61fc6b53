"""RQ jobs, as far as gutscore_rs moves them itself: claim, finish, put back, in RQ's wire format.

Whatever these do not cover (retries, dependents, callbacks, failures) is RQ's own code's business.
"""

from __future__ import annotations

import math
import secrets
import time
import zlib
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import redis

from gutscore_rs.store.connection import translated
from gutscore_rs.store.keys import RqKeys
from gutscore_rs.store.records import name_of
from gutscore_rs.store.scripts import Scripts

DEFAULT_TIMEOUT = 180  # rq.Queue.DEFAULT_TIMEOUT
WORKER_TTL = 480  # rq.defaults.DEFAULT_WORKER_TTL (420) and the minute that RQ adds


def rq_time(moment: datetime | None = None) -> str:
    """A time as RQ 3 writes it into hashes (``rq.utils.utcformat``)."""
    return (moment or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@dataclass(frozen=True, slots=True)
class Claim:
    """A job that was taken.

    Attributes:
        queue: Full name of the queue that it came from.
        execution: Names this run of the job; who holds it may finish the job.
        started_at: Server seconds of the claim.
        fields: The job's hash at the claim.
    """

    job_id: str
    queue: str
    execution: str
    worker: str
    started_at: float
    fields: Mapping[bytes, bytes]

    @property
    def timeout(self) -> float:
        """Seconds that it may run; negative: for ever. Garbage counts as RQ's default, as in the script."""
        try:
            seconds = float(self.fields.get(b"timeout") or DEFAULT_TIMEOUT)
        except ValueError:
            return DEFAULT_TIMEOUT
        return seconds if math.isfinite(seconds) else DEFAULT_TIMEOUT

    @property
    def is_plain(self) -> bool:
        """Whether nothing needs RQ's own code at a good end (callbacks, repeats, rate limits, groups ...)."""
        return not any(self.fields.get(name) for name in _NOT_PLAIN)


_NOT_PLAIN = (b"success_callback_name", b"repeats_left", b"rate_limit_key", b"webhooks", b"group_id")


# No claim has a higher number.
_LAST_CLAIM = 10**15


def _claim_number() -> int:
    """Rises with every call, in all processes of this host; microseconds, which Lua's numbers hold exactly."""
    return time.monotonic_ns() // 1000


class Jobs:
    """Claims and ends jobs on RQ's keys."""

    def __init__(self, client: redis.Redis, scripts: Scripts, where: str, keys: RqKeys | None = None) -> None:
        self._client = client
        self._scripts = scripts
        self._where = where
        self.keys = keys or RqKeys()

    def claim(self, queues: Sequence[str], worker: str, seconds: float | None = None) -> Claim | None:
        """Take the first queued job, looking at the queues in their order.

        Args:
            queues: Their full names.
            worker: Who takes it.
            seconds: What is left of the worker's time: jobs that say that they take longer stay; None: all it needs.
        """
        keys = [self.keys.worker(worker), self.keys.worker_executions(worker), self.keys.suspended]
        for queue in queues:
            keys += [self.keys.queue(queue), self.keys.started(queue)]
        reply = self._scripts.run(
            "claim_job",
            keys,
            [
                _claim_number(),
                worker,
                secrets.token_hex(16),
                rq_time(),
                DEFAULT_TIMEOUT,
                self.keys.prefix,
                "" if seconds is None else f"{seconds:.3f}",
            ],
        )
        if not reply:
            return None
        fields = dict(zip(reply[4::2], reply[5::2], strict=True))
        return Claim(reply[1].decode(), queues[int(reply[0])], reply[2].decode(), worker, float(reply[3]), fields)

    def finish(self, claim: Claim, *, result: bytes | None, result_ttl: int, worked: float) -> str:
        """Book the good end of a plain job.

        Args:
            claim: What was run.
            result: Its serialized return value, or None for none.
            result_ttl: Seconds to keep it, -1 for ever; 0 is RQ's own code's business.
            worked: Seconds that it ran.

        Returns:
            ``ok``, ``fenced`` (it was given to another worker: nothing was written) or ``complex``.
        """
        keys = self.keys
        reply = self._scripts.run(
            "finish_job",
            [
                keys.worker(claim.worker),
                keys.worker_executions(claim.worker),
                keys.started(claim.queue),
                keys.finished(claim.queue),
                keys.job(claim.job_id),
                keys.results(claim.job_id),
            ],
            [
                claim.job_id,
                claim.execution,
                claim.worker,
                result_ttl,
                rq_time(),
                f"{worked:.6f}",
                b64encode(result) if result is not None else b"",
                keys.prefix,
                f"{claim.started_at:.6f}",
            ],
        )
        return str(reply.decode())

    def fail(self, claim: Claim, *, text: str, ttl: int) -> str:
        """Book a failed operation, calling nothing that the job names.

        Returns:
            ``ok`` or ``fenced``.
        """
        keys = self.keys
        reply = self._scripts.run(
            "fail_job",
            [
                keys.worker(claim.worker),
                keys.worker_executions(claim.worker),
                keys.started(claim.queue),
                keys.failed(claim.queue),
                keys.job(claim.job_id),
                keys.results(claim.job_id),
            ],
            [
                claim.job_id,
                claim.execution,
                claim.worker,
                ttl,
                rq_time(),
                b64encode(zlib.compress(text.encode())),
                keys.prefix,
                f"{claim.started_at:.6f}",
            ],
        )
        return str(reply.decode())

    def holds(self, claim: Claim) -> bool:
        """Whether the claim still stands; False once the job was handed to somebody else."""
        with translated(self._where):
            return self._client.zscore(self.keys.started(claim.queue), f"{claim.job_id}:{claim.execution}") is not None

    def put_back(
        self, job_id: str, execution: str, queue: str, worker: str, *, most_deliveries: int | None = None
    ) -> str:
        """Put a claimed job back at the head of its queue.

        Args:
            job_id: The job.
            execution: The execution it was claimed for.
            queue: Where it came from.
            worker: RQ name of the worker that had it.
            most_deliveries: When nobody knows whether it was begun: how often it may come back.

        Returns:
            ``ok``, ``fenced`` (it was not booked any more) or ``exhausted`` (still booked: let it fail).
        """
        keys = self.keys
        reply = self._scripts.run(
            "return_job",
            [keys.worker_executions(worker), keys.started(queue), keys.queue(queue), keys.job(job_id)],
            [job_id, execution, "" if most_deliveries is None else most_deliveries, keys.prefix],
        )
        return str(reply.decode())

    def held_by(self, worker: str) -> list[tuple[str, str, str]]:
        """What a worker has claimed and not ended: job id, execution, queue."""
        with translated(self._where):
            members: Any = self._client.smembers(self.keys.worker_executions(worker))
            # What is no text was not put there by a claim.
            texts = [member.decode() for member in members if member.isascii() and b":" in member]
            pairs = [text.rsplit(":", 1) for text in texts]
            pipeline = self._client.pipeline(transaction=False)
            for job_id, _ in pairs:
                pipeline.hget(self.keys.job(job_id), "origin")
            origins = pipeline.execute()
        return [
            (job_id, execution, name_of(origin) if origin else "")
            for (job_id, execution), origin in zip(pairs, origins, strict=True)
        ]

    def fence_claims(self, worker: str, *, for_good: bool = False) -> None:
        """Make claims that were sent and not answered void, should they still arrive; what was taken stays.

        Args:
            worker: RQ name of the worker that sent them.
            for_good: The worker is dead: it shall never claim again.
        """
        with translated(self._where):
            key, pipeline = self.keys.worker(worker), self._client.pipeline()
            pipeline.hset(key, "gs_claim", _LAST_CLAIM if for_good else _claim_number())
            pipeline.hdel(key, "gs_claimed")
            pipeline.expire(key, WORKER_TTL)
            pipeline.execute()

    def drop_claim(self, worker: str, job_id: str, execution: str) -> None:
        """Forget an execution whose job was deleted."""
        with translated(self._where):
            self._client.srem(self.keys.worker_executions(worker), f"{job_id}:{execution}")

    def register_workers(self, workers: Mapping[str, Mapping[str, Any]], queues: Sequence[str]) -> None:
        """Make workers known to RQ (``rq info``, rq-dashboard), or known again after Redis lost them.

        Args:
            workers: RQ name -> pid, hostname, birth and so on, as RQ's ``BaseWorker.serialize``.
            queues: The queues that they all serve.
        """
        with translated(self._where):
            pipeline = self._client.pipeline(transaction=False)
            for name, fields in workers.items():
                key = self.keys.worker(name)
                pipeline.hset(
                    key, mapping=dict[Any, Any](fields) | {"queues": ",".join(queues), "last_heartbeat": rq_time()}
                )
                pipeline.expire(key, WORKER_TTL)
                pipeline.sadd(self.keys.workers, key)
                for queue in queues:
                    pipeline.sadd(self.keys.queue_workers(queue), key)
            pipeline.execute()

    def unregister_workers(self, names: Sequence[str], queues: Sequence[str]) -> None:
        """Take workers out of RQ's lists; their hash stays for a minute, as with RQ's own."""
        with translated(self._where):
            pipeline = self._client.pipeline(transaction=False)
            for name in names:
                key = self.keys.worker(name)
                pipeline.srem(self.keys.workers, key)
                for queue in queues:
                    pipeline.srem(self.keys.queue_workers(queue), key)
                pipeline.hset(key, "death", rq_time())
                pipeline.expire(key, 60)
            pipeline.execute()

    def beat_workers(self, busy: Mapping[str, tuple[str, str, str] | None]) -> list[str]:
        """Keep workers in RQ's registries, and endless jobs from looking abandoned.

        Args:
            busy: RQ name -> (job id, execution, queue) of the endless job it runs, or None.

        Returns:
            Names whose registration is gone: register them again.
        """
        with translated(self._where):
            pipeline = self._client.pipeline(transaction=False)
            for name, running in busy.items():
                pipeline.hexists(self.keys.worker(name), "birth")
                pipeline.expire(self.keys.worker(name), WORKER_TTL)
                if running:
                    job_id, execution, queue = running
                    deadline = int(datetime.now(UTC).timestamp()) + 3660
                    pipeline.zadd(self.keys.started(queue), {f"{job_id}:{execution}": deadline}, xx=True, gt=True)
            replies = iter(pipeline.execute())
        lost = []
        for name, running in busy.items():
            known = next(replies)
            next(replies)
            if running:
                next(replies)
            if not known:
                lost.append(name)
        return lost

    def trim(self, queues: Sequence[str], now: float) -> None:
        """Take out of RQ's registries what RQ has forgotten; its own workers do so now and then (rq: clean_registries).

        Args:
            queues: Full names of the queues.
            now: Seconds by the server's clock.
        """
        with translated(self._where):
            pipeline = self._client.pipeline(transaction=False)
            for queue in queues:
                for key in (self.keys.finished(queue), self.keys.failed(queue)):
                    pipeline.zremrangebyscore(key, 0, now)
            pipeline.execute()

    def tallies(self, queues: Sequence[str]) -> dict[str, dict[str, int]]:
        """Jobs queued, started, finished and failed, by queue, without RQ's clean-up on reading."""
        with translated(self._where):
            pipeline = self._client.pipeline(transaction=False)
            for queue in queues:
                pipeline.llen(self.keys.queue(queue))
                for key in (self.keys.started(queue), self.keys.finished(queue), self.keys.failed(queue)):
                    pipeline.zcard(key)
            replies = iter(pipeline.execute())
        names = ("queued", "started", "finished", "failed")
        return {queue: {name: int(next(replies)) for name in names} for queue in queues}

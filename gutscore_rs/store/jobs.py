"""RQ jobs, as far as gutscore_rs moves them itself: claim, finish, put back, in RQ's wire format.

Whatever these do not cover (retries, dependents, callbacks, failures) is RQ's own code's business.
"""

from __future__ import annotations

import secrets
import time
import zlib
from base64 import b64encode
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import redis

from gutscore_rs.store.claims import DEFAULT_TIMEOUT, Claim, End, Exchange, exchange_of, iso_time
from gutscore_rs.store.connection import translated
from gutscore_rs.store.keys import RqKeys
from gutscore_rs.store.line import Line
from gutscore_rs.store.records import name_of
from gutscore_rs.store.scripts import Argument, Scripts

# Sent to whoever awaits a result instead of one: the job's own record tells.
LOOK_AT_JOB = b"?"
WORKER_TTL = 480  # rq.defaults.DEFAULT_WORKER_TTL (420) and the minute that RQ adds


def rq_time(moment: datetime | None = None) -> str:
    """A time as RQ 3 writes it into hashes (``rq.utils.utcformat``)."""
    return iso_time(moment.timestamp() if moment else time.time())


# No claim has a higher number.
_LAST_CLAIM = 10**15


def _claim_number() -> int:
    """Rises with every call, in all processes of this host; microseconds, which Lua's numbers hold exactly."""
    return time.monotonic_ns() // 1000


def jobs_on(client: redis.Redis, where: str = "Redis", *, prefix: str = "rq") -> Jobs:
    """The jobs of any Redis with RQ's keys, of a case or not; for the prefix see ``RQ_KEY_PREFIX`` of RQ."""
    return Jobs(client, Scripts(client, where), where, RqKeys(prefix))


class Jobs:
    """Claims and ends jobs on RQ's keys."""

    def __init__(self, client: redis.Redis, scripts: Scripts, where: str, keys: RqKeys | None = None) -> None:
        self._client = client
        self._scripts = scripts
        self._where = where
        self.keys = keys or RqKeys()
        self._line: Line | None = None

    def keep_line(self) -> None:
        """Exchange over a connection of its own from now on: for one thread of one process."""
        self._line = Line(self._client, self._where)

    def exchange(
        self,
        queues: Sequence[str],
        worker: str,
        ends: Sequence[End] = (),
        *,
        most: int = 1,
        seconds: float | None = None,
        worked: float = 0.0,
        recorded: bool = False,
    ) -> Exchange:
        """Book ends of jobs and take the first queued ones of one queue, looking at the queues in their order.

        Args:
            queues: Their full names; those of the ends are among them.
            worker: RQ name of the worker.
            ends: What it has done.
            most: How many jobs to take at most; 0: none.
            seconds: What is left of the worker's time: jobs that say that they take longer stay; None: all it needs.
            worked: Seconds that it worked for the ends.
            recorded: Whether there may be records of their executions.
        """
        names = self.keys
        keys = [names.worker(worker), names.worker_executions(worker), names.suspended]
        for queue in queues:
            keys += [names.queue(queue), names.started(queue), names.finished(queue), names.queue_workers(queue)]
        index = {queue: number for number, queue in enumerate(queues)}
        arguments: list[Argument] = [
            _claim_number() if most else "",
            worker,
            # The rest of RQ's 32 digits numbers the jobs of one call.
            secrets.token_hex(14),
            rq_time(),
            DEFAULT_TIMEOUT,
            names.prefix,
            "" if seconds is None else f"{seconds:.3f}",
            most,
            f"{worked:.6f}",
            1 if recorded else 0,
            len(ends),
        ]
        for end in ends:
            arguments += end.arguments(index[end.queue])
        if self._line is None:
            reply = self._scripts.run("exchange", keys, arguments)
        else:
            reply = self._scripts.on_line(self._line, "exchange", keys, arguments)
        return exchange_of(reply, queues, worker)

    def await_one(self, queue: str, seconds: float) -> bool:
        """Wait until a queue has a job, and leave it there (see ``peek`` of the workers); on the line of ours.

        Returns:
            Whether it has one.
        """
        key = self.keys.queue(queue)
        line = self._line or Line(self._client, self._where)
        return line.call(("BLMOVE", key, key, "LEFT", "LEFT", seconds))[0] is not None

    def claim(self, queues: Sequence[str], worker: str, seconds: float | None = None) -> Claim | None:
        """Take the first queued job; see :meth:`exchange`."""
        claims = self.exchange(queues, worker, seconds=seconds).claims
        return claims[0] if claims else None

    def finish(self, claim: Claim, *, result: bytes | None, result_ttl: int, worked: float) -> str:
        """Book the good end of a plain job that has just ended.

        Args:
            claim: What was run.
            result: Its serialized return value, or None for none.
            result_ttl: Seconds to keep it, -1 for ever; 0 is RQ's own code's business.
            worked: Seconds that it ran.

        Returns:
            ``ok``, ``fenced`` or ``complex``, see :class:`Exchange`.
        """
        end = End(
            claim.queue,
            claim.job_id,
            claim.execution,
            result_ttl,
            claim.started_at,
            claim.started_at + worked,
            b64encode(result) if result is not None else b"",
        )
        return self.exchange([claim.queue], claim.worker, [end], most=0, worked=worked).outcomes[0]

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
        """What a worker has claimed and not ended: job id, execution, queue; the queue is empty if the job is gone.

        RQ's readers take entries of a batch out of the owner index, since there is no record of their executions
        (rq 3.0, ``BaseWorker.get_current_executions``): what the worker noted of its last claim counts, too.
        """
        with translated(self._where):
            pipeline = self._client.pipeline(transaction=False)
            pipeline.smembers(self.keys.worker_executions(worker))
            pipeline.hget(self.keys.worker(worker), "gs_claimed")
            members, noted = pipeline.execute()
            words = (noted or b"").split(b" ")
            members |= {b":".join(pair) for pair in zip(words[1::3], words[2::3], strict=False)}
            # What is no text was not put there by a claim.
            texts = sorted(member.decode() for member in members if member.isascii() and b":" in member)
            pairs = [text.rsplit(":", 1) for text in texts]
            for job_id, _ in pairs:
                pipeline.hget(self.keys.job(job_id), "origin")
            origins = [name_of(origin) if origin else "" for origin in pipeline.execute()]
            for text, origin in zip(texts, origins, strict=True):
                pipeline.zscore(self.keys.started(origin), text)
                pipeline.sismember(self.keys.worker_executions(worker), text)
            booked = iter(pipeline.execute())
        return [
            (job_id, execution, origin)
            for (job_id, execution), origin in zip(pairs, origins, strict=True)
            # Booked, or at least in the index: its entry is to be taken out.
            if any([next(booked) is not None, next(booked)])
        ]

    def record_execution(self, job_id: str, execution: str, worker: str, queue: str) -> None:
        """Write RQ's record of an execution that lasts; of most there is none."""
        names = self.keys
        keys = [
            names.started(queue),
            names.execution(job_id, execution),
            names.executions(job_id),
            names.worker_executions(worker),
        ]
        self._scripts.run("record_execution", keys, [job_id, execution, worker])

    def fence_claims(self, worker: str, *, for_good: bool = False) -> None:
        """Make claims that were sent and not answered void, should they still arrive; what was taken stays.

        Args:
            worker: RQ name of the worker that sent them.
            for_good: The worker is dead: it shall never claim again.
        """
        with translated(self._where):
            key, pipeline = self.keys.worker(worker), self._client.pipeline()
            pipeline.hset(key, "gs_claim", _LAST_CLAIM if for_good else _claim_number())
            pipeline.expire(key, WORKER_TTL)
            pipeline.execute()

    def notify(self, job_id: str) -> None:
        """Tell whoever awaits the result of a job that its record has news."""
        with translated(self._where):
            stream = self._client.hget(self.keys.job(job_id), "gs_reply")
            if stream:
                pipeline = self._client.pipeline(transaction=False)
                pipeline.xadd(stream, {job_id: LOOK_AT_JOB})
                pipeline.expire(stream, 3600)
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

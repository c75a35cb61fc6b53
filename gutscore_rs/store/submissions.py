"""Submissions to a scheduler: what was intended, before it is done, and what came of it (rulings 16-18).

A submission carries one or more resource sets, each an index of a job array. It is written before sbatch and names
the job by its token; so whoever comes after a crash finds the intent here and the job, if there is one, by its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import redis

from gutscore_rs.store.connection import translated
from gutscore_rs.store.keys import CaseKeys
from gutscore_rs.store.records import LARGEST, name_of, raw_name, text_of

# A job may wait in the queue for weeks; what has no job any more is kept for those who look back.
KEEP_OPEN, KEEP_SETTLED = 90 * 86400, 7 * 86400
# A number that somebody else may have written is none of ours beyond this.
MOST_DIGITS = 11


@dataclass(frozen=True, slots=True)
class SubmissionRecord:
    """One submission.

    Attributes:
        token: Its name, also the Slurm job's.
        server: The cluster, by its name as a server of requests.
        job_id: The scheduler's id, empty while it is not known.
        created_at: Server seconds of the intent.
        submitted_at: Server seconds just before sbatch; 0.0: it was not begun.
        limit: The job's time limit as it was asked for, in seconds.
        sets: (wgroup id, generation) by index.
        settled: It has no job, for certain, and will have none.
    """

    token: str
    server: str
    job_id: str = ""
    created_at: float = 0.0
    submitted_at: float = 0.0
    limit: int = 0
    sets: tuple[tuple[int, int], ...] = field(default=())
    settled: bool = False

    def job_of(self, index: int) -> str:
        """Slurm's name of the job of one set: ``123``, or ``123_4`` in an array; empty while it is not known."""
        return f"{self.job_id}_{index}" if self.job_id and len(self.sets) > 1 else self.job_id


class Submissions:
    """The submissions of a case."""

    def __init__(self, client: redis.Redis, keys: CaseKeys, where: str) -> None:
        self._client = client
        self._keys = keys
        self._where = where

    def write(self, record: SubmissionRecord) -> None:
        """Write down a submission: before its sets are taken, before sbatch, or after Redis had lost it."""
        fields: dict[Any, Any] = {
            "server": record.server,
            "created_at": f"{record.created_at:.6f}",
            "submitted_at": f"{record.submitted_at:.6f}",
            "job_id": record.job_id,
            "limit": record.limit,
            "size": len(record.sets),
        }
        fields |= {f"set:{index}": f"{wgroup}/{generation}" for index, (wgroup, generation) in enumerate(record.sets)}
        key = self._keys.submission(record.token)
        with translated(self._where):
            pipeline = self._client.pipeline()
            pipeline.hset(key, mapping=fields)
            pipeline.expire(key, KEEP_OPEN)
            pipeline.zadd(self._keys.submissions, {record.token: record.created_at})
            pipeline.expire(self._keys.submissions, KEEP_OPEN)
            pipeline.execute()

    def record_job(self, token: str, job_id: str) -> None:
        """The scheduler's answer, or what a look-up found."""
        with translated(self._where):
            self._client.hset(self._keys.submission(token), "job_id", job_id)

    def get(self, token: str) -> SubmissionRecord | None:
        """One submission."""
        with translated(self._keys.submission(token)):
            raw: Any = self._client.hgetall(self._keys.submission(token))
        return _decode(token, raw) if raw else None

    def open(self) -> list[SubmissionRecord]:
        """Those that may still have a job, oldest first; what cannot be read is none of ours."""
        with translated(self._where):
            tokens: Any = self._client.zrange(self._keys.submissions, 0, -1)
            pipeline = self._client.pipeline(transaction=False)
            for token in tokens:
                pipeline.hgetall(raw_name(self._keys.submission(name_of(token))))
            rows = pipeline.execute(raise_on_error=False) if tokens else []
        found = zip(tokens, rows, strict=True)
        return [_decode(name_of(token), raw) for token, raw in found if isinstance(raw, dict) and raw]

    def settle(self, token: str) -> None:
        """It has no job any more, for certain; its record stays for a week."""
        with translated(self._where):
            pipeline = self._client.pipeline()
            pipeline.hset(self._keys.submission(token), "settled", 1)
            pipeline.zrem(self._keys.submissions, token)
            pipeline.expire(self._keys.submission(token), KEEP_SETTLED)
            pipeline.execute()


def _decode(token: str, raw: Mapping[bytes, bytes]) -> SubmissionRecord:
    fields = {text_of(name): text_of(value) for name, value in raw.items()}
    sets = []
    for index in range(min(_whole(fields.get("size", "")), len(fields))):
        wgroup_id, _, generation = fields.get(f"set:{index}", "").partition("/")
        sets.append((_whole(wgroup_id), _whole(generation)))
    return SubmissionRecord(
        token,
        fields.get("server", ""),
        fields.get("job_id", ""),
        _seconds(fields.get("created_at", "")),
        _seconds(fields.get("submitted_at", "")),
        max(0, _whole(fields.get("limit", ""))),
        tuple(sets),
        fields.get("settled") == "1",
    )


def _whole(text: str) -> int:
    # Garbage names no set: nobody has the id -1.
    return int(text) if text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS else -1


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value if 0.0 <= value < LARGEST else 0.0

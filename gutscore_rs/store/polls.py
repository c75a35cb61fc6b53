"""Looks at a scheduler's queue, shared: one process asks for all of a user on a cluster, the others read it here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import redis

from gutscore_rs.errors import SerializationError
from gutscore_rs.store.connection import translated
from gutscore_rs.store.keys import PollKeys
from gutscore_rs.store.records import LARGEST, pack, text_of, unpack_map
from gutscore_rs.store.scripts import Scripts

KEEP_POLL = 3600


@dataclass(frozen=True, slots=True)
class PollRecord:
    """One look.

    Attributes:
        at: Server seconds just before the scheduler was asked.
        error: Why it gave no answer; empty: it did.
        rows: The user's jobs that are ours, as plain data.
    """

    at: float
    error: str
    rows: tuple[Mapping[str, Any], ...]


class Polls:
    """The newest looks at the queues of Slurm clusters."""

    def __init__(self, client: redis.Redis, scripts: Scripts, where: str) -> None:
        self._client = client
        self._scripts = scripts
        self._where = where

    def take_turn(self, keys: PollKeys, owner: str, seconds: float) -> bool:
        """Whether ``owner`` is the one who asks the scheduler within the next ``seconds``."""
        return bool(self._scripts.run("lease", [keys.poller], [owner, int(seconds * 1000)]))

    def end_turn(self, keys: PollKeys, owner: str) -> None:
        """Let another one ask."""
        self._scripts.run("release_lease", [keys.poller], [owner])

    def write(self, keys: PollKeys, at: float, rows: Sequence[Mapping[str, Any]], error: str = "") -> None:
        """Leave a look for all."""
        packed = pack({"at": at, "error": error, "rows": [dict(row) for row in rows]})
        with translated(self._where):
            self._client.set(keys.poll, packed, ex=KEEP_POLL)

    def newest(self, keys: PollKeys) -> PollRecord | None:
        """The newest look, None when there is none; garbage is none either: the next one takes its place."""
        with translated(self._where):
            try:
                raw: Any = self._client.get(keys.poll)
            except redis.exceptions.ResponseError:
                return None
        if raw is None:
            return None
        try:
            found = unpack_map(raw, keys.poll)
        except SerializationError:
            return None
        at, rows = found.get("at"), found.get("rows")
        if not isinstance(at, float) or not 0 <= at < LARGEST or not isinstance(rows, list):
            return None
        return PollRecord(at, text_of(str(found.get("error", ""))), tuple(row for row in rows if isinstance(row, dict)))

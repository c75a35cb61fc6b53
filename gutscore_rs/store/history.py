"""The two streams of a case: changes of state with their why, and deaths."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import redis

from gutscore_rs.store.connection import translated
from gutscore_rs.store.keys import CaseKeys
from gutscore_rs.store.records import Event, decode_event


class History:
    """Reads the streams ``events`` and ``lost``."""

    def __init__(self, client: redis.Redis, keys: CaseKeys, where: str) -> None:
        self._client = client
        self._keys = keys
        self._where = where

    def events(self, count: int = 100) -> list[Event]:
        """The newest changes of state, oldest first."""
        return self._newest(self._keys.events, count)

    def lost(self, count: int = 100) -> list[Event]:
        """The newest deaths, oldest first: fields member, host, pid, reason, job."""
        return self._newest(self._keys.lost, count)

    def follow(self, after: str = "$", block: float = 1.0) -> Iterator[tuple[str, Event] | None]:
        """New entries of both streams as they come: (``event`` or ``lost``, entry).

        Yields None every ``block`` seconds without news, so that the reader can look up.
        """
        positions: dict[Any, Any] = {self._keys.events: after, self._keys.lost: after}
        kinds = {self._keys.events.encode(): "event", self._keys.lost.encode(): "lost"}
        while True:
            with translated(self._where):
                reply: Any = self._client.xread(positions, block=max(1, int(block * 1000)))
            if not reply:
                yield None
                continue
            for stream, entries in reply.items() if isinstance(reply, dict) else reply:
                for entry_id, raw in entries:
                    positions[stream.decode()] = entry_id
                    yield kinds[stream], decode_event(entry_id, raw)

    def _newest(self, key: str, count: int) -> list[Event]:
        with translated(key):
            rows: Any = self._client.xrevrange(key, count=count)
        return [decode_event(entry_id, raw) for entry_id, raw in reversed(rows)]

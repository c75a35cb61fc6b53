"""A connection for one thread that asks the same thing again and again: claims, ends, calls, results.

redis-py takes a connection out of a pool, counts, times and puts it back for each command: a third of the time of a
short round trip here. A line keeps its connection, and can be asked now and read later. What it sends again after
a lost reply must be repeatable, as everywhere in the store.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import redis
from hiredis import pack_command
from redis.exceptions import NoScriptError, RedisError, ResponseError

from gutscore_rs.store.connection import PATIENCE, RETRIES, BoundedRetry, translated

Word = str | int | float | bytes | memoryview


class Line:
    """A connection of its own, made at its first use and made anew when it is lost.

    Args:
        client: Used for its settings only.
        where: The server's address, for messages.
    """

    def __init__(self, client: redis.Redis, where: str) -> None:
        self._pool = client.connection_pool
        self._where = where
        self._retry = BoundedRetry(RETRIES, PATIENCE)
        self._connection: Any = None
        self._asked = False

    def call(self, *commands: Sequence[Word]) -> list[Any]:
        """Send commands and read their replies.

        Raises:
            NoScriptError: The server does not know the script.
            StoreError: No reply.
        """
        self.ask(*commands)
        return self.answers(*commands)

    def ask(self, *commands: Sequence[Word]) -> None:
        """Send commands, to be read by :meth:`answers`; if that fails, it sends them again."""
        try:
            self._send(commands)
        except (RedisError, OSError):
            self.close()

    def answers(self, *commands: Sequence[Word]) -> list[Any]:
        """The replies to what was asked; see :meth:`call`."""

        def read() -> list[Any]:
            if not self._asked:
                self._send(commands)
            replies = [self._connection.read_response() for _ in commands]
            self._asked = False
            return replies

        try:
            return self._retry.call_with_retry(read, lambda _error: self.close())  # type: ignore[no-any-return]
        except NoScriptError:
            self._give_up(commands)
            raise
        except (RedisError, OSError) as error:
            self._give_up(commands if isinstance(error, ResponseError) else ())
            with translated(self._where):
                raise

    def _give_up(self, commands: Sequence[Sequence[Word]]) -> None:
        """An answer was an error, or none; a connection with answers still to come is of no use."""
        self._asked = False
        if len(commands) != 1:
            self.close()

    def _send(self, commands: Sequence[Sequence[Word]]) -> None:
        if self._connection is None:
            connection = self._pool.make_connection()
            connection.connect()
            self._connection = connection
        packed = b"".join(pack_command(tuple(command)) for command in commands)  # type: ignore[arg-type]
        self._connection.send_packed_command([packed], check_health=False)
        self._asked = True

    def close(self) -> None:
        """Drop the connection."""
        self._asked = False
        if self._connection is not None:
            self._connection.disconnect()
        self._connection = None

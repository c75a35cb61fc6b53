"""Waiting for jobs without taking them.

``BLMOVE q q LEFT LEFT`` moves a list's head onto itself: it blocks until there is a job and changes nothing, so a
launcher that dies with the reply in its hands loses no job (BLPOP and BLMPOP on several queues do;
rq#1716, rq#2079, rulings 5). One connection per queue waits here; the workers claim by script.
"""

from __future__ import annotations

import logging
import selectors
import time
from collections.abc import Callable, Sequence
from typing import Any

import redis
from redis.exceptions import RedisError

log = logging.getLogger(__name__)

# The server answers after this time, whether or not there is a job: so a connection that was cut off without a word is
# noticed soon after it. Without that a launcher would wait on it for ever, and its idle workers with it.
BLOCK_SECONDS = 10
ANSWER_SECONDS = 5.0
SHORTEST_PAUSE, LONGEST_PAUSE = 0.02, 1.0


class QueuePeek:
    """A blocking look at one queue, watched by a selector with itself as the data.

    Args:
        client: Used for its connection settings only; the peek has a connection of its own.
        key: The queue's list.
        selector: Where it stands while it waits.
    """

    def __init__(self, client: redis.Redis, key: str, selector: selectors.BaseSelector) -> None:
        self._selector = selector
        self._pool = client.connection_pool
        self._key = key
        self._connection: Any = None
        self._due = 0.0
        self.armed = False

    def arm(self) -> None:
        """Start waiting, unless it already does; on a new connection if the server should have answered by now.

        Raises:
            RedisError: No connection.
        """
        if self.armed and time.monotonic() > self._due:
            log.warning("the connection that watches %s is dead: it is made anew", self._key)
            self.close()
        if self.armed:
            return
        if self._connection is None:
            self._connection = self._pool.make_connection()
            self._connection.connect()
        self._connection.send_command("BLMOVE", self._key, self._key, "LEFT", "LEFT", BLOCK_SECONDS)
        self._due = time.monotonic() + BLOCK_SECONDS + ANSWER_SECONDS
        self._selector.register(self, selectors.EVENT_READ, self)
        self.armed = True

    def fileno(self) -> int:
        """The socket to watch; -1 when there is none."""
        sock = getattr(self._connection, "_sock", None)
        return sock.fileno() if sock else -1

    def ready(self) -> bool:
        """Read the answer, once the socket is readable: whether there is a job.

        Raises:
            RedisError: The connection is lost; arm it again.
        """
        if not self.armed:
            return False
        try:
            answer = self._connection.read_response(disable_decoding=True)
        except (RedisError, OSError):
            self.close()
            raise
        self._disarm()
        return answer is not None

    def _disarm(self) -> None:
        if self.armed:
            self._selector.unregister(self)
        self.armed = False

    def close(self) -> None:
        """Drop the connection."""
        self._disarm()
        if self._connection is not None:
            self._connection.disconnect()
        self._connection = None


class Lookout:
    """Watches the queues of some workers, and says when one of them has work.

    Args:
        client: As for :class:`QueuePeek`.
        keys: The queues' lists.
        selector: Where the peeks stand; their events are handed to :meth:`answered`.
    """

    def __init__(self, client: redis.Redis, keys: Sequence[str], selector: selectors.BaseSelector) -> None:
        self._peeks = [QueuePeek(client, key, selector) for key in keys]
        self._pause = 0.0
        self.again_at = 0.0

    def look(self, reachable: Callable[[], bool] = lambda: True) -> None:
        """Have every queue watched, unless it is too early to look again.

        Args:
            reachable: Asked before each attempt to connect, which may take its whole timeout.
        """
        if time.monotonic() < self.again_at:
            return
        for peek in self._peeks:
            if not reachable():
                return
            try:
                peek.arm()
            except (RedisError, OSError) as error:
                log.warning("cannot watch a queue: %s", error)
                self.again_at = time.monotonic() + LONGEST_PAUSE
                return

    def answered(self, peek: QueuePeek) -> bool:
        """A peek's socket is readable: whether its queue has a job."""
        try:
            return peek.ready()
        except (RedisError, OSError) as error:
            log.warning("lost the connection that watches a queue: %s", error)
            self.again_at = time.monotonic() + LONGEST_PAUSE
            return False

    def woke(self, *, fruitless: bool) -> None:
        """A worker was sent to look; if such wake-ups bear nothing, the next look is later."""
        if fruitless:
            self._pause = min(max(self._pause * 2, SHORTEST_PAUSE), LONGEST_PAUSE)
            self.again_at = time.monotonic() + self._pause
        else:
            self._pause = 0.0

    def close(self) -> None:
        """Drop the connections."""
        for peek in self._peeks:
            peek.close()

"""Results on their way back: one thread listens for all futures of an executor."""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time
from collections.abc import Callable

from gutscore_rs.errors import StoreError
from gutscore_rs.store import Store

log = logging.getLogger(__name__)

BLOCK_SECONDS = 1.0


class Incoming:
    """Reads the stream of results.

    Args:
        store: The case's store.
        executor_id: Whose results.
        deliver: Told each result: job id, sealed result or ``?``.
        look_round: Called about once a second, and after each quiet second; whether news came since the last call.
    """

    def __init__(
        self,
        store: Store,
        executor_id: str,
        deliver: Callable[[str, bytes], None],
        look_round: Callable[[bool], None],
    ) -> None:
        self._store = store
        self._executor_id = executor_id
        self._deliver = deliver
        self._look_round = look_round
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="gutscore_rs: results", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._closed = True
        if self._thread is not threading.current_thread():
            with contextlib.suppress(StoreError):
                self._store.calls.nudge(self._executor_id)
            self._thread.join()

    def _run(self) -> None:
        replies = self._store.calls.replies(self._executor_id)
        replies.ask(BLOCK_SECONDS)
        next_round, heard = time.monotonic() + BLOCK_SECONDS, False
        while not self._closed:
            try:
                found = replies.take()
                # Asked before those who wait are woken, who want the interpreter then.
                replies.ask(BLOCK_SECONDS)
                for job_id, payload in found.items():
                    self._deliver(job_id, payload)
                heard = heard or bool(found)
                if time.monotonic() >= next_round:
                    self._look_round(heard)
                    next_round, heard = time.monotonic() + BLOCK_SECONDS, False
            except StoreError as error:
                # Redis keeps the results, and the workers theirs: nothing is lost by waiting.
                log.warning("results wait for Redis: %s", error)
                time.sleep(0.2 + random.random() * 0.3)  # noqa: S311 - jitter
            except Exception:
                # What is wrong with one result must not keep all others waiting.
                log.exception("a result could not be delivered")
        replies.close()

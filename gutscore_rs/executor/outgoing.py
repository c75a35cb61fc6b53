"""Calls on their way to Redis: gathered while one batch is under way, sent in the next."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gutscore_rs.errors import GutscoreError
from gutscore_rs.executor.futures import CallFuture
from gutscore_rs.store import CallRecord, Store

log = logging.getLogger(__name__)

MOST_CALLS, MOST_BYTES = 256, 4 << 20
# Who submits faster than Redis takes waits at this many bytes.
MOST_WAITING = 64 << 20


@dataclass(slots=True)
class Letter:
    """A call that is not sent yet."""

    record: CallRecord
    future: CallFuture


class Outgoing:
    """Sends calls in a thread of its own, so that a submission does not wait for Redis.

    Args:
        store: The case's store.
        executor_id: Who sends.
        failed: Told which calls could not be sent, and why.
    """

    def __init__(
        self, store: Store, executor_id: str, failed: Callable[[Sequence[Letter], GutscoreError], None]
    ) -> None:
        self._store = store
        self._executor_id = executor_id
        self._failed = failed
        self._changed = threading.Condition()
        self._letters: dict[str, Letter] = {}
        self._bytes = 0
        self._number = 0
        self._sending = False
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="gutscore_rs: calls out", daemon=True)
        self._thread.start()

    def put(self, letter: Letter) -> None:
        """Send it with the next batch."""
        with self._changed:
            while self._bytes > MOST_WAITING and not self._closed:
                self._changed.wait()
            idle = not self._letters and not self._sending
            self._letters[letter.record.job_id] = letter
            self._bytes += len(letter.record.data)
            if idle:
                self._changed.notify_all()

    def take_back(self, job_id: str) -> bool:
        """Drop a call that was not sent yet; False: it was."""
        with self._changed:
            letter = self._letters.pop(job_id, None)
            if letter:
                self._bytes -= len(letter.record.data)
            return letter is not None

    def holds(self, job_id: str) -> bool:
        """Whether it was not sent yet."""
        return job_id in self._letters

    def close(self) -> None:
        """Send what there is, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._sending = False
                self._changed.notify_all()
                while not self._letters and not self._closed:
                    self._changed.wait()
                if not self._letters:
                    return
                batch = self._next_batch()
                self._sending = True
            self._send(batch)

    def _next_batch(self) -> list[Letter]:
        """The oldest calls of one queue, as many as go together."""
        batch: list[Letter] = []
        size = 0
        for letter in self._letters.values():
            if batch and (letter.future.queue != batch[0].future.queue or size + len(letter.record.data) > MOST_BYTES):
                break
            batch.append(letter)
            size += len(letter.record.data)
            if len(batch) == MOST_CALLS:
                break
        for letter in batch:
            del self._letters[letter.record.job_id]
        self._bytes -= size
        return batch

    def _send(self, batch: Sequence[Letter]) -> None:
        self._number += 1
        try:
            queue = batch[0].future.queue
            self._store.calls.submit(self._executor_id, self._number, queue, [letter.record for letter in batch])
        except GutscoreError as error:
            self._failed(batch, error)
        except Exception as error:
            log.exception("calls could not be sent")
            self._failed(batch, GutscoreError(f"The call could not be sent: {error!r}"))

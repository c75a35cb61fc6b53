"""Calls on their way to Redis: gathered while one batch is under way, sent in the next."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gutscore_rs.errors import GutscoreError
from gutscore_rs.executor.futures import CallFuture
from gutscore_rs.store import CallRecord, Store
from gutscore_rs.store.calls import Submission

log = logging.getLogger(__name__)

MOST_CALLS, MOST_BYTES = 256, 4 << 20
# Who submits faster than Redis takes waits at this many bytes.
MOST_WAITING = 64 << 20
# Up to this size a call is sent by who submits it: a socket takes it at once.
AT_ONCE_BYTES = 32 << 10


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
        self._sending: list[Letter] = []
        self._submission: Submission
        self._line = store.calls.open_line()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="gutscore_rs: calls out", daemon=True)
        self._thread.start()

    def put(self, letter: Letter) -> None:
        """Send it with the next batch."""
        with self._changed:
            while self._bytes > MOST_WAITING and not self._closed:
                self._changed.wait()
            if self._sending or self._letters or self._closed or len(letter.record.data) > AT_ONCE_BYTES:
                self._letters[letter.record.job_id] = letter
                self._bytes += len(letter.record.data)
            else:
                # Nothing is under way: it goes out here, and the thread only reads what Redis says.
                self._begin([letter]).ask(self._line)
            self._changed.notify_all()

    def take_back(self, job_id: str) -> bool:
        """Drop a call that was not sent yet; False: it was, and is known to Redis."""
        with self._changed:
            while any(letter.record.job_id == job_id for letter in self._sending):
                self._changed.wait()
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
                while not self._letters and not self._sending and not self._closed:
                    self._changed.wait()
                if not self._sending:
                    if not self._letters:
                        break
                    self._begin(self._next_batch()).ask(self._line)
                batch, submission = self._sending, self._submission
            self._finish(batch, submission)
            with self._changed:
                self._sending = []
                self._changed.notify_all()
        self._line.close()

    def _begin(self, batch: list[Letter]) -> Submission:
        self._number += 1
        self._sending = batch
        records = [letter.record for letter in batch]
        self._submission = self._store.calls.submission(self._executor_id, self._number, batch[0].future.queue, records)
        return self._submission

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

    def _finish(self, batch: Sequence[Letter], submission: Submission) -> None:
        try:
            submission.finish(self._line)
        except GutscoreError as error:
            self._failed(batch, error)
        except Exception as error:
            log.exception("calls could not be sent")
            self._failed(batch, GutscoreError(f"The call could not be sent: {error!r}"))

"""The future of one call."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any


class CallFuture(Future[Any]):
    """A future whose call runs on a worker of the case.

    Args:
        job_id: The RQ job that carries the call.
        queue: Full name of its queue.
        take_back: Takes the call back if no worker has it.
        is_running: Asks whether a worker has it.
    """

    def __init__(
        self,
        job_id: str,
        queue: str,
        take_back: Callable[[CallFuture], bool],
        is_running: Callable[[CallFuture], bool],
    ) -> None:
        super().__init__()
        self.job_id = job_id
        self.queue = queue
        self._take_back = take_back
        self._is_running = is_running

    def cancel(self) -> bool:
        """Take the call back; False once a worker has begun it, or it is over."""
        if self.done():
            return self.cancelled()
        return self._take_back(self) and self.give_up()

    def give_up(self) -> bool:
        """Cancelled for those who wait; the call itself was taken back before."""
        if not super().cancel():
            return False
        self.set_running_or_notify_cancel()
        return True

    def running(self) -> bool:
        """Whether a worker has the call now: asks Redis."""
        return not self.done() and self._is_running(self)

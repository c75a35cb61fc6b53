"""Handing on the jobs of dead workers, each in a short child of the launcher.

RQ's code unpickles what users wrote and calls their failure callbacks: neither may hang or end the launcher.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from gutscore_rs.store import Store
from gutscore_rs_workers.children import fork_process
from gutscore_rs_workers.crew import extend_path
from gutscore_rs_workers.launch import Launch
from gutscore_rs_workers.recovery import Remains, recover_worker

log = logging.getLogger(__name__)

# A child that takes longer is killed, and another one begins where it stopped.
LONGEST = 30.0
RETRY_SECONDS = 1.0


@dataclass(slots=True)
class Legacy:
    """What a dead worker left to be done.

    Attributes:
        member: Its name in the registry; its record stays there until its jobs are handed on.
        rq_name: Its name among RQ's workers.
        remains: What else is known of it.
    """

    member: str
    rq_name: str
    remains: Remains
    done: bool = False
    pid: int = 0
    next_try: float = 0.0


class HandingOn:
    """The legacies of one launch's workers.

    Args:
        launch: The launch.
        settled: Called with the member once its jobs are handed on.
    """

    def __init__(self, launch: Launch, settled: Callable[[str], None]) -> None:
        self._launch = launch
        self._settled = settled
        self._legacies: list[Legacy] = []

    def __bool__(self) -> bool:
        return bool(self._legacies)

    @property
    def pids(self) -> set[int]:
        """Children that are at work."""
        return {legacy.pid for legacy in self._legacies if legacy.pid}

    def add(self, legacy: Legacy) -> None:
        """A worker died."""
        self._legacies.append(legacy)

    def advance(self) -> None:
        """Start what is due, kill what takes too long."""
        now = time.monotonic()
        for legacy in self._legacies:
            if not legacy.pid and now >= legacy.next_try:
                legacy.pid = fork_process(lambda item=legacy: self._hand_on(item))  # type: ignore[misc]
                legacy.next_try = now + LONGEST
            elif legacy.pid and now > legacy.next_try:
                os.kill(legacy.pid, signal.SIGKILL)

    def _hand_on(self, legacy: Legacy) -> int:
        # A failure callback lives where the tasks do.
        extend_path(self._launch.spec)
        store = Store.open(self._launch.access, name="recovery")
        recover_worker(store, legacy.rq_name, legacy.remains)
        return 0

    def reap(self) -> None:
        """Wait for the children that ended."""
        for legacy in self._legacies:
            if legacy.pid:
                self._reap(legacy)
        self._legacies = [legacy for legacy in self._legacies if not legacy.done]

    def _reap(self, legacy: Legacy) -> None:
        found, status = os.waitpid(legacy.pid, os.WNOHANG)
        if not found:
            return
        legacy.pid = 0
        if os.waitstatus_to_exitcode(status) == 0:
            legacy.done = True
            self._settled(legacy.member)
        else:
            log.warning("handing on the jobs of %s failed; trying again", legacy.rq_name)
            legacy.next_try = time.monotonic() + RETRY_SECONDS

"""What can happen at a step: somebody is killed or stopped, a command or its reply is lost, the server crashes."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

from support.processes import lives, parent_of
from support.servers import Server
from support.steps import Passing
from support.waiting import wait_until

Act = Callable[[Passing], bool]


def kill(passing: Passing) -> bool:
    """kill -9 whoever takes the step."""
    return _kill(passing.pid, passing.pid)


def kill_parent(passing: Passing) -> bool:
    """kill -9 the parent of whoever takes the step, who dies with it (PDEATHSIG)."""
    return _kill(parent_of(passing.pid), passing.pid)


def _kill(victim: int, *with_it: int) -> bool:
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: not any(map(lives, (victim, *with_it))), 5, what=f"process {victim} and its own are gone")
    return True


def lose(_passing: Passing) -> bool:
    """The command, or its reply, is lost: the connection is cut."""
    return True


def restart(server: Server) -> Act:
    """The server crashes and comes back with its data."""

    def act(_passing: Passing) -> bool:
        server.restart()
        return True

    return act


class Pause:
    """SIGSTOP for whoever takes the step, until :meth:`end`; what it was about to send, or to read, waits with it."""

    def __init__(self) -> None:
        self.pid = 0
        self._over = threading.Event()

    def __call__(self, passing: Passing) -> bool:
        self.pid = passing.pid
        os.kill(self.pid, signal.SIGSTOP)
        self._over.wait(100)
        return False

    def end(self) -> None:
        """SIGCONT."""
        self._over.set()
        if self.pid and lives(self.pid):
            os.kill(self.pid, signal.SIGCONT)

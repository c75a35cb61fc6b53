"""Worker processes that a program starts itself and appends to a set, as the predecessor's launcher did."""

from __future__ import annotations

import time
from collections.abc import Sequence
from multiprocessing.process import BaseProcess

from gutscore_rs.errors import ResourceSetError

# From SIGKILL to the end: a process in uninterruptible input/output takes its time.
KILL_SECONDS = 5.0


def start(process: BaseProcess) -> int:
    """Start a process, unless it runs already, and return its pid.

    Raises:
        ResourceSetError: It cannot be started, or has ended before.
    """
    if process.pid is not None and not alive(process):
        raise ResourceSetError(f"{process.name} has ended already, or belongs to another process; append a new one.")
    if process.pid is None:
        try:
            process.start()
        except Exception as error:  # OSError, pickling errors, assertions of multiprocessing: whatever it was
            raise ResourceSetError(f"{process.name} could not be started: {error!r}.") from error
    if process.pid is None:
        raise ResourceSetError(f"{process.name} has no pid after its start.")
    return process.pid


def alive(process: BaseProcess) -> bool:
    """Whether a child of this process runs; this also reaps one that has ended."""
    try:
        return process.is_alive()
    except (AssertionError, ValueError):  # a child of another process (after a fork), or one that was closed
        return False


def end(processes: Sequence[BaseProcess], drain: float) -> list[BaseProcess]:
    """Ask processes to end, end them by force after ``drain`` seconds, and return those that are left."""
    running = [process for process in processes if alive(process)]
    for process in running:
        process.terminate()
    running = _join(running, drain)
    for process in running:
        process.kill()
    return _join(running, KILL_SECONDS)


def _join(processes: Sequence[BaseProcess], seconds: float) -> list[BaseProcess]:
    deadline = time.monotonic() + seconds
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
    return [process for process in processes if alive(process)]

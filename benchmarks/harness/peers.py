"""Ending peers."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterable

import psutil

PATIENCE = 10.0


def end(processes: Iterable[subprocess.Popen[bytes]]) -> None:
    """SIGTERM; what does not go by that (a worker pool now and then) is killed with all below it."""
    some = list(processes)
    for process in some:
        process.terminate()
    for process in some:
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            for one in [*psutil.Process(process.pid).children(recursive=True), process]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()
            process.wait()

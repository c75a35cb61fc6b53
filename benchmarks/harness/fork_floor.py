"""The floor of a worker group's start: import what a launcher imports, fork N processes, one Redis write in each.

Usage: fork_floor.py SOCKET KEY N. Each child adds a lease to the sorted set and waits for the end of its parent.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time

import gutscore_rs_workers.workergroup  # noqa: F401 - the same modules as a launcher's
from harness.observer import command


def _child(path: str, key: str, index: int) -> None:
    server = socket.socket(socket.AF_UNIX)
    server.connect(path)
    server.sendall(command("ZADD", key, f"{time.time() + 100:.6f}", str(index)))
    server.recv(100)
    signal.pause()


def main() -> None:
    """Fork, then wait for a signal."""
    path, key, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    children = []
    for index in range(count):
        pid = os.fork()
        if not pid:
            _child(path, key, index)
        children.append(pid)
    sys.stdin.read()
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


if __name__ == "__main__":
    main()

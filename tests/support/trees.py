"""Processes that tasks start and that do what they can to stay; each writes its pid into a file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

SLEEP = 300
# How a process may be started; the words are what :func:`_be` understands.
KINDS = {
    "a child with a child of its own": "child",
    "in its own session": "session child",
    "deaf to signals": "session deaf",
    "stopped": "stopped",
    "a daemon: forked twice, own session, no descriptors": "daemon",
    "without our environment": "bare",
    "without our environment, in its own session": "bare session child",
    "without our environment, forked twice, own session": "bare twice",
    "a daemon without our environment": "bare daemon",
    "a daemon's child without our environment": "bare daemon child",
}


def plant(file: str, *ways: str) -> int:
    """A task: start a process in each way, and wait until all have written their pids."""
    expected = 0
    for way in ways:
        words = way.split()
        env = {} if "bare" in words else None
        subprocess.Popen([sys.executable, "-S", __file__, file, *words], env=env, start_new_session="session" in words)
        expected += 1 + ("child" in words)
    ends = time.monotonic() + 20
    while len(pids(file)) < expected and time.monotonic() < ends:
        time.sleep(0.01)
    return os.getpid()


def pids(file: str) -> list[int]:
    return [int(word) for word in Path(file).read_text().split()] if Path(file).exists() else []


def _be(file: str, words: list[str]) -> None:
    if "daemon" in words or "twice" in words:
        if os.fork():
            os._exit(0)
        os.setsid()
        if os.fork():
            os._exit(0)
    if "daemon" in words:
        os.chdir("/")
        for descriptor in range(3):
            os.close(descriptor)
            os.open(os.devnull, os.O_RDWR)
    if "deaf" in words:
        for signum in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}:
            signal.signal(signum, signal.SIG_IGN)
    if "child" in words and os.fork() == 0:
        os.setsid()
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(descriptor, f"{os.getpid()} ".encode())
    os.close(descriptor)
    if "stopped" in words:
        os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(SLEEP)


if __name__ == "__main__":
    _be(sys.argv[1], sys.argv[2:])

"""Functions that tests run as tasks on real workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def square(x: int) -> int:
    return x * x


def pid() -> int:
    return os.getpid()


def sleep(seconds: float, mark: str = "") -> str:
    """Sleep; with ``mark`` a line is appended to that file at the begin and at the end."""
    if mark:
        with Path(mark).open("a") as stream:
            stream.write(f"begin {os.getpid()}\n")
    time.sleep(seconds)
    if mark:
        with Path(mark).open("a") as stream:
            stream.write(f"end {os.getpid()}\n")
    return "slept"


def sleep_less_again(first: float, later: float, mark: str) -> str:
    """As :func:`sleep`, with another length from the second run on."""
    return sleep(later if Path(mark).exists() else first, mark)


def kill_myself(signum: int = signal.SIGKILL) -> None:
    os.kill(os.getpid(), signum)


def fail(text: str = "on purpose") -> None:
    raise ValueError(text)


def environment(*names: str) -> dict[str, str | None]:
    return {name: os.environ.get(name) for name in names}


def affinity() -> list[int]:
    return sorted(os.sched_getaffinity(0))


def random_numbers() -> tuple[float, float]:
    """One number of each generator that a scientist uses without seeding it."""
    import random

    import numpy as np

    return random.random(), float(np.random.random())


def start_offspring(file: str, *, own_session: bool = True) -> int:
    """Start a process that starts a process, both meant to outlive the task; their pids go to ``file``."""
    code = (
        "import os, subprocess, sys, time;"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)'], start_new_session=True);"
        f"open({file!r}, 'a').write(f'{{os.getpid()}} {{child.pid}} ');"
        "time.sleep(300)"
    )
    subprocess.Popen([sys.executable, "-c", code], start_new_session=own_session)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and not (Path(file).exists() and len(Path(file).read_text().split()) >= 2):
        time.sleep(0.01)
    return os.getpid()


def spin(seconds: float) -> float:
    """Keep the CPU busy."""
    until, x = time.monotonic() + seconds, 0.0
    while time.monotonic() < until:
        x += 1.0
    return x


def end_process(code: int) -> None:
    """End the process without a word."""
    os._exit(code)


def leave(code: int) -> None:
    sys.exit(code)


def hang_in_c(seconds: float) -> None:
    """As C code that no Python signal handler interrupts: every signal that can be blocked is."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    time.sleep(seconds)


def swallow_everything(seconds: float) -> None:
    """As code that catches whatever is raised in it and goes on."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            time.sleep(0.05)
        except BaseException:
            continue


def leave_proof(*_args: object) -> None:
    """A callback that shows that it was called."""
    Path(os.environ["GUTSCORE_TEST_PROOF"]).touch()


def sleep_and_fail(seconds: float, mark: str) -> None:
    sleep(seconds, mark)
    fail()


def with_pid(function: Callable[..., Any], *args: Any) -> tuple[int, Any]:
    """A function's value with the worker that ran it; long enough for others to be woken too."""
    value = function(*args)
    time.sleep(0.1)
    return os.getpid(), value


def leave_mark(file: str, seconds: float) -> None:
    """Show that the job was begun, then take a while."""
    Path(file).touch()
    time.sleep(seconds)


def fork_for_ever(file: str) -> None:
    """A process that forks and ends, for ever: its pid is another one each time it is looked for."""
    if os.fork():
        time.sleep(300)
    os.setsid()
    while True:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(descriptor, f"{os.getpid()} ".encode())
        os.close(descriptor)
        if os.fork():
            os._exit(0)
        time.sleep(0.002)


def say(text: str) -> None:
    """Print, and see that it is out."""
    print(text, flush=True)

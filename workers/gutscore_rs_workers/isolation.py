"""A process of its own for each job: for code that leaks, or crashes, or leaves its interpreter in disorder.

A fork costs a millisecond or two. What the job returns or raises comes back through a pipe; what kills its process
costs this job and no other, and is told as what it was.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import time
import traceback
from collections.abc import Callable
from typing import Any

from gutscore_rs.calls import dumps_anything
from gutscore_rs.errors import RemoteTracebackError, TaskFailedError, WorkerLostError
from gutscore_rs.processes import die_with_parent
from gutscore_rs_workers.children import End, how_it_ended, oom_kills, run_and_exit

VALUE, ERROR = b"V", b"E"
_CHUNK = 1 << 20


def perform_apart(perform: Callable[[], Any], *, seconds: float | None, stand_in: Callable[[Exception], Any]) -> Any:
    """Run in a forked process.

    Args:
        perform: The job.
        seconds: When its process is killed; None: never.
        stand_in: What to return for a value that cannot be pickled, or raises.

    Returns:
        What it returned.

    Raises:
        WorkerLostError: Its process died; the message says of what.
        Exception: What the job raised, with its traceback as the cause.
    """
    kills, parent = oom_kills(), os.getpid()
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(reader)
        run_and_exit(lambda: _live(perform, writer, parent, stand_in))
    os.close(writer)
    status = None
    try:
        answer = _read(reader, pid, None if seconds is None else time.monotonic() + seconds)
        _, status, usage = os.wait4(pid, 0)
    finally:
        os.close(reader)
        # Cut by a signal, or done: nothing of its process group stays.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        if status is None:
            os.waitpid(pid, 0)
    kind, content = answer[:1], answer[1:]
    if os.waitstatus_to_exitcode(status) or kind not in (VALUE, ERROR):
        end = End(status, usage.ru_maxrss, oom_kills() > kills)
        raise WorkerLostError(f"The job's own process (pid {pid}) {how_it_ended(end)}.")
    if kind == VALUE:
        return pickle.loads(content)  # noqa: S301 - from our own fork
    error, text = pickle.loads(content)  # noqa: S301 - as above
    error.__cause__ = RemoteTracebackError(text)
    raise error


def _live(perform: Callable[[], Any], writer: int, parent: int, stand_in: Callable[[Exception], Any]) -> int:
    os.setpgid(0, 0)
    die_with_parent(parent)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        value = perform()
        try:
            answer = VALUE + dumps_anything(value)
        except Exception as error:  # noqa: BLE001 - pickling runs the job's code
            answer = VALUE + dumps_anything(stand_in(error))
    except BaseException as error:  # noqa: BLE001 - a job may raise anything
        answer = ERROR + _dump_error(error)
    with open(writer, "wb") as pipe:
        pipe.write(answer)
    return 0


def _dump_error(error: BaseException) -> bytes:
    text = "".join(traceback.format_exception(error))
    error.__traceback__ = error.__cause__ = error.__context__ = None
    try:
        dumped = dumps_anything((error, text))
        pickle.loads(dumped)  # noqa: S301 - see whether the other side can
    except Exception:  # noqa: BLE001 - an exception class of its own making
        return dumps_anything((TaskFailedError(f"{type(error).__name__}: {error}"), text))
    return dumped


def _read(reader: int, pid: int, ends: float | None) -> bytes:
    """Everything that comes until the process ends, or is killed for taking too long."""
    parts: list[bytes] = []
    while True:
        left = None if ends is None else max(0.0, ends - time.monotonic())
        ready, _, _ = select.select([reader], [], [], left)
        if not ready:
            os.kill(pid, signal.SIGKILL)
            ends = None
            continue
        part = os.read(reader, _CHUNK)
        if not part:
            return b"".join(parts)
        parts.append(part)

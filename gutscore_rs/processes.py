"""Starting, signalling and ending processes, by identity and never by a bare pid or name."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from gutscore_rs.identity import LINUX, ProcessIdentity, is_alive, process_stat

if not LINUX:
    import psutil

# Whatever a launch starts inherits this variable; so its offspring is found wherever it went.
MARK = "GUTSCORE_RS_MARK"
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


def start_detached(argv: Sequence[str], *, log: Path, env: Mapping[str, str], cwd: Path) -> int:
    """Start a process that outlives this one: own session, no terminal, output appended to ``log`` (mode 0600).

    Returns:
        Its pid.

    Raises:
        OSError: It cannot be started, or the log cannot be written.
    """
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=descriptor, stderr=descriptor,
                                   env=dict(env), cwd=cwd, start_new_session=True, close_fds=True)
    finally:
        os.close(descriptor)
    # It is watched by identity; Popen would warn about a child that nobody waited for.
    process.returncode = 0
    return process.pid


def send_signal(identity: ProcessIdentity, signum: int) -> bool:
    """Signal a process; False when it is gone. A reused pid is never hit where there are pidfds (pidfd_open(2))."""
    try:
        if not hasattr(os, "pidfd_open"):
            if not is_alive(identity):
                return False
            os.kill(identity.pid, signum)
            return True
        descriptor = os.pidfd_open(identity.pid)
        try:
            # Judged after opening: the descriptor now stands for whoever has the pid.
            if not is_alive(identity):
                return False
            signal.pidfd_send_signal(descriptor, signum)
        finally:
            os.close(descriptor)
    except ProcessLookupError:
        return False
    return True


def _reap(pid: int) -> None:
    """Take a zombie of our own off the process table."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def wait_gone(identities: Iterable[ProcessIdentity], timeout: float) -> list[ProcessIdentity]:
    """Wait for processes to end; those that did not. Zombies have ended."""
    ends, left = time.monotonic() + timeout, list(identities)
    while True:
        left = [identity for identity in left if is_alive(identity)]
        rest = ends - time.monotonic()
        if not left or rest <= 0:
            return left
        _wait_for_one(left[0], min(rest, 0.5))


def _wait_for_one(identity: ProcessIdentity, seconds: float) -> None:
    if hasattr(os, "pidfd_open"):
        with contextlib.suppress(ProcessLookupError):
            descriptor = os.pidfd_open(identity.pid)
            try:
                poll = select.poll()
                poll.register(descriptor, select.POLLIN)
                poll.poll(seconds * 1000)
            finally:
                os.close(descriptor)
    else:
        time.sleep(min(seconds, 0.02))


def stop(identity: ProcessIdentity, *, grace: float, kill_wait: float = 5.0) -> bool:
    """TERM, wait ``grace`` seconds, KILL, wait: whether it is gone."""
    if send_signal(identity, signal.SIGTERM):
        if (stat := process_stat(identity.pid)) and stat[0] in "Tt":
            # A stopped process takes no TERM until it goes on.
            send_signal(identity, signal.SIGCONT)
        if wait_gone([identity], grace):
            send_signal(identity, signal.SIGKILL)
            wait_gone([identity], kill_wait)
    _reap(identity.pid)
    return not is_alive(identity)


def _pids() -> list[int]:
    if LINUX:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return list(psutil.pids())


def _mark_of(pid: int) -> str | None:
    if LINUX:
        try:
            # surrogateescape: a foreign environment may hold any bytes.
            block = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            return None
        start = f"{MARK}=".encode()
        found = next((entry for entry in block.split(b"\0") if entry.startswith(start)), None)
        return os.fsdecode(found[len(start):]) if found is not None else None
    try:
        mark = psutil.Process(pid).environ().get(MARK)
        return str(mark) if mark is not None else None
    except (psutil.Error, OSError):
        return None


def marked_processes(value: str, *, prefix: bool = False) -> list[int]:
    """Living processes, other than this one, that were started with the mark (or one that starts with it)."""
    found = []
    for pid in _pids():
        mark = _mark_of(pid) if pid != os.getpid() else None
        if mark is not None and (mark.startswith(value) if prefix else mark == value):
            stat = process_stat(pid)
            if stat is not None and stat[0] not in "ZX":
                found.append(pid)
    return found


def kill_marked(value: str, *, prefix: bool = False, timeout: float = 5.0) -> list[int]:
    """Kill every process with the mark, whatever session it went to; those that survive.

    In rounds, each stopping all before it kills: a process that forks faster than it is found must lose.
    """
    ends = time.monotonic() + timeout
    found = marked_processes(value, prefix=prefix)
    while found and time.monotonic() < ends:
        for signum in (signal.SIGSTOP, signal.SIGKILL):
            for pid in found:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signum)
        for pid in found:
            _reap(pid)
        found = marked_processes(value, prefix=prefix)
        if found:
            time.sleep(0.005)
    return found


def session_members(sid: int) -> list[int]:
    """Processes of a session, zombies left out."""
    members = []
    for pid in _pids():
        stat = process_stat(pid)
        if stat is not None and stat[1] == sid and stat[0] not in "ZX":
            members.append(pid)
    return members


def _prctl(option: int, value: int) -> bool:
    if not LINUX:
        return False
    return bool(ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) == 0)


def become_subreaper() -> bool:
    """Inherit orphaned descendants instead of init (prctl(2)); False where that does not exist (macOS)."""
    return _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(expected_parent: int, signum: int = signal.SIGKILL) -> bool:
    """Be killed when the parent dies (prctl(2)); False where that does not exist (macOS).

    The parent may have died before the call: then this process ends here.
    """
    done = _prctl(_PR_SET_PDEATHSIG, int(signum))
    if os.getppid() != expected_parent:
        os._exit(1)
    return done

"""A spare launcher: it has imported everything and waits for orders, so that a set comes up without a Python start.

The provisioner keeps one, started before its own imports: both import side by side. It gives it to one operation, which
sends the orders of a launch (arguments, environment, folder, log). The spare then becomes that launcher, and lives and
dies like any other. A spare without orders ends when its provisioner does: its end of the socket closes. Where there
is none (macOS, a description with an environment of its own, many requests at once) a launcher is started from scratch.

This module loads nothing but the standard library: it is imported before everything else.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

WAIT = "--wait-for-orders"
TAKEN = b"taken"
# A spare that does not answer within this time is stopped or hung; a launcher is started instead of it.
ANSWER_SECONDS = 1.0
_MOST_BYTES = 1 << 20
# Room for the mark of a launch behind that of the case.
_ROOM = 128
# proc(5), /proc/pid/stat: fields 50 and 51, counted from field 3 behind the program's name.
_ENV_START, _ENV_END = 47, 48


@dataclass(frozen=True, slots=True)
class Spare:
    """A process that waits for orders.

    Attributes:
        pid: Its pid, a child of the provisioner's.
        control: Where the orders go; closing it ends a spare that has none.
    """

    pid: int
    control: socket.socket

    def order(self, argv: Sequence[str], *, mark: str, env: Mapping[str, str], cwd: Path, log: Path) -> bool:
        """Make it a launcher; False when it does not take the orders: then it is to be ended.

        Args:
            argv: The launcher's arguments.
            mark: The mark of the launch (``processes.MARK``).
            env: Its whole environment.
            cwd: Its folder.
            log: Where its output goes.
        """
        orders = {"argv": list(argv), "mark": mark, "env": dict(env), "cwd": str(cwd), "log": str(log)}
        self.control.settimeout(ANSWER_SECONDS)
        try:
            self.control.send(json.dumps(orders).encode())
            return self.control.recv(len(TAKEN)) == TAKEN
        except OSError:
            return False

    def close(self) -> None:
        """Let go of it."""
        self.control.close()


def start_spare(module: str, mark_name: str, case_root: Path) -> Spare | None:
    """Start a spare; None where there can be none.

    Args:
        module: The launcher's module.
        mark_name: Name of the environment variable that marks a case's processes.
        case_root: The case's folder; whoever sweeps the case finds the spare by it.
    """
    if sys.platform != "linux":
        return None
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    mark = f"{case_root}:spare"
    with theirs:
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", module, WAIT, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                env=dict(os.environ) | {mark_name: mark + "/" * _ROOM},
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        except OSError:
            ours.close()
            return None
    # The provisioner waits for all its children itself.
    process.returncode = 0
    return Spare(process.pid, ours)


def wait_for_orders(descriptor: int, mark_name: str) -> list[str] | None:
    """In the spare: wait, then take the place that the orders say.

    Returns:
        The launcher's arguments; None when there will be no orders.
    """
    with socket.socket(fileno=descriptor) as control:
        try:
            message = control.recv(_MOST_BYTES)
        except OSError:
            message = b""
        if not message:
            return None
        orders = json.loads(message)
        if not remark(mark_name, orders["mark"]):
            return None
        os.environ.clear()
        os.environ.update(orders["env"] | {mark_name: orders["mark"]})
        os.chdir(orders["cwd"])
        _redirect(orders["log"])
        control.send(TAKEN)
    return list(orders["argv"])


def _redirect(log: str) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for standard in (1, 2):
        os.dup2(descriptor, standard)
    os.close(descriptor)


def remark(name: str, value: str) -> bool:
    """Overwrite a variable in the environment block that /proc/pid/environ shows to others (proc(5)).

    The block is this process's own memory, and the kernel reads it from there; setenv(3) does not reach it. So a
    process can be found by a mark that it got after its start.

    Returns:
        False when the variable is not in the block, or its room is too small.
    """
    with contextlib.suppress(OSError, ValueError, IndexError):
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        start, end = int(fields[_ENV_START]), int(fields[_ENV_END])
        block = b"\0" + ctypes.string_at(start, end - start)
        at = block.find(b"\0" + name.encode() + b"=")
        if at < 0:
            return False
        # The block began one byte later than our copy: the offsets of the value are the same as behind "=".
        first = at + len(name.encode()) + 1
        room = block.index(b"\0", first + 1) - 1 - first
        new = os.fsencode(value)
        if len(new) > room:
            return False
        ctypes.memmove(start + first, new.ljust(room, b"\0"), room)
        return True
    return False

"""What others see of this process: its command line and its environment in /proc, overwritten in place (proc(5)).

Both are this process's own memory, which the kernel reads when somebody asks; neither setenv(3) nor ``sys.argv`` reach
it. So a process that was forked, and never executed a program of its own, can be told from its parent in ``ps``, and
can be found by a mark that it got after its start. Elsewhere than on Linux nothing happens.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Mapping
from pathlib import Path

# proc(5), /proc/pid/stat: fields 48 to 51, counted from field 3 behind the program's name.
_ARGUMENTS, _ENVIRONMENT = (45, 46), (47, 48)


def _block(fields: tuple[int, int]) -> tuple[int, int]:
    """Where a block begins and ends; nothing (0, 0) where that cannot be known."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, ValueError, IndexError):
            stat = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
            return int(stat[fields[0]]), int(stat[fields[1]])
    return 0, 0


def retitle(title: str) -> None:
    """Show this text as the command line, cut to the room that the first one had."""
    start, end = _block(_ARGUMENTS)
    room = end - start
    if room > 0:
        ctypes.memmove(start, os.fsencode(title)[: room - 1].ljust(room, b"\0"), room)


def take_environment(env: Mapping[str, str], first: str) -> bool:
    """Make this the environment, and show it: the variable ``first``, then what else has room.

    Returns:
        False when not even the first has room; the environment is the new one all the same.
    """
    os.environ.clear()
    os.environ.update(env)
    # From here on nothing points into the old block: the new values are copies (setenv(3)).
    start, end = _block(_ENVIRONMENT)
    room = end - start
    names = [first, *(name for name in env if name != first)]
    shown = [os.fsencode(f"{name}={env[name]}") + b"\0" for name in names]
    while shown and sum(map(len, shown)) > room:
        shown.pop()
    if room > 0:
        ctypes.memmove(start, b"".join(shown).ljust(room, b"\0"), room)
    return bool(shown)

"""Memory that a launcher and its workers share: cursors and the end of the lease.

Redis cannot know which of a dead worker's claimed jobs was really running, and asking it before each job
would cost a round trip. So each worker writes a *cursor* into memory that survives it, and the launcher reads it
(rulings 3). The launcher writes there until when its workers may claim, and whether they must drain.

A cursor has two halves; the writer fills the unused one, then flips a byte. A worker killed at any
instruction leaves a whole old or a whole new cursor. Times are ``time.monotonic()``, which all processes
of a host share.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass

_LEASE = struct.Struct("<d")  # at 0; whether to drain: a byte at 8; the end of all work, as the lease, at 16
_CURSOR = struct.Struct("<32sdB")  # execution, hard deadline, endless
_HALF = 48
_SLOT = 128  # flip byte at 0, halves at 16 and 64
_FIRST = 64


@dataclass(frozen=True, slots=True)
class Cursor:
    """What a worker is running.

    Attributes:
        execution: Execution id of the job that was begun; empty: none.
        deadline: Monotonic second after which the worker is beyond its job's timeout; 0: none.
        endless: Whether the job has no timeout.
    """

    execution: str = ""
    deadline: float = 0.0
    endless: bool = False


class SharedMemory:
    """One block per launcher, inherited by fork."""

    def __init__(self, nworkers: int) -> None:
        self._map = mmap.mmap(-1, _FIRST + nworkers * _SLOT)

    def set_lease_end(self, moment: float) -> None:
        """Launcher: until when (monotonic) its workers may claim."""
        self._map[0:8] = _LEASE.pack(moment)

    @property
    def lease_end(self) -> float:
        """Worker: see :meth:`set_lease_end`."""
        # One copy of eight aligned bytes, as the launcher writes them: unpack_from() would take them one by one.
        return float(_LEASE.unpack(self._map[0:8])[0])

    def set_work_end(self, moment: float) -> None:
        """Launcher: when (monotonic) the set's runtime is over."""
        self._map[16:24] = _LEASE.pack(moment)

    @property
    def work_end(self) -> float:
        """Worker: see :meth:`set_work_end`; 0.0: not known."""
        return float(_LEASE.unpack(self._map[16:24])[0])

    def set_draining(self) -> None:
        """Launcher: nobody may claim any more."""
        self._map[8] = 1

    @property
    def draining(self) -> bool:
        """Worker: see :meth:`set_draining`."""
        return bool(self._map[8])

    def write(self, index: int, cursor: Cursor) -> None:
        """Worker: set its cursor."""
        slot = _FIRST + index * _SLOT
        other = 1 - self._map[slot]
        _CURSOR.pack_into(
            self._map, slot + 16 + other * _HALF, cursor.execution.encode(), cursor.deadline, cursor.endless
        )
        self._map[slot] = other

    def read(self, index: int) -> Cursor:
        """Launcher: a worker's cursor, also after its death."""
        slot = _FIRST + index * _SLOT
        while True:
            flip = self._map[slot]
            found = _CURSOR.unpack_from(self._map, slot + 16 + flip * _HALF)
            # A living worker that wrote twice meanwhile was at work on this very half: look again.
            if self._map[slot] == flip and found == _CURSOR.unpack_from(self._map, slot + 16 + flip * _HALF):
                break
        execution, deadline, endless = found
        return Cursor(execution.rstrip(b"\0").decode(), deadline, bool(endless))

"""Memory that a launcher and its workers share: cursors, ends of jobs not yet booked, and the end of the lease.

Redis cannot know which of a dead worker's claimed jobs was really running, and asking it before each job
would cost a round trip. So each worker writes a *cursor* into memory that survives it, and the launcher reads it
(rulings 3). What it has done and not told Redis lies there too, in its *outbox*: whatever kills it, that is booked.
The launcher writes there until when its workers may claim, whether they must drain, and which batch it took from one.

A cursor has two halves; the writer fills the unused one, then flips a byte. A worker killed at any
instruction leaves a whole old or a whole new cursor. Times are ``time.monotonic()``, which all processes
of a host share.
"""

from __future__ import annotations

import mmap
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass

import msgpack

from gutscore_rs.store import End

# At 0; whether to drain: a byte at 8; the end of all work, as the lease, at 16; who lingers, and until when, at 24.
_LEASE = struct.Struct("<d")
_LINGER = struct.Struct("<dH")
_CURSOR = struct.Struct("<32sddIHB")  # execution, hard deadline, begun at, batch, jobs behind it, endless
_BATCH = struct.Struct("<I")
_BOX = struct.Struct("<II")  # how often it was emptied, bytes in use
# In a worker's slot: flip byte at 0, batch that was taken from it at 4, jobs taken at 8, halves from 16 and 80, outbox
# from 144.
_HALF = 64
_BOX_AT = 144
_SLOT = 64 * 1024
_FIRST = 64
_ROOM = _SLOT - _BOX_AT - _BOX.size


@dataclass(frozen=True, slots=True)
class Cursor:
    """What a worker is running.

    Attributes:
        execution: Execution id of the job that was begun; empty: none.
        deadline: Monotonic second after which the worker is beyond its job's timeout; 0: none.
        endless: Whether the job has no timeout.
        begun_at: Monotonic second of its begin.
        batch: Number of the batch that the job is of.
        behind: How many jobs of the batch come after it.
    """

    execution: str = ""
    deadline: float = 0.0
    endless: bool = False
    begun_at: float = 0.0
    batch: int = 0
    behind: int = 0


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

    def begin_linger(self, index: int, until: float) -> bool:
        """Worker: wait at the queue itself until a moment (monotonic); False: another one does."""
        if self.somebody_lingers:
            return False
        self._map[24:34] = _LINGER.pack(until, index)
        return True

    def end_linger(self, index: int) -> None:
        """Worker, or launcher after its death: it does so no more."""
        if _LINGER.unpack(self._map[24:34])[1] == index:
            self._map[24:32] = _LEASE.pack(0.0)

    @property
    def somebody_lingers(self) -> bool:
        """See :meth:`begin_linger`; who was stopped or cut off meanwhile does so no longer than it said."""
        return time.monotonic() < float(_LEASE.unpack(self._map[24:32])[0])

    def write(self, index: int, cursor: Cursor) -> None:
        """Worker: set its cursor."""
        slot = _FIRST + index * _SLOT
        other = 1 - self._map[slot]
        _CURSOR.pack_into(
            self._map,
            slot + 16 + other * _HALF,
            cursor.execution.encode(),
            cursor.deadline,
            cursor.begun_at,
            cursor.batch,
            cursor.behind,
            cursor.endless,
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
        execution, deadline, begun_at, batch, behind, endless = found
        return Cursor(execution.rstrip(b"\0").decode(), deadline, bool(endless), begun_at, batch, behind)

    def take_batch(self, index: int, batch: int) -> None:
        """Launcher: the jobs of a batch that are not begun are no longer the worker's.

        Who took it waits a moment before it reads the cursor: the worker writes its cursor, then looks here, so after
        that moment it has either begun a job that the cursor shows, or seen this.
        """
        slot = _FIRST + index * _SLOT + 4
        self._map[slot : slot + 4] = _BATCH.pack(batch)

    def taken_batch(self, index: int) -> int:
        """Worker: see :meth:`take_batch`."""
        slot = _FIRST + index * _SLOT + 4
        return int(_BATCH.unpack(self._map[slot : slot + 4])[0])

    def set_jobs_done(self, index: int, jobs: int) -> None:
        """Worker: how many jobs it has taken so far."""
        slot = _FIRST + index * _SLOT + 8
        self._map[slot : slot + 4] = _BATCH.pack(jobs)

    def jobs_done(self, index: int) -> int:
        """Launcher: see :meth:`set_jobs_done`."""
        slot = _FIRST + index * _SLOT + 8
        return int(_BATCH.unpack(self._map[slot : slot + 4])[0])

    def reset(self, index: int) -> None:
        """Launcher: a new worker gets the slot."""
        slot = _FIRST + index * _SLOT
        self._map[slot : slot + _BOX_AT + _BOX.size] = bytes(_BOX_AT + _BOX.size)

    # -- the outbox -----------------------------------------------------------------------------------------

    def put_end(self, index: int, end: End) -> bool:
        """Worker: a job ended; False: the outbox has no room for it."""
        at = _FIRST + index * _SLOT + _BOX_AT
        emptied, used = _BOX.unpack(self._map[at : at + _BOX.size])
        if len(end.result) > _ROOM:
            return False
        packed = msgpack.packb(end)
        if used + len(packed) > _ROOM:
            return False
        start = at + _BOX.size + used
        self._map[start : start + len(packed)] = packed
        self._map[at : at + _BOX.size] = _BOX.pack(emptied, used + len(packed))
        return True

    def clear_ends(self, index: int) -> None:
        """Worker: all ends are booked."""
        at = _FIRST + index * _SLOT + _BOX_AT
        emptied, _ = _BOX.unpack(self._map[at : at + _BOX.size])
        self._map[at : at + _BOX.size] = _BOX.pack((emptied + 1) & 0xFFFFFFFF, 0)

    def ends(self, index: int) -> Sequence[End]:
        """Launcher: what a worker has done and perhaps not told, also after its death."""
        at = _FIRST + index * _SLOT + _BOX_AT
        head = self._map[at : at + _BOX.size]
        used = _BOX.unpack(head)[1]
        packed = self._map[at + _BOX.size : at + _BOX.size + used]
        # Emptied meanwhile: it told them itself. More may have come: of no concern.
        if self._map[at : at + 4] != head[:4]:
            return []
        unpacker = msgpack.Unpacker()
        unpacker.feed(packed)
        return [End(*fields) for fields in unpacker]

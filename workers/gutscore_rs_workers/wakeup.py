"""Signals for a loop with a selector: they arrive as bytes in a pipe, and no handler interrupts anything."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from types import FrameType


def wake_on(signums: Iterable[int]) -> int:
    """Have signals written into a pipe, each as a byte with its number (``signal.set_wakeup_fd``).

    Returns:
        The end to read from; it does not block.
    """
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for signum in signums:
        signal.signal(signum, _noted)
    return reader


def _noted(_signum: int, _frame: FrameType | None) -> None:
    """The pipe carries the number; but without a handler of Python's nothing would be written."""

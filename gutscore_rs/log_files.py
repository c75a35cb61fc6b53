"""Log files with a cap: a task that prints in a loop must not fill the disk of its host."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

CAP_BYTES = 64_000_000
# Seconds between two looks.
LOOK_SECONDS = 30.0


def cap_logs(folder: Path, limit: int = CAP_BYTES) -> list[Path]:
    """Move the content of logs beyond the limit to ``<name>.1``, replacing what was there.

    The writers have the files open for appending and go on with the emptied file (logrotate(8): copytruncate); lines
    that are written between copy and emptying are lost. Problems are left for the next look.

    Args:
        folder: Where the logs are.
        limit: Bytes of one file.

    Returns:
        The files that were emptied.
    """
    emptied = []
    for file in folder.glob("*.log"):
        with contextlib.suppress(OSError):
            if file.stat().st_size > limit:
                _copy(file, file.with_name(f"{file.name}.1"), limit)
                os.truncate(file, 0)
                emptied.append(file)
    return emptied


def _copy(source: Path, target: Path, limit: int) -> None:
    """The last ``limit`` bytes; on a full disk nothing is kept, for room is what is needed then."""
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with source.open("rb") as reader, os.fdopen(descriptor, "wb") as writer, contextlib.suppress(OSError):
        reader.seek(-limit, os.SEEK_END)
        shutil.copyfileobj(reader, writer)

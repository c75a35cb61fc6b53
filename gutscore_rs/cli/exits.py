"""Exit codes, one table; the names are those of sysexits.h."""

from __future__ import annotations

from gutscore_rs.errors import (
    CapacityError,
    ConfigError,
    DriverError,
    GutscoreError,
    NoProvisionerError,
    ReleaseError,
    RequestError,
    ServerError,
    SlurmError,
    SlurmRefusedError,
    StateConflictError,
    StateFolderError,
    StoreError,
    WorkersNotReadyError,
)

EXIT_FAILED = 1
EXIT_DATAERR, EXIT_UNAVAILABLE, EXIT_SOFTWARE, EXIT_CANTCREAT, EXIT_TEMPFAIL = 65, 69, 70, 73, 75
EXIT_INTERRUPTED = 130

_CODES: tuple[tuple[type[GutscoreError], int], ...] = (
    (ConfigError, EXIT_DATAERR),
    (CapacityError, EXIT_DATAERR),
    (StateConflictError, EXIT_TEMPFAIL),
    (StoreError, EXIT_UNAVAILABLE),
    (NoProvisionerError, EXIT_UNAVAILABLE),
    (ServerError, EXIT_UNAVAILABLE),
    (SlurmRefusedError, EXIT_DATAERR),
    (SlurmError, EXIT_UNAVAILABLE),
    (StateFolderError, EXIT_CANTCREAT),
    (WorkersNotReadyError, EXIT_TEMPFAIL),
    (ReleaseError, EXIT_TEMPFAIL),
    (RequestError, EXIT_FAILED),
    (DriverError, EXIT_FAILED),
)


def exit_code_of(error: GutscoreError) -> int:
    """The documented exit code of an error."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), EXIT_SOFTWARE)

"""N workers for T minutes on a laptop or on Slurm, counted exactly and released for certain.

Names are imported when they are first used, so that a worker's ``import gutscore_rs.store`` does not load
what only a description needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gutscore_rs.errors import (
        AccessError,
        CallRefusedError,
        CapacityError,
        ConfigError,
        DependencyError,
        DriverError,
        DurationError,
        ExecutorBrokenError,
        GutscoreError,
        NoProvisionerError,
        OperationRefusedError,
        PayloadTooLargeError,
        ReleaseError,
        RemoteTracebackError,
        RequestError,
        ResourceSetError,
        SerializationError,
        ServerError,
        SlurmError,
        SlurmMissingError,
        SlurmRefusedError,
        SlurmUnavailableError,
        StateConflictError,
        StateFolderError,
        StoreError,
        StoreUnavailableError,
        StoreUnsuitableError,
        TaskError,
        TaskFailedError,
        TaskTimeoutError,
        WalltimeError,
        WorkerLostError,
        WorkersNotReadyError,
    )
    from gutscore_rs.executor import Executor
    from gutscore_rs.resource_set import ResourceSetBaseclass, ResourceSetLocal, ResourceSetSlurm

__version__ = "0.1.0"

__all__ = [
    "AccessError",
    "CallRefusedError",
    "CapacityError",
    "ConfigError",
    "DependencyError",
    "DriverError",
    "DurationError",
    "Executor",
    "ExecutorBrokenError",
    "GutscoreError",
    "NoProvisionerError",
    "OperationRefusedError",
    "PayloadTooLargeError",
    "ReleaseError",
    "RemoteTracebackError",
    "RequestError",
    "ResourceManager",
    "ResourceSetBaseclass",
    "ResourceSetError",
    "ResourceSetLocal",
    "ResourceSetSlurm",
    "SerializationError",
    "ServerError",
    "SlurmError",
    "SlurmMissingError",
    "SlurmRefusedError",
    "SlurmUnavailableError",
    "StateConflictError",
    "StateFolderError",
    "StoreError",
    "StoreUnavailableError",
    "StoreUnsuitableError",
    "TaskError",
    "TaskFailedError",
    "TaskTimeoutError",
    "WalltimeError",
    "WorkerLostError",
    "WorkersNotReadyError",
    "__version__",
]

_HOMES = {
    "Executor": "gutscore_rs.executor",
    "ResourceManager": "gutscore_rs.manager",
    "ResourceSetBaseclass": "gutscore_rs.resource_set",
    "ResourceSetLocal": "gutscore_rs.resource_set",
    "ResourceSetSlurm": "gutscore_rs.resource_set",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES.get(name, "gutscore_rs.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

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
        CapacityError,
        ConfigError,
        DriverError,
        DurationError,
        GutscoreError,
        NoProvisionerError,
        OperationRefusedError,
        ReleaseError,
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
        WorkerLostError,
        WorkersNotReadyError,
    )
    from gutscore_rs.resource_set import ResourceSetBaseclass, ResourceSetLocal, ResourceSetSlurm

__version__ = "0.1.0"

__all__ = [
    "AccessError",
    "CapacityError",
    "ConfigError",
    "DriverError",
    "DurationError",
    "GutscoreError",
    "NoProvisionerError",
    "OperationRefusedError",
    "ReleaseError",
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
    "WorkerLostError",
    "WorkersNotReadyError",
    "__version__",
]

_HOMES = {
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

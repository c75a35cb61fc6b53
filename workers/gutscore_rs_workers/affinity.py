"""Which CPUs and GPUs a worker may use, and how many threads its libraries start."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

# What the usual numerical libraries read when they are first imported, hence set before the launcher imports anything.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
GPU_VARIABLES = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")


def thread_environment(cpus_per_worker: int | None) -> dict[str, str]:
    """Thread counts for libraries: one thread per CPU of the worker."""
    return dict.fromkeys(THREAD_VARIABLES, str(cpus_per_worker or 1))


def available_cpus() -> list[int]:
    """CPUs that this process may run on, in order; where the system has no affinity (macOS), all of them."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def available_gpus(environ: Mapping[str, str]) -> list[str]:
    """GPU names that this process may use: an inherited list (Slurm sets one) rules, else what the driver shows."""
    for variable in GPU_VARIABLES:
        if variable in environ:
            return [name for name in environ[variable].split(",") if name and name != "-1"]
    nvidia = Path("/proc/driver/nvidia/gpus")
    return [str(index) for index, _ in enumerate(nvidia.iterdir())] if nvidia.is_dir() else []


def share(items: Sequence[str], index: int, size: int) -> list[str]:
    """The part of worker ``index``: ``size`` items, going round when there are too few (oversubscription)."""
    if not items:
        return []
    first = index * size
    return [items[(first + offset) % len(items)] for offset in range(min(size, len(items)))]


def bind_cpus(cpus: Sequence[str]) -> None:
    """Bind this process; nothing where the system has no affinity."""
    if cpus and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(cpu) for cpu in cpus})


def gpu_environment(gpus: Sequence[str]) -> dict[str, str]:
    """Make exactly these GPUs visible."""
    return dict.fromkeys(GPU_VARIABLES, ",".join(gpus))

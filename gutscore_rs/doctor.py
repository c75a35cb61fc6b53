"""What is missing on this host, and how to get it; with a case, also what is wrong with it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from gutscore_rs.case import Case
from gutscore_rs.embedded.binary import server_binary
from gutscore_rs.errors import GutscoreError
from gutscore_rs.overview import Overview
from gutscore_rs.paths import StateFolder
from gutscore_rs.settings import Settings
from gutscore_rs.store.keys import is_cluster

# Redis keeps 32 descriptors for itself (redis.conf, maxclients).
SERVER_RESERVE = 32
PACKAGES = ("gutscore_rs", "rq", "redis", "hiredis", "msgpack", "pydantic")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        level: ``ok``, ``note`` (works, but know it) or ``problem``.
        text: What was found, and what to do.
    """

    level: str
    topic: str
    text: str


def examine_host(settings: Settings) -> Iterator[Finding]:
    """Look at this host."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    yield Finding(
        "ok", "python", f"{platform.python_version()} on {platform.system()} {platform.machine()}; {versions}"
    )
    if platform.system() != "Linux":
        yield Finding(
            "note",
            "system",
            "not Linux: workers are not bound to CPUs, and a worker that runs a task notices a "
            "killed launcher only when the task ends (docs/operations.md)",
        )
    yield _checked("state folder", lambda: str(StateFolder.open(settings).root))
    yield _checked("socket", lambda: str(StateFolder.open(settings).case("doctor").socket))
    yield _checked("embedded server", lambda: str(server_binary()))
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield Finding("ok", "capacity", f"{cpus} CPUs; open files {soft} (hard limit {hard})")
    slurm = [name for name in ("sbatch", "squeue", "scancel", "srun") if shutil.which(name)]
    if slurm:
        yield Finding("ok", "slurm", f"found {', '.join(slurm)}")
    else:
        yield Finding("note", "slurm", "no Slurm commands on PATH: only the local backend works from here")


def _checked(topic: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding("ok", topic, look())
    except GutscoreError as error:
        return Finding("problem", topic, str(error))


def examine_case(case: Case) -> Iterator[Finding]:
    """Look at a running case."""
    try:
        facts = case.store.inspect()
    except GutscoreError as error:
        yield Finding("problem", "redis", str(error))
        return
    yield Finding("ok", "redis", f"{facts.product} {facts.version} on {case.store.where}")
    for warning in facts.warnings:
        yield Finding("note", "redis", warning)
    yield _connections(case)
    serving = case.store.provisioners.serving(case.host)
    if serving:
        yield Finding("ok", "provisioner", f"pid {serving[0].pid} serves {case.host}")
    else:
        yield Finding("problem", "provisioner", f"none serves {case.host}: run `gutscore-rs up {case.name}`")
    clusters = [name for record in case.store.provisioners.alive() for name in record.serves if is_cluster(name)]
    if clusters and case.access.socket and not case.access.address:
        yield Finding(
            "note",
            "redis",
            f"it listens on a unix socket of this host only, and {', '.join(sorted(set(clusters)))} is served: nodes "
            "on other hosts need an address, `gutscore-rs up --bind` or bind in [redis] (docs/slurm.md)",
        )
    for text in Overview(case.store).garbage():
        yield Finding("problem", "data", text)


def _connections(case: Case) -> Finding:
    """Connections that the case's workers need, against what the server grants (rulings 30)."""
    records = case.store.sets.all()
    # Each worker has one; a launcher one and one per queue.
    needed = sum(record.expected + 1 + len(record.spec.get("queues", [])) for record in records)
    granted, used = case.store.connection_limits()
    text = f"{used} connections in use, the workers need about {needed}, the server grants {granted}"
    if needed + SERVER_RESERVE > granted:
        return Finding("problem", "connections", f"{text}: raise maxclients (and the server's `ulimit -n`)")
    return Finding("ok", "connections", text)

"""What a cluster can hold, and what a description asks that it never can.

Slurm takes a job that is longer than its partition's MaxTime, or has more nodes than there are, and lets it wait for
ever (22.05 with EnforcePartLimits unset: tried). So this is checked before anything is submitted.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from gutscore_rs.durations import MINUTE, format_slurm_time, parse_slurm_time
from gutscore_rs.errors import DurationError, SlurmUnavailableError

_SETTING = re.compile(r"^(\w+) *= (.*?) *$", re.MULTILINE)
_PAIR = re.compile(r"(\w+)=(\S*)")
_DEFAULT_MAX_ARRAY_SIZE = 1001


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition.

    Attributes:
        name: Its name.
        is_default: Whether jobs that name none go there.
        max_time: Longest time limit of a job, seconds; None: no limit.
        max_nodes: Most nodes of a job; None: no limit.
        nodes: Nodes that it has, in whatever state.
        cpus_per_node: CPUs of its largest node; 0: unknown.
        state: Slurm's word: UP, DOWN, DRAIN, INACTIVE.
    """

    name: str
    is_default: bool
    max_time: int | None
    max_nodes: int | None
    nodes: int
    cpus_per_node: int
    state: str


@dataclass(frozen=True, slots=True)
class ClusterLimits:
    """A cluster: its name, its Slurm's version, how large an array may be (highest index + 1), its partitions."""

    name: str
    version: tuple[int, ...]
    max_array_size: int
    partitions: tuple[Partition, ...]


def parse_limits(config: str, partitions: str, nodes: str) -> ClusterLimits:
    """Read ``scontrol show config``, ``scontrol show partition --oneliner`` and sinfo (see :data:`SINFO_FORMAT`).

    Raises:
        SlurmUnavailableError: They hold no configuration.
    """
    settings = dict(_SETTING.findall(config))
    if "SLURM_VERSION" not in settings:
        raise SlurmUnavailableError(f"`scontrol show config` printed no configuration: {config[:200]!r}")
    size = settings.get("MaxArraySize", "")
    cpus = _cpus(nodes)
    return ClusterLimits(
        name=settings.get("ClusterName", ""),
        version=tuple(int(part) for part in re.findall(r"\d+", settings["SLURM_VERSION"].partition("-")[0])),
        max_array_size=int(size) if size.isdigit() else _DEFAULT_MAX_ARRAY_SIZE,
        partitions=tuple(
            replace(found, cpus_per_node=cpus.get(found.name, 0))
            for line in partitions.splitlines()
            if (found := _partition(dict(_PAIR.findall(line)))) is not None
        ),
    )


# Partition (without the "*" of the default one) and CPUs per node; with --exact one line per kind of node, else "16+".
SINFO_FORMAT = "%R|%c"


def _cpus(text: str) -> dict[str, int]:
    most: dict[str, int] = {}
    for line in text.splitlines():
        name, _, count = line.strip().rpartition("|")
        if name and (digits := count.rstrip("+")).isdigit():
            most[name] = max(most.get(name, 0), int(digits))
    return most


def _partition(pairs: Mapping[str, str]) -> Partition | None:
    if "PartitionName" not in pairs:
        return None
    return Partition(
        name=pairs["PartitionName"],
        is_default=pairs.get("Default") == "YES",
        max_time=_time(pairs.get("MaxTime", "")),
        max_nodes=_count(pairs.get("MaxNodes", "")),
        nodes=_count(pairs.get("TotalNodes", "")) or 0,
        cpus_per_node=0,
        state=pairs.get("State", ""),
    )


def _time(text: str) -> int | None:
    try:
        return parse_slurm_time(text)
    except DurationError:
        # NONE, or what a newer version says: not ours to judge.
        return None


def _count(text: str) -> int | None:
    return int(text) if text.isdigit() else None


def check_request(spec: Mapping[str, Any], limits: ClusterLimits) -> list[str]:
    """What of a description can never run on a cluster, one sentence each; empty: nothing is known against it.

    With several partitions ("a,b") one that fits is enough. A qos may lift MaxTime and MaxNodes (sacctmgr(1), flags
    PartitionTimeLimit and PartitionMaxNodes), so those are left to Slurm when the description names one.
    """
    if not limits.partitions:
        return []
    asked = [name for name in str(spec.get("partition") or "").split(",") if name]
    known = {partition.name: partition for partition in limits.partitions}
    if unknown := [name for name in asked if name not in known]:
        return [_no_partition(name, sorted(known), limits.name) for name in unknown]
    chosen = [known[name] for name in asked] or [partition for partition in limits.partitions if partition.is_default]
    complaints = [_complaints(spec, partition) for partition in chosen]
    return [sentence for each in complaints for sentence in each] if all(complaints) else []


def _no_partition(name: str, known: list[str], cluster: str) -> str:
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5) or known
    return f"There is no partition {name!r} on cluster {cluster!r}; partition could be {', '.join(map(repr, near))}."


def _complaints(spec: Mapping[str, Any], partition: Partition) -> list[str]:
    nodes, lifted = int(spec.get("nodes") or 1), bool(spec.get("qos"))
    # sbatch rounds a time limit up to whole minutes (sbatch(1), --time).
    runtime = math.ceil(spec["runtime"] / MINUTE) * MINUTE
    out = []
    if partition.max_time is not None and runtime > partition.max_time and not lifted:
        out.append(
            f"runtime is {format_slurm_time(runtime)}, but partition {partition.name!r} ends jobs after "
            f"{format_slurm_time(partition.max_time)} (its MaxTime): Slurm would let the job wait for ever. Lower "
            "runtime in the description, or name a partition that allows more."
        )
    limit = partition.nodes if lifted or partition.max_nodes is None else min(partition.nodes, partition.max_nodes)
    if nodes > limit:
        out.append(
            f"nodes is {nodes}, but a job can have at most {limit} in partition {partition.name!r}, which has "
            f"{partition.nodes}. Lower nodes in the description, or name another partition."
        )
    return out

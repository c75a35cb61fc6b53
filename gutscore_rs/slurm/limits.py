"""What a cluster allows, and what of a description it could never run."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gutscore_rs.durations import format_duration, format_slurm_time, parse_slurm_time
from gutscore_rs.errors import DurationError

# slurm.conf(5), MaxArraySize: one more than the highest index.
DEFAULT_ARRAY_SIZE = 1001
_FIELD = re.compile(r"(?:^|\s)(\w+)=(\S*)")


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition.

    Attributes:
        max_time: Longest time limit in seconds; None: no limit.
        max_nodes: Most nodes of one job; None: no limit.
        nodes: Nodes that it has.
    """

    name: str
    is_default: bool
    max_time: int | None
    max_nodes: int | None
    nodes: int


@dataclass(frozen=True, slots=True)
class ClusterLimits:
    """What a cluster says of itself.

    Attributes:
        name: As in its configuration.
        version: Slurm's.
        max_array_size: Most tasks of one array.
        partitions: Those that its user sees.
    """

    name: str
    version: str = ""
    max_array_size: int = DEFAULT_ARRAY_SIZE
    partitions: tuple[Partition, ...] = ()


def read_config(text: str) -> ClusterLimits:
    """Limits from ``scontrol show config``, without partitions."""
    found = {
        name.strip(): value.strip() for name, sign, value in (line.partition("=") for line in text.splitlines()) if sign
    }
    size = found.get("MaxArraySize", "")
    return ClusterLimits(
        name=found.get("ClusterName", ""),
        version=found.get("SLURM_VERSION", ""),
        max_array_size=max(1, int(size)) if size.isdigit() else DEFAULT_ARRAY_SIZE,
    )


def read_partitions(text: str) -> tuple[Partition, ...]:
    """Partitions from ``scontrol --oneliner show partition``."""
    return tuple(_partition(dict(_FIELD.findall(line))) for line in text.splitlines() if "PartitionName=" in line)


def _partition(fields: Mapping[str, str]) -> Partition:
    return Partition(
        name=fields["PartitionName"],
        is_default=fields.get("Default") == "YES",
        max_time=_seconds(fields.get("MaxTime", "")),
        max_nodes=_number(fields.get("MaxNodes", "")),
        nodes=_number(fields.get("TotalNodes", "")) or 0,
    )


def _seconds(text: str) -> int | None:
    try:
        return parse_slurm_time(text)
    except DurationError:
        return None


def _number(text: str) -> int | None:
    return int(text) if text.isdigit() else None


def check_request(spec: Mapping[str, Any], limits: ClusterLimits) -> list[str]:
    """What of a description no partition that it names could ever run, one sentence each.

    Slurm takes such jobs, and lets them wait for ever (sbatch(1), ``--time``).
    """
    known = {partition.name: partition for partition in limits.partitions}
    if not known:
        return []
    asked = str(spec.get("partition") or "")
    names = asked.split(",") if asked else [name for name, one in known.items() if one.is_default]
    unknown = [name for name in names if name not in known]
    if unknown:
        near = difflib.get_close_matches(unknown[0], known, 1)
        meant = f"; did you mean {near[0]!r}?" if near else "."
        return [f"Cluster {limits.name} has no partition {unknown[0]!r} (it has: {', '.join(sorted(known))}){meant}"]
    problems = [_too_much(spec, known[name]) for name in names]
    return [problem for problem in problems if problem] if problems and all(problems) else []


def _too_much(spec: Mapping[str, Any], partition: Partition) -> str:
    runtime, nodes = int(spec["runtime"]), int(spec.get("nodes", 1))
    if partition.max_time is not None and runtime > partition.max_time:
        return (
            f"A runtime of {format_duration(runtime)} is over the limit of partition {partition.name}, "
            f"{format_slurm_time(partition.max_time)} ({format_duration(partition.max_time)}). Lower `runtime`, or name "
            "another `partition`."
        )
    most = min(partition.nodes, partition.max_nodes if partition.max_nodes is not None else partition.nodes)
    if nodes > most:
        return (
            f"{nodes} nodes are more than partition {partition.name} gives one job ({most}). Lower `nodes`, or name "
            "another `partition`."
        )
    return ""

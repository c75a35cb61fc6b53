"""Who has which CPUs and GPUs of this host: all launchers of a user share one small file, under a lock.

Entries of launchers that are gone count no more; so nothing needs to be given back after a crash.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gutscore_rs.errors import CapacityError, SerializationError
from gutscore_rs.identity import ProcessIdentity, is_alive
from gutscore_rs.paths import locked, write_private


@dataclass(frozen=True, slots=True)
class Wish:
    """What a launcher needs on this host.

    Attributes:
        label: The resource set, for messages.
        cpus: CPUs in all; 0: no binding asked for.
        gpus: GPUs in all.
        oversubscribe: Take what is there, shared if need be, instead of refusing.
    """

    label: str
    cpus: int
    gpus: int
    oversubscribe: bool = False


@dataclass(frozen=True, slots=True)
class Grant:
    """CPUs and GPUs to spread over the workers; empty where none were asked for."""

    cpus: tuple[str, ...] = ()
    gpus: tuple[str, ...] = ()


def allocate(folder: Path, owner: ProcessIdentity, wish: Wish, *, cpus: Sequence[int], gpus: Sequence[str]) -> Grant:
    """Take CPUs and GPUs that no other living launcher of this host holds.

    Args:
        folder: The state folder.
        owner: The launcher.
        wish: What it needs.
        cpus: What its affinity mask allows.
        gpus: What it may see.

    Raises:
        CapacityError: There are not enough; the message has the numbers and who holds the rest.
    """
    if not wish.cpus and not wish.gpus:
        return Grant()
    path = folder / f"allocations-{owner.host}.json"
    with locked(path.with_suffix(".lock"), timeout=10.0):
        entries = [entry for entry in _read(path) if _alive(entry) and entry["owner"] != owner.to_dict()]
        grant = Grant(
            cpus=_take("CPUs", wish.cpus, [str(cpu) for cpu in cpus], entries, wish),
            gpus=_take("GPUs", wish.gpus, list(gpus), entries, wish),
        )
        entries.append({"owner": owner.to_dict(), "label": wish.label, "CPUs": grant.cpus, "GPUs": grant.gpus})
        write_private(path, json.dumps(entries).encode())
    return grant


def _take(kind: str, wanted: int, present: list[str], entries: list[dict[str, Any]], wish: Wish) -> tuple[str, ...]:
    if not wanted:
        return ()
    taken = {item: entry["label"] for entry in entries for item in entry[kind]}
    free = [item for item in present if item not in taken]
    if wanted <= len(free):
        return tuple(free[:wanted])
    if wish.oversubscribe and present:
        return tuple((free + [item for item in present if item in taken])[:wanted])
    holders = ", ".join(sorted({taken[item] for item in present if item in taken})) or "nobody"
    raise CapacityError(
        f"{wish.label} needs {wanted} {kind}; this host lets us use {len(present)}, of which {len(free)} are free "
        f"(held by: {holders}). Ask for fewer workers or {kind} per worker, or set oversubscribe = true."
    )


def _alive(entry: dict[str, Any]) -> bool:
    try:
        return is_alive(ProcessIdentity.from_dict(entry["owner"]))
    except SerializationError:
        return False


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        entries = json.loads(path.read_bytes())
        return [entry for entry in entries if _is_entry(entry)]
    except (OSError, ValueError, TypeError, RecursionError):
        # No file yet, or garbage: the living launchers' bindings are then unknown, which is no reason to stop.
        return []


def _is_entry(entry: Any) -> bool:
    if (
        not isinstance(entry, dict)
        or not isinstance(entry.get("owner"), dict)
        or not isinstance(entry.get("label"), str)
    ):
        return False
    lists = [entry.get("CPUs"), entry.get("GPUs")]
    return all(isinstance(items, list) and all(isinstance(item, str) for item in items) for items in lists)

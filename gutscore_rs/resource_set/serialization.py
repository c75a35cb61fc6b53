"""The JSON form of a resource set.

Schema 1 is one object::

    {"schema": 1, "type": "local" | "slurm", "wgroup_id": 0, "config": {...}, "generation": 1 | null,
     "case": "name" | null, "worker_pids": [123, ...],
     "job_id": "4711" | null, "job_script": "..."}        (the last two for slurm only)

``config`` is what :meth:`gutscore_rs.config.Description.to_spec` gives. The predecessor's form, which has no
``schema``, is read as well: ``type``, ``wgroup_id`` and the keys of the description side by side.

Whatever is read may come from anybody, so it is taken apart strictly and within bounds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from gutscore_rs.config import Description, resource_description
from gutscore_rs.config.checks import finite, shown
from gutscore_rs.config.problems import Problems
from gutscore_rs.errors import ConfigError, SerializationError

SCHEMA = 1
MAX_CHARACTERS = 1_000_000
MAX_WGROUP = 2**31 - 1
MAX_PID = 2**31 - 1

_CASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", re.ASCII)
# A job, a task of an array, or a part of a heterogeneous job; never a number, since 123_4 is none.
_JOB_ID = re.compile(r"\d{1,20}(?:[_+]\d{1,10})?", re.ASCII)
_SCRIPT_CHARACTERS = re.compile(r"[^\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]*")


@dataclass(frozen=True, slots=True)
class SerializedSet:
    """What the JSON text says, checked.

    Attributes:
        generation: Of the request that is under way, or None.
        case: The case that it was requested in, or None.
        worker_pids: Processes that were appended to it.
        job_id: Slurm's id as text, or None.
        job_script: The batch script; empty for other backends.
    """

    wgroup_id: int
    description: Description
    generation: int | None = None
    case: str | None = None
    worker_pids: tuple[int, ...] = ()
    job_id: str | None = None
    job_script: str = ""

    @property
    def type(self) -> str:
        """The backend."""
        return self.description.backend


def to_json(record: SerializedSet) -> str:
    """The text of a record.

    Raises:
        SerializationError: It is longer than what is read again.
    """
    out: dict[str, Any] = {
        "schema": SCHEMA,
        "type": record.type,
        "wgroup_id": record.wgroup_id,
        "config": record.description.to_spec(),
        "generation": record.generation,
        "case": record.case,
        "worker_pids": list(record.worker_pids),
    }
    if record.type == "slurm":
        out |= {"job_id": record.job_id, "job_script": record.job_script}
    text = json.dumps(out, allow_nan=False)
    if len(text) > MAX_CHARACTERS:
        raise SerializationError(
            f"Resource set {record.wgroup_id} needs {len(text)} characters of JSON; at most {MAX_CHARACTERS} "
            "are read again. Shorten its description."
        )
    return text


def parse(text: str) -> SerializedSet:
    """The record in a JSON text of this version or of the predecessor.

    Raises:
        SerializationError: It is no JSON, not of a resource set, of another schema, or wrong in a value.
    """
    data = _object(text)
    if "schema" not in data:
        return _predecessor(data)
    if data["schema"] != SCHEMA or isinstance(data["schema"], bool):
        raise SerializationError(
            f"The JSON text has schema {shown(data['schema'])}; this version of gutscore_rs reads {SCHEMA}. "
            "Use the version that wrote it."
        )
    kind = _kind(data)
    checks = {**_CHECKS, **(_SLURM_CHECKS if kind == "slurm" else {})}
    problems = Problems(f"JSON text of a resource set ({kind})")
    for key in data:
        if key not in checks:
            problems.unknown("", key, checks)
    for key, (check, allowed) in checks.items():
        if key not in data:
            problems.add(key, "is missing")
        elif not check(data[key]):
            problems.add(key, f"must be {allowed}", data[key])
    if problems:
        raise SerializationError(str(problems.error()))
    description = Description.from_spec(data["config"])
    if description.backend != kind:
        raise SerializationError(f"The JSON text is of type {kind!r}, its config of {description.backend!r}.")
    return SerializedSet(
        wgroup_id=data["wgroup_id"],
        description=description,
        generation=data["generation"],
        case=data["case"],
        worker_pids=tuple(data["worker_pids"]),
        job_id=data.get("job_id"),
        job_script=data.get("job_script", ""),
    )


def _object(text: object) -> dict[str, Any]:
    if not isinstance(text, str):
        raise SerializationError(f"The JSON form of a resource set is text, not {type(text).__name__}.")
    if len(text) > MAX_CHARACTERS:
        raise SerializationError(f"The JSON text has {len(text)} characters; at most {MAX_CHARACTERS} are read.")
    try:
        data = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except RecursionError:
        raise SerializationError("The JSON text is nested too deeply to be a resource set.") from None
    except json.JSONDecodeError as error:
        raise SerializationError(
            f"The text is no JSON ({error.msg} at line {error.lineno}, column {error.colno}). Is it cut off?"
        ) from error
    except ValueError as error:  # a number of thousands of digits
        raise SerializationError(f"The JSON text holds a number that cannot be read: {error}.") from error
    if not isinstance(data, dict):
        raise SerializationError(f"The JSON text holds {shown(data)} where the object of a resource set belongs.")
    return data


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in pairs:
        if key in out:
            raise SerializationError(f"The JSON text gives {shown(key)} twice.")
        if not finite(value):  # 1e999
            _refuse_constant(str(value))
        out[key] = value
    return out


def _refuse_constant(name: str) -> NoReturn:
    raise SerializationError(f"The JSON text holds {name}, which is no number of JSON.")


def _kind(data: Mapping[str, Any]) -> str:
    kind = data.get("type")
    if kind not in ("local", "slurm"):
        raise SerializationError(f"The JSON text is of type {shown(kind)}; known are 'local' and 'slurm'.")
    return str(kind)


def _predecessor(data: Mapping[str, Any]) -> SerializedSet:
    kind = _kind(data)
    wgroup_id = data.get("wgroup_id")
    if not _whole(0, MAX_WGROUP)(wgroup_id):
        raise SerializationError(f"wgroup_id = {shown(wgroup_id)}: must be a whole number from 0 to {MAX_WGROUP}.")
    config = {key: value for key, value in data.items() if key not in {"type", "wgroup_id"}}
    try:
        description = resource_description(config, kind, source="JSON text of the predecessor (it has no 'schema')")
    except ConfigError as error:
        raise SerializationError(str(error)) from error
    return SerializedSet(wgroup_id=int(data["wgroup_id"]), description=description)


def _whole(low: int, high: int) -> Callable[[object], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _text(pattern: re.Pattern[str]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and bool(pattern.fullmatch(value))


def _or_null(check: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: value is None or check(value)


def _pids(value: object) -> bool:
    return isinstance(value, list) and all(map(_whole(1, MAX_PID), value)) and len(set(value)) == len(value)


_CHECKS: Mapping[str, tuple[Callable[[object], bool], str]] = {
    "schema": (_whole(SCHEMA, SCHEMA), str(SCHEMA)),
    "type": (lambda value: isinstance(value, str), "text"),
    "wgroup_id": (_whole(0, MAX_WGROUP), f"a whole number from 0 to {MAX_WGROUP}"),
    "config": (lambda value: isinstance(value, dict), "an object"),
    "generation": (_or_null(_whole(1, 2**53)), "a whole number from 1, or null"),
    "case": (_or_null(_text(_CASE)), "the name of a case, or null"),
    "worker_pids": (_pids, "a list of different process ids"),
}
_SLURM_CHECKS: Mapping[str, tuple[Callable[[object], bool], str]] = {
    "job_id": (_or_null(_text(_JOB_ID)), "a Slurm job id as text, or null"),
    "job_script": (_text(_SCRIPT_CHARACTERS), "the text of a script"),
}

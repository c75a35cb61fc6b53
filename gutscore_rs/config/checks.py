"""Checks of single values: each returns the value as it is kept, or raises ValueError saying what is allowed.

They stand apart from pydantic's own so that text is never taken for a number nor True for 1, and so that
every refusal reads as "must be ...".
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
MAX_TEXT = 4096
MAX_ITEMS = 64
_CONTROL = re.compile(r"[\x00-\x1f\x7f\u0085\u2028\u2029\ud800-\udfff]")


def whole(low: int, high: int) -> Callable[[object], int]:
    """A whole number within bounds."""

    def check(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"must be a whole number from {low} to {high}{_kind(value, int)}")
        return value

    return check


def seconds(low: float, high: float) -> Callable[[object], float]:
    """A number of seconds within bounds."""

    def check(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise ValueError(f"must be a number of seconds from {low:g} to {high:g}{_kind(value, int | float)}")
        return float(value)

    return check


def flag(value: object) -> bool:
    """True or false, nothing that is merely truthy."""
    if not isinstance(value, bool):
        raise ValueError(f"must be true or false{_kind(value, bool)}")  # noqa: TRY004 (pydantic collects ValueErrors)
    return value


def text(value: object, *, longest: int = MAX_TEXT) -> str:
    """One line of text: no control characters, which could end a line of a script or a record."""
    if not isinstance(value, str):
        raise ValueError(f"must be text{_kind(value, str)}")  # noqa: TRY004
    if not value or len(value) > longest:
        raise ValueError(f"must be text of 1 to {longest} characters, not of {len(value)}")
    if found := _CONTROL.search(value):
        raise ValueError(f"must be one line of printable text; it holds the character U+{ord(found.group()):04X}")
    return value


def one_of(*allowed: str) -> Callable[[object], str]:
    """A check for one of some words."""

    def check(value: object) -> str:
        found = text(value)
        if found not in allowed:
            raise ValueError(f"must be one of {', '.join(allowed)}, not {shown(value)}")
        return found

    return check


def matching(pattern: str, allowed: str) -> Callable[[object], str]:
    """Text of a given form; ``allowed`` says the form in words."""
    compiled = re.compile(pattern, re.ASCII)

    def check(value: object) -> str:
        if not isinstance(value, str) or not compiled.fullmatch(value):
            raise ValueError(f"must be {allowed}{_kind(value, str)}")
        return value

    return check


def maybe(check: Callable[[object], T]) -> Callable[[object], T | None]:
    """The check, or None for "not given"."""
    return lambda value: None if value is None else check(value)


def items(check: Callable[[object], T], *, most: int = MAX_ITEMS) -> Callable[[object], tuple[T, ...]]:
    """A list whose every item passes the check."""

    def check_all(value: object) -> tuple[T, ...]:
        if not isinstance(value, list | tuple):
            raise ValueError(f'must be a list, such as ["..."]{_kind(value, list)}')  # noqa: TRY004
        if len(value) > most:
            raise ValueError(f"must be a list of at most {most} items, not {len(value)}")
        checked = []
        for number, item in enumerate(value, start=1):
            try:
                checked.append(check(item))
            except ValueError as error:
                raise ValueError(f"item {number} ({shown(item)}) {error}") from error
        return tuple(checked)

    return check_all


def table(value: object) -> Mapping[Any, Any]:
    """A TOML table or Python mapping."""
    if not isinstance(value, Mapping):
        raise ValueError(f"must be a table{_kind(value, dict)}")  # noqa: TRY004
    return value


def path(value: object) -> Path:
    """A path, relative ones as they stand; ``~`` is the home folder."""
    try:
        return Path(text(str(value) if isinstance(value, Path) else value)).expanduser()
    except RuntimeError as error:
        raise ValueError(f"names a home folder that is not known ({error})") from error


def finite(value: object) -> bool:
    """Whether a value is no NaN and no infinity, which neither JSON nor Slurm can write."""
    return not isinstance(value, float) or math.isfinite(value)


def shown(value: object, longest: int = 60) -> str:
    """A value as it may stand in a message: short, one line, whatever it is."""
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    try:
        written = repr(value)
    except Exception:  # noqa: BLE001 (a number of too many digits, or any object's own repr)
        return f"a {type(value).__name__}"
    return written if len(written) <= longest else f"{written[:longest]}... ({len(written)} characters)"


def _kind(value: object, wanted: Any) -> str:
    """Name the type, when that is what is wrong."""
    wrong = not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool)
    return f", not {_names(value)}" if wrong else ""


def _names(value: object) -> str:
    names = {str: "text", bool: "true or false", float: "a fraction", int: "a number", type(None): "nothing"}
    return names.get(type(value), f"a {type(value).__name__}")

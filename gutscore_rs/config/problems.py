"""What is wrong with a description, gathered and said in one message."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from gutscore_rs.config.checks import shown
from gutscore_rs.errors import ConfigError

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_PASSWORD = re.compile(r"(?<=://)[^\s]*@")


class Problems:
    """The problems of one source, each once, in the order in which they were found."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._lines: dict[str, None] = {}

    def __bool__(self) -> bool:
        return bool(self._lines)

    def add(self, key: str, what: str, value: object = ...) -> None:
        """Note one problem; ``value`` is shown, passwords in URLs excepted."""
        if isinstance(value, str):
            value = _PASSWORD.sub("***@", value)
        given = "" if value is ... else f" = {shown(value)}"
        self._lines.setdefault(f"{key}{given}: {what}" if key else what)

    def unknown(self, prefix: str, key: object, valid: Iterable[str]) -> None:
        """Note a key that does not exist, with the nearest one that does."""
        names = sorted(valid)
        near = difflib.get_close_matches(str(key)[:64].lower(), names, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}? " if near else ""
        self.add(dotted(prefix, key), f"unknown key; {hint}Known here: {', '.join(names)}")

    def take(
        self,
        error: ValidationError,
        model: type[BaseModel],
        where: str,
        names: Mapping[str, str] | None = None,
    ) -> None:
        """Note what pydantic found in one table.

        Args:
            error: What it raised.
            model: For whom.
            where: The table.
            names: Dotted name of each field as its user wrote it, where that differs from ``where.field``.
        """
        for found in error.errors(include_url=False):
            place: tuple[Any, ...] = found["loc"]
            key = str(place[0]) if place else ""
            name = (names or {}).get(key) or (dotted(where, key) if place else where)
            if found["type"] == "extra_forbidden":
                self.unknown(where, key, model.model_fields)
            elif found["type"] == "missing":
                self.add(name, "is missing")
            elif found["type"] == "value_error":
                self.add(name, str(found["ctx"]["error"]), found["input"] if place else ...)
            else:
                self.add(name, found["msg"], found["input"])

    def error(self) -> ConfigError:
        """All problems in one message."""
        lines = list(self._lines)
        if len(lines) == 1:
            return ConfigError(f"{self._source}: {lines[0]}.")
        listed = "\n".join(f"  - {line}" for line in lines)
        return ConfigError(f"{self._source}: {len(lines)} problems:\n{listed}")


def dotted(prefix: str, key: object) -> str:
    """``prefix.key`` as in TOML, where a key that is no bare word is quoted."""
    word = key if isinstance(key, str) and _PLAIN_KEY.fullmatch(key) else shown(key)
    return f"{prefix}.{word}" if prefix else str(word)

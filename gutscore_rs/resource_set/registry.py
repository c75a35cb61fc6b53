"""How a resource set reaches Redis: through an object that it is handed, never one that it makes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from gutscore_rs.errors import RequestError


class Registry(Protocol):
    """The running case, as a resource set sees it."""

    @property
    def case(self) -> str:
        """The name of the case."""
        ...

    def request(self, wgroup_id: int, spec: Mapping[str, Any], *, timeout: float = 600.0) -> int:
        """Ask for a set's workers without waiting for them.

        Args:
            wgroup_id: The set.
            spec: Its description as plain data.
            timeout: Seconds after which an unanswered request fails.

        Returns:
            The generation of the request.
        """
        ...

    def release(self, wgroup_id: int, timeout: float) -> None:
        """End a set's workers and come back when they are gone, or raise after ``timeout`` seconds."""
        ...

    def count(self, wgroup_id: int) -> int:
        """Workers of the set that are alive now."""
        ...


def registry_for(config: Mapping[Any, Any]) -> Registry:
    """The running case that a top-level configuration names.

    Raises:
        RequestError: No such case runs.
    """
    section = config.get("case")
    name = section.get("name") if isinstance(section, Mapping) else None
    raise RequestError(
        f"There is no running case {name!r} to hold the resource set; start one with `gutscore-rs up`."
        if name
        else "There is no running case to hold the resource set; start one with `gutscore-rs up`."
    )

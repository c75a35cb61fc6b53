"""How a resource set reaches Redis: through an object that it is handed, never one that it makes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from gutscore_rs.case import open_config
from gutscore_rs.config import from_mapping
from gutscore_rs.errors import AccessError, RequestError
from gutscore_rs.identity import this_process
from gutscore_rs.settings import Settings


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
        ConfigError: The configuration is wrong.
        RequestError: No such case runs.
    """
    checked = from_mapping(config)
    try:
        case = open_config(checked, Settings.from_environment())
    except AccessError as error:
        raise RequestError(str(error)) from error
    return case.operations(this_process(case.host))

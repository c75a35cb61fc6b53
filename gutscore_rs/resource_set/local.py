"""Workers on one host."""

from __future__ import annotations

from typing import ClassVar

from gutscore_rs.resource_set.base import ResourceSetBaseclass
from gutscore_rs.resource_set.serialization import SerializedSet


class ResourceSetLocal(ResourceSetBaseclass):
    """Workers started by a host's provisioner: for a laptop, a workstation, or any host that runs one."""

    backend: ClassVar[str] = "local"

    def _init_rs(self, record: SerializedSet) -> None:
        # True: the workers outlive the process that requested them.
        self._daemonize = record.description.daemonize

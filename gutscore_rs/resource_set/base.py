"""What all resource sets have in common: description, JSON form, counters, request and release."""

from __future__ import annotations

import multiprocessing
from abc import ABC, abstractmethod
from multiprocessing.process import BaseProcess
from typing import Any, ClassVar, Self

from gutscore_rs.config import Description, ManagerSection, from_mapping, resource_description
from gutscore_rs.config.checks import shown
from gutscore_rs.errors import ConfigError, GutscoreError, ReleaseError, RequestError, ResourceSetError
from gutscore_rs.resource_set import own_processes, registry, serialization
from gutscore_rs.resource_set.registry import Registry
from gutscore_rs.resource_set.serialization import MAX_WGROUP, SerializedSet


class ResourceSetBaseclass(ABC):
    """N workers for T seconds: the description of a set, and a handle on it.

    Making one does nothing outside this process; :meth:`request` does.

    Args:
        wgroup_id: The set's number within its case.
        res_config: The keys of ``[resource.config]``; an empty dict gives the defaults.
        json_str: The JSON form instead, for the same ``wgroup_id``.

    Raises:
        ConfigError: Neither or both are given, or one of them is wrong.
    """

    backend: ClassVar[str]
    _kinds: ClassVar[dict[str, type[ResourceSetBaseclass]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "backend" in vars(cls):
            ResourceSetBaseclass._kinds[cls.backend] = cls

    def __init__(self, wgroup_id: int, res_config: dict[Any, Any] | None = None, json_str: str | None = None) -> None:
        self._wgroup_id = _checked_id(wgroup_id)
        record = self._record_of(res_config, json_str)
        self._description = record.description
        self._nworkers = record.description.nworkers
        self._runtime = record.description.runtime
        self._generation = record.generation
        self._case = record.case
        self._worker_pids = list(record.worker_pids)
        self._workers: list[BaseProcess] = []
        self._registry: Registry | None = None
        self._release_timeout = ManagerSection().release_timeout
        self._init_rs(record)

    def _record_of(self, res_config: dict[Any, Any] | None, json_str: str | None) -> SerializedSet:
        if res_config is not None and json_str is None:
            described = resource_description(res_config, self.backend, self._wgroup_id)
            return SerializedSet(self._wgroup_id, described)
        if json_str is None or res_config is not None:
            what = "neither" if json_str is None else "both"
            raise ConfigError(
                f"Resource set {self._wgroup_id} was given {what} of res_config and json_str; give one "
                "(an empty res_config takes the defaults)."
            )
        record = serialization.parse(json_str)
        if record.type != self.backend or record.wgroup_id != self._wgroup_id:
            raise ConfigError(
                f"The JSON text is of {record.type} resource set {record.wgroup_id}, not of {self.backend} "
                f"resource set {self._wgroup_id}."
            )
        return record

    @abstractmethod
    def _init_rs(self, record: SerializedSet) -> None:
        """Set what only this backend has."""

    @classmethod
    def from_description(cls, wgroup_id: int, description: Description) -> ResourceSetBaseclass:
        """A set of the description's own kind."""
        spec = description.to_spec()
        config = {key: value for key, value in spec.items() if key not in {"schema", "backend"}}
        return cls._kinds[description.backend](wgroup_id, config)

    @classmethod
    def from_json(cls, resource_set_json: str) -> Self:
        """The set that a JSON text describes; called on the base class, of whichever kind it is.

        The predecessor's texts, which have no ``schema``, are read as well.

        Raises:
            SerializationError: The text is not one that this version can read.
            ConfigError: It is of another kind than the class it was called on.
        """
        record = serialization.parse(resource_set_json)
        kind = cls._kinds[record.type]
        if not issubclass(kind, cls):
            raise ConfigError(
                f"The JSON text is of a {record.type} resource set; read it with {kind.__name__}.from_json "
                "or ResourceSetBaseclass.from_json."
            )
        return kind(record.wgroup_id, json_str=resource_set_json)

    def serialize(self) -> str:
        """The JSON form, which :meth:`from_json` reads without loss."""
        return serialization.to_json(self._record())

    def _record(self) -> SerializedSet:
        return SerializedSet(
            wgroup_id=self._wgroup_id,
            description=self._description,
            generation=self._generation,
            case=self._case,
            worker_pids=tuple(self._worker_pids),
        )

    @property
    def wgroup_id(self) -> int:
        """The set's number within its case."""
        return self._wgroup_id

    @property
    def description(self) -> Description:
        """What was asked for, with all defaults."""
        return self._description

    @property
    def generation(self) -> int | None:
        """Which request of this ``wgroup_id`` is under way; None before a request and after a release."""
        return self._generation

    def attach(self, registry: Registry) -> None:
        """Connect the set with a running case; without it :meth:`request` looks for the one of its config."""
        self._registry = registry

    def request(self, config: dict[Any, Any]) -> None:
        """Request the workers; does not wait for them.

        Args:
            config: The top-level configuration; it names the case, unless the set is attached to one.

        Raises:
            ConfigError: The configuration is wrong; nothing was done.
            RequestError: No case runs, or it does not take the request.
        """
        manager = from_mapping(config, source="config of the request").manager
        found = self._registry or registry.registry_for(config)
        try:
            generation = found.request(self._wgroup_id, self._description.to_spec(), timeout=manager.request_timeout)
        except OSError as error:
            raise RequestError(f"Resource set {self._wgroup_id} could not be requested: {error}.") from error
        self._registry, self._case, self._generation = found, found.case, generation
        self._release_timeout = manager.release_timeout

    def release(self) -> None:
        """End the workers, also those of :meth:`append_worker_process`, and come back when they are gone.

        A set that was never requested and has no workers is left as it is, as by the predecessor.

        Raises:
            ReleaseError: Something survived, or it cannot be known whether something did.
        """
        left = own_processes.end(self._workers, self._description.drain_timeout)
        self._drop_ended()
        if self._generation is not None:
            self._release_request()
        if left:
            pids = ", ".join(str(process.pid) for process in left)
            raise ReleaseError(f"Processes of resource set {self._wgroup_id} survived SIGKILL: {pids}.")

    def _release_request(self) -> None:
        try:
            found = self._registry or registry.registry_for({"case": {"name": self._case}})
            found.release(self._wgroup_id, self._release_timeout)
        except ReleaseError:
            raise
        except (GutscoreError, OSError) as error:
            failure = ReleaseError(f"Resource set {self._wgroup_id} could not be released: {error}")
            failure.transient = isinstance(error, OSError) or error.transient
            raise failure from error
        self._generation = None

    def get_nworkers(self) -> int:
        """The number of workers that the set is to have."""
        return self._nworkers

    def get_nworkers_active(self) -> int:
        """The number of workers that are alive now.

        From Redis once the set is requested or attached, from any node; before, of the appended processes.
        """
        if self._registry is not None:
            return self._registry.count(self._wgroup_id)
        return sum(map(own_processes.alive, self._workers))

    def workers_initiated(self) -> bool:
        """Whether all workers are alive."""
        return self.get_nworkers_active() >= self._nworkers

    def append_worker_process(self, process: multiprocessing.Process) -> None:
        """Start a worker process and count it; one that does not start is not counted.

        Args:
            process: Not yet started; one that runs already is taken as it is. Ended ones make room.

        Raises:
            ResourceSetError: It cannot be started, has no pid, is there already, or the set is full.
        """
        if not isinstance(process, BaseProcess):
            raise ResourceSetError(f"A worker is a multiprocessing.Process, not {shown(process)}.")
        self._drop_ended()
        if process in self._workers:
            raise ResourceSetError(f"{process.name} is in resource set {self._wgroup_id} already.")
        if len(self._workers) >= self._nworkers:
            raise ResourceSetError(
                f"Resource set {self._wgroup_id} is full: its {self._nworkers} workers all run. End one, "
                "or raise nworkers."
            )
        pid = own_processes.start(process)
        self._workers.append(process)
        if pid not in self._worker_pids:
            self._worker_pids.append(pid)

    def _drop_ended(self) -> None:
        ended = [process for process in self._workers if not own_processes.alive(process)]
        gone = {process.pid for process in ended}
        self._workers = [process for process in self._workers if process not in ended]
        self._worker_pids = [pid for pid in self._worker_pids if pid not in gone]

    def worker_runtime(self) -> int:
        """Seconds that the workers live for."""
        return self._runtime

    def __repr__(self) -> str:
        kind = type(self).__name__
        return f"{kind}(wgroup_id={self._wgroup_id}, nworkers={self._nworkers}, runtime={self._runtime} s)"


def _checked_id(wgroup_id: object) -> int:
    if isinstance(wgroup_id, bool) or not isinstance(wgroup_id, int) or not 0 <= wgroup_id <= MAX_WGROUP:
        raise ConfigError(f"wgroup_id = {shown(wgroup_id)}: must be a whole number from 0 to {MAX_WGROUP}.")
    return wgroup_id

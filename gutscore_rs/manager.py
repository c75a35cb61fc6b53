"""The object that a user holds: a case's resource sets and tasks, from a configuration to a clean end."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from gutscore_rs.case import Case, open_config
from gutscore_rs.config import CaseConfig, Description, from_mapping, load
from gutscore_rs.errors import ConfigError, ReleaseError, RequestError, SerializationError, WorkersNotReadyError
from gutscore_rs.executor import Executor
from gutscore_rs.identity import this_process
from gutscore_rs.operations.client import OperationsClient
from gutscore_rs.overview import Overview
from gutscore_rs.resource_set import ResourceSetBaseclass, ResourceSetLocal, ResourceSetSlurm
from gutscore_rs.settings import Settings
from gutscore_rs.store.records import State
from gutscore_rs.tasks import Tasks

if TYPE_CHECKING:
    from rq import Queue
    from rq.job import Job

_BACKENDS: dict[str, type[ResourceSetBaseclass]] = {"local": ResourceSetLocal, "slurm": ResourceSetSlurm}


class ResourceManager:
    """Requests, counts, feeds and releases the workers of one case.

    As a context manager it releases everything at the end::

        with ResourceManager.from_toml("case.toml") as manager:
            manager.request()
            manager.wait_for_workers(timeout=60)
            jobs = [manager.enqueue(work, n) for n in range(100)]
            for job in manager.as_completed(jobs):
                print(job.return_value())

    Args:
        config: The top-level configuration, as a mapping or already read.
        case: An open case; by default the running case of that name is opened at the first need.
        settings: By default what the environment says.

    Raises:
        ConfigError: (a ValueError) The configuration is wrong.
    """

    def __init__(
        self, config: Mapping[str, Any] | CaseConfig, *, case: Case | None = None, settings: Settings | None = None
    ) -> None:
        self.config = config if isinstance(config, CaseConfig) else from_mapping(config)
        self._settings = settings or Settings.from_environment()
        self._case = case
        self._operations: OperationsClient | None = None
        self._sets: dict[int, ResourceSetBaseclass] = {}
        self._executors: list[Executor] = []
        self._say: Callable[[str], None] = lambda _text: None

    @classmethod
    def from_toml(cls, path: str | Path, **options: Any) -> Self:
        """A manager for the case that a TOML file describes; options as for the class."""
        return cls(load(Path(path)), **options)

    # -- what it is connected to --------------------------------------------------------------------------------

    @property
    def case(self) -> Case:
        """The open case.

        Raises:
            AccessError: It does not run.
        """
        if self._case is None:
            self._case = open_config(self.config, self._settings)
        return self._case

    @property
    def operations(self) -> OperationsClient:
        """Requests and releases, bound to this process."""
        if self._operations is None:
            self._operations = self.case.operations(this_process(self.case.host))
        return self._operations

    # -- the predecessor's calls --------------------------------------------------------------------------------

    def get_nwgroups(self) -> int:
        """The number of worker groups that the configuration describes."""
        return len(self.config.groups)

    @property
    def backend(self) -> str:
        """The backend of this case's sets."""
        return self.config.groups[0].backend

    def get_resources(self, res_configs: Mapping[str, Any], wgroup_id: int) -> ResourceSetBaseclass:
        """Make one resource set and request it.

        Args:
            res_configs: Its description, keys as in ``[resource.config]``.
            wgroup_id: Its id.

        Raises:
            ConfigError: (a ValueError) The description is wrong.
            RequestError: (a RuntimeError) It cannot be requested.
        """
        resource_set = _BACKENDS[self.backend](wgroup_id, res_config=dict(res_configs))
        self._request(resource_set)
        return resource_set

    def instantiate_resource(self, res_json: str) -> ResourceSetBaseclass:
        """A resource set from its JSON text, connected to this case.

        Raises:
            ConfigError: (a ValueError) It is of another backend, or cannot be read.
        """
        try:
            kind = json.loads(res_json).get("type")
        except (ValueError, AttributeError, RecursionError) as error:
            raise SerializationError(f"This is no JSON text of a resource set: {error}.") from error
        if kind != self.backend:
            raise ConfigError(f"This manager's backend is {self.backend!r}, the resource set's is {kind!r}.")
        resource_set = ResourceSetBaseclass.from_json(res_json)
        if self._case is not None or resource_set_is_requested(res_json):
            resource_set.attach(self.operations)
            self._sets[resource_set.wgroup_id] = resource_set
        return resource_set

    # The predecessor's spelling.
    instanciate_resource = instantiate_resource

    # -- requesting -----------------------------------------------------------------------------------------------

    def request(self) -> list[ResourceSetBaseclass]:
        """Request every set that the configuration describes; returns at once."""
        for wgroup_id, description in enumerate(self.config.groups):
            self._request(ResourceSetBaseclass.from_description(wgroup_id, description))
        return self.resource_sets()

    def _request(self, resource_set: ResourceSetBaseclass) -> None:
        resource_set.attach(self.operations)
        resource_set.request({"case": {"name": self.config.name}})
        self._sets[resource_set.wgroup_id] = resource_set

    def take_over(self, wgroup_id: int, description: Description) -> ResourceSetBaseclass:
        """A set that somebody else requested, as if this manager had."""
        resource_set = ResourceSetBaseclass.from_description(wgroup_id, description)
        resource_set.attach(self.operations)
        self._sets[wgroup_id] = resource_set
        return resource_set

    def resource_sets(self) -> list[ResourceSetBaseclass]:
        """The sets that this manager requested or took over."""
        return [self._sets[wgroup_id] for wgroup_id in sorted(self._sets)]

    def wait_for_workers(self, timeout: float = 300.0, *, progress: bool | Callable[[int, int], None] = True) -> int:
        """Wait until every worker of this manager's sets is alive.

        Args:
            timeout: Seconds.
            progress: True for a bar on stderr when that is a terminal, or a function of (active, expected).

        Returns:
            The number of living workers.

        Raises:
            RequestError: A set failed; the message is its error.
            WorkersNotReadyError: (also TimeoutError) They did not all come in time; the message says what each
                set does.
        """
        ends, pause = time.monotonic() + timeout, 0.01
        expected = sum(resource_set.get_nworkers() for resource_set in self.resource_sets())
        with _progress(progress, expected) as show:
            while True:
                active = self._look()
                show(active, expected)
                if active >= expected:
                    return active
                if time.monotonic() > ends:
                    raise WorkersNotReadyError(self._what_is_missing(active, expected, timeout))
                time.sleep(pause)
                pause = min(pause * 1.3, 0.2)

    def _look(self) -> int:
        counts = self.case.store.workers.counts(list(self._sets))
        for wgroup_id in self._sets:
            record = self.case.store.sets.get(wgroup_id)
            if record is None or record.state.ended or record.state is State.RELEASING:
                state = record.state.value if record else "unknown in Redis"
                why = f": {record.error}" if record and record.error else ""
                raise RequestError(f"Resource set {wgroup_id} of case {self.case.name!r} is {state}{why}")
        return sum(counts.values())

    def _what_is_missing(self, active: int, expected: int, timeout: float) -> str:
        rows = []
        for record in self.case.store.sets.all():
            if record.wgroup_id in self._sets:
                reason = record.pending_reason or record.error
                rows.append(f"set {record.wgroup_id}: {record.state.value}" + (f" ({reason})" if reason else ""))
        return f"{active} of {expected} workers are alive after {timeout:.0f} s; {'; '.join(rows)}."

    # -- looking ----------------------------------------------------------------------------------------------------

    def count(self) -> int:
        """Workers of the case that are alive now, by the server's clock."""
        return sum(self.case.store.workers.counts(self.case.store.sets.ids()).values())

    def workers(self) -> list[dict[str, Any]]:
        """The living workers of the case: host, pid, state, job and so on."""
        return list(Overview(self.case.store).workers()["workers"])

    # -- tasks ------------------------------------------------------------------------------------------------------

    @property
    def tasks(self) -> Tasks:
        """The task side of the case."""
        return Tasks(self.case.store, self.case.queues)

    def queue(self, name: str | None = None) -> Queue:
        """A task queue of the case as an ordinary ``rq.Queue``."""
        return self.tasks.queue(name)

    def enqueue(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Job:
        """Put a call on the default task queue; keywords as in ``rq.Queue.enqueue``."""
        return self.tasks.enqueue(function, *args, **kwargs)

    def executor(self, **options: Any) -> Executor:
        """A ``concurrent.futures`` executor on this case's workers; for its options see :class:`Executor`.

        It ends with this manager's context: what is pending then is taken back.
        """
        executor = Executor(self.case, **options)
        self._executors.append(executor)
        return executor

    def calls_done(self) -> dict[str, int]:
        """How many calls of this manager's executors finished and failed; RQ's registries do not have them."""
        counts = [executor.done for executor in self._executors]
        return {name: sum(count[name] for count in counts) for name in ("finished", "failed")}

    def _take_calls_back(self) -> None:
        for executor in self._executors:
            executor.shutdown(wait=False, cancel_futures=True)

    def as_completed(self, jobs: Iterable[Job], timeout: float | None = None) -> Iterator[Job]:
        """Yield jobs as they finish or fail.

        Raises:
            RequestError: All sets have ended, so nobody is left to run the rest.
        """
        return self.tasks.as_completed(jobs, timeout, heed=self._see_that_somebody_works)

    def _see_that_somebody_works(self) -> None:
        if not self._sets:
            return
        records = [self.case.store.sets.get(wgroup_id) for wgroup_id in self._sets]
        if all(record is None or record.state.ended for record in records):
            states = "; ".join(
                f"set {record.wgroup_id} is {record.state.value} {record.error}".rstrip()
                for record in records
                if record
            )
            raise RequestError(f"No resource set is left to run the remaining tasks: {states or 'all unknown'}.")

    def on_progress(self, say: Callable[[str], None]) -> None:
        """Where a driver's progress lines go."""
        self._say = say

    def progress(self, text: str) -> None:
        """A line about how far the work is, from the driver to whoever watches."""
        self._say(text)

    # -- the end ----------------------------------------------------------------------------------------------------

    def release(self, timeout: float | None = None) -> None:
        """Release all sets of this manager, side by side; returns when they are gone.

        Raises:
            ReleaseError: Something survived; it is named.
        """
        seconds = self.config.manager.release_timeout if timeout is None else timeout
        for wgroup_id in self._sets:
            self.operations.begin_release(wgroup_id)
        ends, problems = time.monotonic() + seconds, []
        for wgroup_id in self._sets:
            try:
                self.operations.release(wgroup_id, max(0.1, ends - time.monotonic()))
            except ReleaseError as error:
                problems.append(str(error))
        if problems:
            raise ReleaseError("\n".join(problems))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._take_calls_back()
        try:
            if self._sets:
                self.release()
        finally:
            # What still ran then went back to its queue.
            self._take_calls_back()


def resource_set_is_requested(res_json: str) -> bool:
    """Whether the JSON text is of a set that was requested, hence has something in Redis to be connected to."""
    return bool(json.loads(res_json).get("generation"))


class _progress:  # noqa: N801 - used like a function
    """A progress bar, or a caller's function, or nothing."""

    def __init__(self, progress: bool | Callable[[int, int], None], expected: int) -> None:
        self._function = progress if callable(progress) else None
        self._bar: Any = None
        if progress is True and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

            self._bar = Progress(
                TextColumn("workers"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                console=Console(stderr=True),
            )
            self._task = self._bar.add_task("workers", total=expected)

    def __enter__(self) -> Callable[[int, int], None]:
        if self._bar is not None:
            self._bar.start()
        return self._show

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _show(self, active: int, expected: int) -> None:
        if self._function is not None:
            self._function(active, expected)
        if self._bar is not None:
            self._bar.update(self._task, completed=active)

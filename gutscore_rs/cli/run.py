"""``run``: the main job, from nothing to nothing: server, workers, driver, release, summary."""

from __future__ import annotations

import json
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import click

from gutscore_rs.cli.exits import EXIT_FAILED
from gutscore_rs.cli.output import console, print_json, table
from gutscore_rs.cli.progress import Progress
from gutscore_rs.config import CaseConfig, load
from gutscore_rs.driver import load_driver, output_folder
from gutscore_rs.durations import format_duration
from gutscore_rs.errors import ConfigError, GutscoreError, ReleaseError
from gutscore_rs.identity import this_host, this_process
from gutscore_rs.lifecycle import Services, release_all, start_services, stop_provisioners, stop_services
from gutscore_rs.manager import ResourceManager
from gutscore_rs.overview import Overview
from gutscore_rs.paths import StateFolder
from gutscore_rs.settings import Settings

SCHEMA = 1


@click.command()
@click.argument("case", type=click.Path(path_type=Path))
@click.option(
    "--output", type=click.Path(path_type=Path), help="Where the driver writes files (default: state folder)."
)
@click.option(
    "--timeout",
    default=300.0,
    show_default=True,
    type=click.FloatRange(1),
    help="Seconds that the workers may take to come.",
)
@click.option("--keep", is_flag=True, help="Keep the case's folder (data, logs) afterwards.")
@click.option("--json", "json_", is_flag=True, help="End with one JSON object on stdout (schema 1).")
def run(case: Path, output: Path | None, timeout: float, keep: bool, json_: bool) -> None:
    """Run the case of the TOML file CASE: Redis if none is given, workers, the driver, release, a summary.

    Ctrl-C at any moment releases everything and leaves no process. Progress goes to stderr.
    """
    config = load(case)
    if config.driver is None:
        raise ConfigError(
            f'{case} has no [driver]: add function = "package.module:main", or use `gutscore-rs up` and '
            "`request` to drive the workers yourself."
        )
    function = load_driver(config.driver)
    settings = Settings.from_environment()
    state = StateFolder.open(settings)
    folder = output_folder(output or state.root / "output" / config.name)
    with _on_termination(_Interrupt()):
        summary = _Run(config, settings, keep=keep).go(function, folder, timeout)
    if json_:
        print_json(summary)
    else:
        _show(summary)
    if "error" in summary["driver"]:
        sys.exit(EXIT_FAILED)


@contextmanager
def _on_termination(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Have Ctrl-C, SIGTERM and SIGHUP handled for a while."""
    before = {signum: signal.signal(signum, handler) for signum in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)}
    try:
        yield
    finally:
        for signum, former in before.items():
            signal.signal(signum, former)


class _Interrupt:
    """SIGTERM and SIGHUP end a run as Ctrl-C does; only the first raises: no second one stops the cleaning up."""

    def __init__(self) -> None:
        self._raised = False

    def __call__(self, _signum: int, _frame: FrameType | None) -> None:
        if self._raised:
            return
        self._raised = True
        raise KeyboardInterrupt


@contextmanager
def _undisturbed(doing: str, *, then_interrupt: bool) -> Iterator[None]:
    """Interrupts wait until a step that must not be left half done is over; then they count, or are done with."""
    interrupted = False

    def noted(_signum: int, _frame: FrameType | None) -> None:
        nonlocal interrupted
        interrupted = True
        click.echo(f"{doing}; this takes a few seconds ...", err=True)

    with _on_termination(noted):
        yield
    if interrupted and then_interrupt:
        raise KeyboardInterrupt


class _Run:
    """One run of a case."""

    def __init__(self, config: CaseConfig, settings: Settings, *, keep: bool) -> None:
        self._config = config
        self._settings = settings
        self._keep = keep
        self._progress = Progress()
        self._began = time.monotonic()
        self._services: Services | None = None
        self._manager: ResourceManager | None = None

    def go(self, function: Any, output: Path, timeout: float) -> dict[str, Any]:
        """Bring up, work, release; the summary."""
        try:
            try:
                tasks, driver = self._work(function, output, timeout)
            finally:
                rows = self._clean_up()
        finally:
            # Nothing, unless an interrupt came just between the work and its cleaning up.
            self._clean_up()
        return {
            "schema": SCHEMA,
            "case": self._config.name,
            "resource_sets": rows,
            "tasks": tasks,
            "driver": driver,
            "seconds": round(time.monotonic() - self._began, 3),
        }

    def _work(self, function: Any, output: Path, timeout: float) -> tuple[dict[str, int], dict[str, Any]]:
        services = self._start()
        self._manager = manager = ResourceManager(self._config, case=services.case, settings=self._settings)
        before = self._task_tally(services)
        self._request(manager, timeout)
        driver = self._drive(manager, function, output)
        # Of an executor's calls nothing stays in RQ's registries.
        calls = manager.calls_done()
        after = self._task_tally(services)
        return {name: after[name] - before[name] + calls[name] for name in after}, driver

    def _start(self) -> Services:
        self._progress.step("starting Redis and a provisioner")
        root = StateFolder.open(self._settings).root
        owner = this_process(this_host(self._settings, root))
        with _undisturbed("Starting", then_interrupt=True):
            self._services = services = start_services(self._config, self._settings, owner=owner)
        for warning in services.warnings:
            self._progress.say(f"warning: {warning}")
        version = services.case.store.inspect()
        self._progress.done(f"{version.product} {version.version} on {services.case.store.where}")
        return services

    def _request(self, manager: ResourceManager, timeout: float) -> None:
        wanted = sum(group.nworkers for group in self._config.groups)
        self._progress.step(f"requesting {len(self._config.groups)} resource sets, {wanted} workers")
        began = time.monotonic()
        manager.request()
        manager.wait_for_workers(timeout, progress=self._progress.workers)
        self._progress.done(f"{wanted} workers alive after {time.monotonic() - began:.2f} s")

    def _drive(self, manager: ResourceManager, function: Any, output: Path) -> dict[str, Any]:
        assert self._config.driver is not None  # noqa: S101 - checked by the command
        self._progress.step(f"driver {self._config.driver.function}")
        self._progress.watch(manager)
        manager.on_progress(self._progress.driver)
        try:
            result = function(manager, dict(self._config.driver.options), output)
        except GutscoreError as error:
            self._progress.failed(str(error))
            return {"error": str(error)}
        except Exception as error:  # noqa: BLE001 - the user's program may raise anything; the summary says so
            self._progress.failed("".join(traceback.format_exception(error)))
            return {"error": f"{type(error).__name__}: {error}"}
        finally:
            self._progress.unwatch()
        self._progress.done("the driver is done")
        return _jsonable(result)

    @staticmethod
    def _task_tally(services: Services) -> dict[str, int]:
        queues = [f"{services.case.name}:{name}" for name in services.case.queues]
        tallies = services.case.store.jobs.tallies(queues).values()
        return {name: sum(tally[name] for tally in tallies) for name in ("finished", "failed")}

    def _clean_up(self) -> list[dict[str, Any]]:
        """Release and stop what this run requested and started; done once. The rows of its sets."""
        with _undisturbed("Releasing", then_interrupt=False):
            services, self._services = self._services, None
            try:
                return self._end(services) if services is not None else []
            finally:
                self._progress.close()

    def _end(self, services: Services) -> list[dict[str, Any]]:
        self._progress.step("releasing")
        case = services.case
        # A case that was up before may have sets of others.
        own = [] if self._manager is None else [one.wgroup_id for one in self._manager.resource_sets()]
        problems: list[str] = []
        rows: list[dict[str, Any]] = []
        try:
            only = None if services.started_server else own
            problems = release_all(case, self._config.manager.release_timeout, only=only)
            rows = [
                {name: row[name] for name in ("id", "state", "nworkers", "peak_active")}
                for row in Overview(case.store).status()["resource_sets"]
                if row["id"] in own
            ]
        except GutscoreError as error:
            problems.append(str(error))
        if services.started_server:
            stop_services(case, remove=not self._keep)
        elif services.started_provisioner:
            stop_provisioners(case)
            case.close()
        else:
            case.close()
        if problems:
            raise ReleaseError("\n".join(problems))
        self._progress.done("all workers are gone" + (", server stopped" if services.started_server else ""))
        return rows


def _jsonable(result: Any) -> dict[str, Any]:
    plain = json.loads(json.dumps(result, default=str))
    return plain if isinstance(plain, dict) else {"result": plain}


def _show(summary: dict[str, Any]) -> None:
    out = console()
    rows = [(row["id"], row["state"], row["peak_active"], row["nworkers"]) for row in summary["resource_sets"]]
    out.print()
    out.print(table(f"Case {summary['case']}", ["resource set", "state", "peak workers", "asked for"], rows))
    tasks = summary["tasks"]
    out.print(
        f"tasks: {tasks['finished']} finished, {tasks['failed']} failed; {format_duration(summary['seconds'])} in all"
    )
    results = [(name, _rounded(value)) for name, value in summary["driver"].items()]
    if results:
        out.print(table("Result", ["", ""], results))


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return "[" + ", ".join(str(_rounded(item)) for item in value) + "]"
    return value

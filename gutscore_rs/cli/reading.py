"""The reading commands: they work on any node that reaches the case's Redis, and change nothing."""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path
from typing import Any

import click

from gutscore_rs.case import Case
from gutscore_rs.cli.cases import opened
from gutscore_rs.cli.output import clock, console, print_json, table
from gutscore_rs.durations import format_duration
from gutscore_rs.overview import Overview
from gutscore_rs.settings import Settings

as_json = click.option("--json", "json_", is_flag=True, help="Print one JSON object (schema 1).")


@click.command()
@click.argument("case")
@as_json
def count(case: str, json_: bool) -> None:
    """Count the living workers of CASE, by the clock of its Redis."""
    with opened(case, Settings.from_environment()) as found:
        view = Overview(found.store).count()
    if json_:
        print_json(view)
        return
    out = console()
    out.print(f"[bold]{view['active']}[/bold] of {view['expected']} workers of case {view['case']} are alive")
    rows = [(name, row["active"], row["expected"], row["state"]) for name, row in view["by_resource_set"].items()]
    if rows:
        out.print(table("", ["resource set", "active", "expected", "state"], rows))
    if view["by_host"]:
        out.print(table("", ["host", "active"], list(view["by_host"].items())))


@click.command()
@click.argument("case")
@as_json
def workers(case: str, json_: bool) -> None:
    """List the living workers of CASE."""
    with opened(case, Settings.from_environment()) as found:
        view = Overview(found.store).workers()
    if json_:
        print_json(view)
        return
    rows = [
        (row["resource_set"], row["index"], row["host"], row["pid"], row["state"], clock(row["started_at"]), row["job"])
        for row in view["workers"]
    ]
    console().print(table(f"{len(rows)} workers", ["set", "index", "host", "pid", "state", "since", "job"], rows))


@click.command()
@click.argument("case")
@as_json
def status(case: str, json_: bool) -> None:
    """Show resource sets, provisioners and task queues of CASE."""
    with opened(case, Settings.from_environment()) as found:
        view = Overview(found.store).status()
        where = found.store.where
    if json_:
        print_json(view)
        return
    out = console()
    out.print(f"[bold]Case {view['case']}[/bold] on {where}")
    rows = [
        (
            row["id"],
            row["type"],
            row["state"],
            f"{row['active']}/{row['nworkers']}",
            row["server"],
            format_duration(row["seconds_left"]) if row["seconds_left"] is not None else None,
            row["error"] or row["pending_reason"],
        )
        for row in view["resource_sets"]
    ]
    out.print(table("Resource sets", ["id", "type", "state", "workers", "on", "time left", "why"], rows))
    queues = [
        (name, *(tally[key] for key in ("queued", "started", "finished", "failed")))
        for name, tally in view["queues"].items()
    ]
    out.print(table("Task queues", ["queue", "queued", "started", "finished", "failed"], queues))
    serving = [
        (row["host"], row["pid"], ", ".join(row["serves"]), clock(row["started_at"])) for row in view["provisioners"]
    ]
    out.print(table("Provisioners", ["host", "pid", "serves", "since"], serving))


@click.command()
@click.argument("case")
@click.option("-n", "--number", default=50, show_default=True, type=click.IntRange(1, 10000), help="How many.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what happens; end with Ctrl-C.")
@as_json
def events(case: str, number: int, follow: bool, json_: bool) -> None:
    """Show the newest changes of state and deaths in CASE, oldest first.

    With --json one object; with --follow --json one object per line.
    """
    with opened(case, Settings.from_environment()) as found:
        view = Overview(found.store)
        past = view.events(number)
        if json_ and not follow:
            print_json(past)
            return
        for row in past["events"]:
            _print_event(row, json_=json_)
        if follow:
            for item in found.store.history.follow():
                if item is not None:
                    _print_event(view.event_row(*item), json_=json_)


def _print_event(row: dict[str, Any], *, json_: bool) -> None:
    if json_:
        print_json(row)
        return
    if row["kind"] == "lost":
        text = f"worker pid {row.get('pid')} on {row.get('host')} lost: {row.get('reason')}"
        text += f" (job {row['job']})" if row.get("job") else ""
    else:
        text = f"{row.get('from') or 'new'} -> {row.get('state')}" + (f": {row['why']}" if row.get("why") else "")
    console().print(f"{clock(row['at'])}  set {row['resource_set']:>3}  {text}", markup=False)


@click.command()
@click.argument("case")
@click.option("-n", "--number", default=20, show_default=True, type=click.IntRange(1), help="Lines of each file.")
@click.option("-s", "--set", "wgroup_id", type=int, help="Only this resource set's.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what is written; end with Ctrl-C.")
@as_json
def logs(case: str, number: int, wgroup_id: int | None, follow: bool, json_: bool) -> None:
    """Show the logs of CASE's processes on this host: provisioner, launchers, workers (with what their tasks print)."""
    with opened(case, Settings.from_environment()) as found:
        files = _log_files(found, wgroup_id)
        root = found.folder.logs
    if json_:
        print_json({"schema": 1, "logs": [{"file": str(path), "lines": _tail(path, number)} for path in files]})
        return
    for path in files:
        console().print(f"[bold]== {path.relative_to(root)}[/bold]  {path}", highlight=False)
        for line in _tail(path, number):
            click.echo(line)
    if follow:
        _follow(files, root)


def _log_files(case: Case, wgroup_id: int | None) -> list[Path]:
    pattern = "**/*.log" if wgroup_id is None else f"set-{wgroup_id}/**/*.log"
    return sorted(case.folder.logs.glob(pattern), key=lambda path: path.stat().st_mtime)


def _tail(path: Path, number: int) -> list[str]:
    with path.open(errors="replace") as stream:
        return [line.rstrip("\n") for line in deque(stream, number)]


def _follow(files: list[Path], root: Path) -> None:
    streams = {path.relative_to(root): path.open(errors="replace") for path in files}
    for stream in streams.values():
        stream.seek(0, 2)
    while True:
        for name, stream in streams.items():
            for line in stream:
                click.echo(f"{name}: {line.rstrip()}")
        time.sleep(0.3)

"""``doctor``: what is missing here and how to get it."""

from __future__ import annotations

import sys
from dataclasses import asdict

import click

from gutscore_rs.cli.cases import opened
from gutscore_rs.cli.exits import EXIT_FAILED
from gutscore_rs.cli.output import console, print_json, table
from gutscore_rs.doctor import examine_case, examine_host
from gutscore_rs.orphans import orphans_of, strangers
from gutscore_rs.paths import StateFolder
from gutscore_rs.settings import Settings
from gutscore_rs.slurm import SlurmClient

SIGNS = {"ok": "[green]ok     [/green]", "note": "[yellow]note   [/yellow]", "problem": "[red]problem[/red]"}


@click.command()
@click.argument("case", required=False)
@click.option("--orphans", is_flag=True, help="List Slurm jobs of ours that no set knows (no CASE: no case).")
@click.option("--cancel", is_flag=True, help="With --orphans: cancel them.")
@click.option("--json", "json_", is_flag=True, help="Print one JSON object (schema 1).")
def doctor(case: str | None, orphans: bool, cancel: bool, json_: bool) -> None:
    """Say what is missing on this host and how to get it; with CASE also what is wrong with that case.

    Exit code 1 when there is a problem.
    """
    if cancel and not orphans:
        raise click.UsageError("--cancel goes with --orphans.")
    settings = Settings.from_environment()
    if orphans:
        _sweep(case, settings, cancel=cancel, json_=json_)
        return
    findings = list(examine_host(settings))
    if case is not None:
        with opened(case, settings) as found:
            findings += examine_case(found)
    if json_:
        print_json({"schema": 1, "findings": [asdict(finding) for finding in findings]})
    else:
        out = console()
        for finding in findings:
            out.print(f"{SIGNS[finding.level]} [bold]{finding.topic}[/bold]: ", end="")
            out.print(finding.text, markup=False)
    if any(finding.level == "problem" for finding in findings):
        sys.exit(EXIT_FAILED)


def _sweep(case: str | None, settings: Settings, *, cancel: bool, json_: bool) -> None:
    client = SlurmClient()
    if case is None:
        found = strangers(StateFolder.open(settings), client)
    else:
        with opened(case, settings) as running:
            found = orphans_of(running, client)
    rows = [(view.name_of_job, view.name, view.state, view.nodes or view.reason) for view in found]
    if cancel and found:
        client.cancel([job for job, *_ in rows])
    if json_:
        keys = ("job", "name", "state", "where")
        jobs = [dict(zip(keys, row, strict=True)) for row in rows]
        print_json({"schema": 1, "orphans": jobs, "cancelled": cancel and bool(jobs)})
    elif not rows:
        console().print("No Slurm job of ours is without a resource set")
    else:
        console().print(table("Cancelled" if cancel else "Orphans", ["job", "name", "state", "where or why"], rows))
        if not cancel:
            console().print("Cancel them with --orphans --cancel; jobs of another state folder may be among them")

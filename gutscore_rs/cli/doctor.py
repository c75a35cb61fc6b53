"""``doctor``: what is missing here and how to get it."""

from __future__ import annotations

import sys
from dataclasses import asdict

import click

from gutscore_rs.cli.cases import opened
from gutscore_rs.cli.exits import EXIT_FAILED
from gutscore_rs.cli.output import console, print_json
from gutscore_rs.doctor import examine_case, examine_host
from gutscore_rs.settings import Settings

SIGNS = {"ok": "[green]ok     [/green]", "note": "[yellow]note   [/yellow]", "problem": "[red]problem[/red]"}


@click.command()
@click.argument("case", required=False)
@click.option("--json", "json_", is_flag=True, help="Print one JSON object (schema 1).")
def doctor(case: str | None, json_: bool) -> None:
    """Say what is missing on this host and how to get it; with CASE also what is wrong with that case.

    Exit code 1 when there is a problem.
    """
    settings = Settings.from_environment()
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

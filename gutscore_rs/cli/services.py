"""``up``, ``down``, ``provisioner``: a case that outlives the command."""

from __future__ import annotations

import os

import click

from gutscore_rs.cli.cases import config_of, opened
from gutscore_rs.cli.output import console, print_json
from gutscore_rs.config import with_bind
from gutscore_rs.entrypoints import provisioner_command
from gutscore_rs.errors import ReleaseError
from gutscore_rs.lifecycle import release_all, start_services, stop_services
from gutscore_rs.settings import Settings


@click.command()
@click.argument("case")
@click.option("--bind", metavar="ADDRESS", help="Let the embedded server listen on this address, too (clear text).")
@click.option("--json", "json_", is_flag=True, help="Print one JSON object (schema 1).")
def up(case: str, bind: str | None, json_: bool) -> None:
    """Start what CASE needs here: its Redis (embedded, unless one is named) and a provisioner. Repeatable.

    Workers on other hosts reach an embedded server only on an address: --bind, or bind in [redis].
    """
    settings = Settings.from_environment()
    config = config_of(case, settings)
    services = start_services(with_bind(config, bind) if bind else config, settings)
    found = services.case
    for warning in services.warnings:
        console(err=True).print(f"[yellow]warning:[/yellow] {warning}")
    queue = found.queues[0]
    if json_:
        print_json(
            {
                "schema": 1,
                "case": found.name,
                "redis": found.store.where,
                "host": found.host,
                "started_server": services.started_server,
                "queues": [f"{found.name}:{name}" for name in found.queues],
            }
        )
    else:
        out = console()
        out.print(f"Case [bold]{found.name}[/bold] is up on {found.store.where}")
        out.print(f"  tasks: rq queue {found.name}:{queue}")
        out.print(
            f"  next:  gutscore-rs request {case}    gutscore-rs status {found.name}    gutscore-rs down {found.name}"
        )
    found.close()


@click.command()
@click.argument("case")
@click.option("--purge", is_flag=True, help="Also remove the data of the embedded server and the logs.")
@click.option("--timeout", default=60.0, show_default=True, type=click.FloatRange(1), help="Seconds for the release.")
def down(case: str, purge: bool, timeout: float) -> None:
    """Release everything of CASE, and stop its provisioner and embedded server on this host."""
    with opened(case, Settings.from_environment()) as found:
        problems = release_all(found, timeout)
        stop_services(found, remove=purge)
    if problems:
        raise ReleaseError("\n".join(problems))
    console().print(f"Case [bold]{found.name}[/bold] is down" + (", its data removed" if purge else ""))


@click.command()
@click.argument("case")
def provisioner(case: str) -> None:
    """Run a provisioner for CASE on this host, in the foreground; end it with Ctrl-C or SIGTERM."""
    settings = Settings.from_environment()
    with opened(case, settings) as found:
        command = provisioner_command(found.folder.access_file, slurm=config_of(case, settings).slurm)
    os.execv(command[0], command)  # noqa: S606 - it becomes the provisioner: one process, its own signals

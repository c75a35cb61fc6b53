"""``request``, ``release``, ``forget``, ``script``: acting on the resource sets of a running case."""

from __future__ import annotations

import sys

import click

from gutscore_rs.case import open_config
from gutscore_rs.cli.cases import config_of, opened
from gutscore_rs.cli.output import console, print_json
from gutscore_rs.entrypoints import submission_command
from gutscore_rs.errors import ConfigError, ReleaseError
from gutscore_rs.lifecycle import release_all
from gutscore_rs.manager import ResourceManager
from gutscore_rs.overview import Overview
from gutscore_rs.paths import StateFolder
from gutscore_rs.resource_set import ResourceSetBaseclass, ResourceSetSlurm
from gutscore_rs.resource_set.slurm import PREVIEW_TOKEN
from gutscore_rs.settings import Settings


@click.command()
@click.argument("case")
@click.option("--set", "wgroup_ids", type=int, multiple=True, help="Only these sets (default: all that it describes).")
@click.option("--wait", is_flag=True, help="Wait until all workers are alive.")
@click.option("--timeout", default=300.0, show_default=True, type=click.FloatRange(0), help="Seconds for --wait.")
@click.option("--json", "json_", is_flag=True, help="Print the count as one JSON object (schema 1).")
def request(case: str, wgroup_ids: tuple[int, ...], wait: bool, timeout: float, json_: bool) -> None:
    """Request the resource sets that CASE describes. It must be up; the sets belong to it.

    By its name: as in the file that it was brought up with.
    """
    settings = Settings.from_environment()
    config = config_of(case, settings)
    found = open_config(config, settings)
    operations = found.operations(requester=None)
    manager = ResourceManager(config, case=found, settings=settings)
    ids = wgroup_ids or tuple(range(len(config.groups)))
    unknown = [wgroup_id for wgroup_id in ids if not 0 <= wgroup_id < len(config.groups)]
    if unknown:
        raise ConfigError(f"{case} describes resource sets 0 to {len(config.groups) - 1}; there is no {unknown[0]}.")
    for wgroup_id in ids:
        operations.request(wgroup_id, config.groups[wgroup_id].to_spec(), timeout=config.manager.request_timeout)
        manager.take_over(wgroup_id, config.groups[wgroup_id])
    if wait:
        manager.wait_for_workers(timeout)
    view = Overview(found.store).count()
    found.close()
    if json_:
        print_json(view)
    else:
        console().print(
            f"Requested {len(ids)} resource sets of case [bold]{found.name}[/bold]; "
            f"{view['active']} of {view['expected']} workers are alive"
        )


@click.command()
@click.argument("case")
@click.option("--set", "wgroup_ids", type=int, multiple=True, help="Only these sets (default: all).")
@click.option("--timeout", default=60.0, show_default=True, type=click.FloatRange(0.1), help="Seconds.")
@click.option("--json", "json_", is_flag=True, help="Print the count as one JSON object (schema 1).")
def release(case: str, wgroup_ids: tuple[int, ...], timeout: float, json_: bool) -> None:
    """Release resource sets of CASE; returns when their workers are gone, or names what is left."""
    with opened(case, Settings.from_environment()) as found:
        problems = release_all(found, timeout, only=wgroup_ids or None)
        view = Overview(found.store).count()
    if problems:
        raise ReleaseError("\n".join(problems))
    if json_:
        print_json(view)
    else:
        console().print(f"Released; {view['active']} workers of case [bold]{found.name}[/bold] are alive")


@click.command()
@click.argument("case")
@click.option("--set", "wgroup_ids", type=int, multiple=True, help="Only these sets (default: all).")
def reconcile(case: str, wgroup_ids: tuple[int, ...]) -> None:
    """Have the provisioners of CASE compare its resource sets with what is, now and not at their next round."""
    with opened(case, Settings.from_environment()) as found:
        operations = found.operations()
        ids = list(wgroup_ids) or found.store.sets.ids()
        unknown = [wgroup_id for wgroup_id in ids if not operations.reconcile(wgroup_id)]
    if unknown:
        raise ConfigError(f"Case {case!r} has no resource set {unknown[0]}.")
    console().print(f"Asked to reconcile {len(ids)} resource sets of case [bold]{found.name}[/bold]")


@click.command()
@click.argument("case")
@click.option("--set", "wgroup_ids", type=int, multiple=True, help="Only these sets (default: the whole case).")
def forget(case: str, wgroup_ids: tuple[int, ...]) -> None:
    """Remove an ended CASE, or some of its ended sets, from Redis. Refuses while workers live."""
    with opened(case, Settings.from_environment()) as found:
        for wgroup_id in wgroup_ids:
            found.store.sets.forget(wgroup_id)
        if not wgroup_ids:
            found.store.forget()
    console().print(f"Forgotten: {', '.join(map(str, wgroup_ids)) or found.name}")


@click.command()
@click.argument("case")
@click.option("--set", "wgroup_id", type=int, default=0, show_default=True, help="Which set's script.")
@click.option("--test-only", is_flag=True, help="Also ask Slurm whether and when it would run; nothing is submitted.")
@click.option("--json", "json_", is_flag=True, help="Print one JSON object (schema 1).")
def script(case: str, wgroup_id: int, test_only: bool, json_: bool) -> None:
    """Print the exact batch script of a Slurm resource set of CASE; nothing is submitted.

    The token in it stands for the one that a submission makes.
    """
    settings = Settings.from_environment()
    config = config_of(case, settings)
    if not 0 <= wgroup_id < len(config.groups):
        raise ConfigError(f"{case} describes resource sets 0 to {len(config.groups) - 1}; there is no {wgroup_id}.")
    resource_set = ResourceSetBaseclass.from_description(wgroup_id, config.groups[wgroup_id])
    if not isinstance(resource_set, ResourceSetSlurm):
        raise ConfigError(
            f"Resource set {wgroup_id} of {case} has the backend {resource_set.backend!r}; only Slurm sets "
            'have a batch script. Set backend = "slurm" in [resource].'
        )
    folder = StateFolder.open(settings).case(config.name)
    command = submission_command(folder.access_file, token=PREVIEW_TOKEN, logs=folder.logs)
    text = resource_set.job_script(command=command, log_dir=str(folder.logs / "slurm"))
    verdict = resource_set.ask_slurm(text) if test_only else None
    if json_:
        asked = {} if verdict is None else {"slurm": verdict}
        print_json({"schema": 1, "case": config.name, "resource_set": wgroup_id, "script": text} | asked)
        return
    sys.stdout.write(text)
    if verdict is not None:
        click.echo(verdict, err=True)

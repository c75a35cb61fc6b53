"""``run_workergroup``: the launcher of a resource set's workers on one host.

Started by a provisioner (local sets: with ``--resource-set`` and ``--generation``) or by a batch script (Slurm: the
set is found by the submission's token and the array index). Exit codes: 0 the set ended in order, or another launcher
has its place; 2 wrong use; 69 Redis could not be reached; 70 an error of ours.
"""

from __future__ import annotations

import argparse
import logging
import os
import secrets
import sys
from pathlib import Path

from gutscore_rs.access import Access, read_access
from gutscore_rs.errors import GutscoreError, OperationRefusedError, StoreError
from gutscore_rs.identity import this_host, this_process
from gutscore_rs.paths import StateFolder
from gutscore_rs.processes import become_subreaper
from gutscore_rs.settings import Settings
from gutscore_rs.signature import check_description
from gutscore_rs.store import Store, load_scripts
from gutscore_rs.store.records import SlurmJob, State
from gutscore_rs.store.resource_sets import Attachment
from gutscore_rs_workers.launcher import Launch, Launcher
from gutscore_rs_workers.slurm import job
from gutscore_rs_workers.slurm.place import SlurmPlace, this_place
from gutscore_rs_workers.visible import retitle

EXIT_OK, EXIT_UNAVAILABLE, EXIT_INTERNAL = 0, 69, 70
LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s[%(process)d] %(message)s"

log = logging.getLogger(__name__)


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="run_workergroup", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--access", type=Path, required=True, help="access file of the case (mode 0600)")
    parser.add_argument("--resource-set", type=int, help="id of the resource set (wgroup_id); on Slurm: by the token")
    parser.add_argument("--generation", type=int, help="which request of the set this serves; on Slurm: by the token")
    parser.add_argument("--token", required=True, help="names the launch, or the submission that the Slurm job is of")
    parser.add_argument("--logs", type=Path, required=True, help="folder for the workers' logs")
    parser.add_argument("--step", action="store_true", help="in a step of an allocation: the set's share of this node")
    arguments = parser.parse_args(argv)
    if (arguments.resource_set is None) != (arguments.generation is None):
        parser.error("--resource-set and --generation belong together")
    if arguments.resource_set is None and this_place() is None:
        parser.error("outside of a Slurm job --resource-set and --generation are needed")
    if arguments.step and (arguments.resource_set is None or this_place() is None):
        parser.error("--step goes with --resource-set, inside a Slurm job")
    return arguments


def main(argv: list[str] | None = None) -> int:
    """Run a launcher until its set ends; see the module's docstring for the exit codes."""
    load_scripts()
    arguments = _arguments(argv)
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT, stream=sys.stderr)
    become_subreaper()
    try:
        access = read_access(arguments.access)
        # No retries inside: the launcher's loop must come back to its children soon, and tries again itself.
        store = Store.open(access, name="launcher", timeout=3.0, retries=1, patience=3.0)
        place = this_place() if arguments.step or arguments.resource_set is None else None
        if arguments.resource_set is None and place is not None:
            return _launch_in_job(access, store, arguments, place)
        wanted = job.Wanted(arguments.resource_set, arguments.generation, arguments.token, arguments.logs)
        return _launch(access, store, job.within(wanted, store, place) if place else wanted, place)
    except StoreError as error:
        log.error("%s", error)  # noqa: TRY400 - the message says it all
        return EXIT_UNAVAILABLE
    except GutscoreError as error:
        log.error("%s", error)  # noqa: TRY400
        return EXIT_INTERNAL


def _launch_in_job(access: Access, store: Store, arguments: argparse.Namespace, place: SlurmPlace) -> int:
    job.wait_for_redis(store)
    wanted = job.find_set(store, access, arguments.token, place, arguments.logs)
    if isinstance(wanted, str):
        log.info("not needed here: %s", wanted)
        return EXIT_OK
    return _launch(access, store, wanted, place)


def _launch(access: Access, store: Store, wanted: job.Wanted, place: SlurmPlace | None) -> int:
    settings = Settings.from_environment()
    state = StateFolder.open(settings)
    host = this_host(settings, state.root)
    identity = this_process(host)
    nonce = secrets.token_hex(4)
    attached = store.sets.attach(
        wanted.wgroup_id,
        generation=wanted.generation,
        token=wanted.token,
        node=host,
        nonce=nonce,
        identity=identity,
        job=SlurmJob(place.job, place.restarts, wanted.ends_at) if place else None,
    )
    if not isinstance(attached, Attachment):
        log.info("not needed here: %s", attached)
        return EXIT_OK
    launch = Launch(
        access=access,
        identity=identity,
        token=attached.record.token,
        nonce=nonce,
        record=attached.record,
        server_time=attached.server_time,
        logs=wanted.logs,
        state_root=state.root,
        place=place,
    )
    try:
        # Once more: it is what Redis says now that the workers will run with.
        check_description(access, attached.record)
    except OperationRefusedError as error:
        store.sets.detach(
            launch.wgroup_id,
            generation=launch.generation,
            node=host,
            owner=launch.owner,
            final=State.FAILED,
            why=str(error),
        )
        raise
    retitle(f"gutscore_rs: launcher of {launch.label}")
    return Launcher(launch, store).run()


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(main())

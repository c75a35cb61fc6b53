"""``run_workergroup``: the launcher of a resource set's workers on one host.

Started by a provisioner (local sets) or by a batch script (Slurm). Exit codes: 0 the set ended in order, or another
launcher has its place; 2 wrong use; 69 Redis could not be reached; 70 an error of ours.
"""

from __future__ import annotations

import argparse
import logging
import os
import secrets
import sys
from pathlib import Path

from gutscore_rs.access import read_access
from gutscore_rs.errors import GutscoreError, OperationRefusedError, StoreError
from gutscore_rs.identity import this_host, this_process
from gutscore_rs.paths import StateFolder
from gutscore_rs.processes import become_subreaper
from gutscore_rs.settings import Settings
from gutscore_rs.signature import check_description
from gutscore_rs.store import Store, load_scripts
from gutscore_rs.store.records import State
from gutscore_rs.store.resource_sets import Attachment
from gutscore_rs_workers.launcher import Launch, Launcher
from gutscore_rs_workers.visible import retitle

EXIT_OK, EXIT_UNAVAILABLE, EXIT_INTERNAL = 0, 69, 70
LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s[%(process)d] %(message)s"

log = logging.getLogger(__name__)


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="run_workergroup", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--access", type=Path, required=True, help="access file of the case (mode 0600)")
    parser.add_argument("--resource-set", type=int, required=True, help="id of the resource set (wgroup_id)")
    parser.add_argument("--generation", type=int, required=True, help="which request of the set this serves")
    parser.add_argument("--token", required=True, help="names the launch; a newer launch fences this one")
    parser.add_argument("--logs", type=Path, required=True, help="folder for the workers' logs")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run a launcher until its set ends; see the module's docstring for the exit codes."""
    load_scripts()
    arguments = _arguments(argv)
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT, stream=sys.stderr)
    become_subreaper()
    try:
        return _launch(arguments)
    except StoreError as error:
        log.error("%s", error)  # noqa: TRY400 - the message says it all
        return EXIT_UNAVAILABLE
    except GutscoreError as error:
        log.error("%s", error)  # noqa: TRY400
        return EXIT_INTERNAL


def _launch(arguments: argparse.Namespace) -> int:
    settings = Settings.from_environment()
    state = StateFolder.open(settings)
    access = read_access(arguments.access)
    host = this_host(settings, state.root)
    identity = this_process(host)
    # No retries inside: the launcher's loop must come back to its children soon, and tries again itself.
    store = Store.open(access, name=f"launcher-{arguments.resource_set}", timeout=3.0, retries=1, patience=3.0)
    nonce = secrets.token_hex(4)
    attached = store.sets.attach(
        arguments.resource_set,
        generation=arguments.generation,
        token=arguments.token,
        node=host,
        nonce=nonce,
        identity=identity,
    )
    if not isinstance(attached, Attachment):
        log.info("not needed here: %s", attached)
        return EXIT_OK
    record = attached.record
    try:
        # Once more: it is what Redis says now that the workers will run with.
        check_description(access, record)
    except OperationRefusedError as error:
        store.sets.detach(
            record.wgroup_id,
            generation=record.generation,
            node=host,
            owner=f"{arguments.token}:{nonce}:",
            final=State.FAILED,
            why=str(error),
        )
        raise
    launch = Launch(
        access=access,
        identity=identity,
        token=arguments.token,
        nonce=nonce,
        record=attached.record,
        server_time=attached.server_time,
        logs=arguments.logs,
        state_root=state.root,
    )
    retitle(f"gutscore_rs: launcher of {launch.label}")
    return Launcher(launch, store).run()


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(main())

"""Inside a Slurm job: which set its launcher serves, and the surroundings that a provisioner would have given it."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gutscore_rs.access import Access
from gutscore_rs.errors import StoreUnavailableError
from gutscore_rs.paths import private_folder
from gutscore_rs.settings import MARK, environment, environment_value
from gutscore_rs.signature import check_description
from gutscore_rs.store import Store
from gutscore_rs.store.records import ResourceSetRecord
from gutscore_rs.store.submissions import SubmissionRecord
from gutscore_rs_workers.affinity import thread_environment
from gutscore_rs_workers.slurm.place import SlurmPlace

log = logging.getLogger(__name__)

# A job that waited for hours must not end over an outage of minutes.
REDIS_PATIENCE, REDIS_PAUSE = 300.0, 1.0
# Set in an interpreter that was started anew with the environment of the description.
STARTED_ANEW = "GUTSCORE_RS_STARTED_ANEW"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a launcher is to launch.

    Attributes:
        token: Names the launch; on Slurm the submission.
        logs: Folder for the workers' logs.
        ends_at: Server seconds at which the job's time is over; 0.0: not known.
    """

    wgroup_id: int
    generation: int
    token: str
    logs: Path
    ends_at: float = 0.0


def submission_mark(case_mark: str, token: str) -> str:
    """The mark of what a job starts before its launcher knows its set."""
    return f"{case_mark}slurm/{token}"


def wait_for_redis(store: Store) -> None:
    """Wait until Redis answers.

    Raises:
        StoreUnavailableError: It does not for five minutes.
    """
    ends = time.monotonic() + REDIS_PATIENCE
    while True:
        try:
            store.ping()
        except StoreUnavailableError as error:
            if time.monotonic() > ends:
                raise
            log.warning("%s; trying again", error)
            time.sleep(REDIS_PAUSE)
        else:
            return


def find_set(store: Store, access: Access, token: str, place: SlurmPlace, logs: Path) -> Wanted | str:
    """The set that this job is for, by submission and array index (rulings 18); or why there is nothing to do.

    Sets folder, marks and environment of this process as a provisioner does for a launcher that it starts.

    Raises:
        OperationRefusedError: The description was changed by somebody without the case's key.
    """
    submission = store.submissions.get(token)
    if submission is None or not 0 <= place.task < len(submission.sets):
        return f"Redis knows no resource set for index {place.task} of submission {token}"
    wgroup_id, generation = submission.sets[place.task]
    record = store.sets.get(wgroup_id)
    if record is None or record.generation != generation:
        return f"resource set {wgroup_id} was requested anew, or is unknown in Redis"
    # Before anything of it is used: its environment may name what the loader loads.
    check_description(access, record)
    folder = private_folder(logs / f"set-{wgroup_id}" / f"g{generation}")
    _settle(record, token, folder)
    return Wanted(wgroup_id, generation, token, folder, _ends_at(store, submission, place))


def within(wanted: Wanted, store: Store, place: SlurmPlace) -> Wanted:
    """A set in an allocation, whose end is at the latest that of the allocation."""
    record = store.sets.get(wanted.wgroup_id)
    if record is None or not place.limit:
        return wanted
    left = min(float(record.runtime), place.limit - time.time())
    return replace(wanted, ends_at=store.time() + max(0.0, left))


def _ends_at(store: Store, submission: SubmissionRecord, place: SlurmPlace) -> float:
    end = place.end(submission.limit)
    # The node's clock and Redis' may differ; what is left is the same by both.
    return store.time() + end - time.time() if end else 0.0


def _settle(record: ResourceSetRecord, token: str, folder: Path) -> None:
    env = _environment(record, token)
    if record.spec.get("env") and environment_value(STARTED_ANEW) != token:
        # It may be meant for the loader or for Python, which have read theirs: start once more.
        log.info("starting anew with the environment of resource set %d", record.wgroup_id)
        sys.stderr.flush()
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], env | {STARTED_ANEW: token})  # noqa: S606
    os.environ.update(env)
    os.environ.pop(STARTED_ANEW, None)
    cwd = Path(str(record.spec.get("cwd") or folder))
    os.chdir(cwd if cwd.is_dir() else folder)


def _environment(record: ResourceSetRecord, token: str) -> dict[str, str]:
    spec: Mapping[str, Any] = record.spec
    env = environment() | thread_environment(spec.get("cpus_per_worker"))
    env |= {str(name): str(value) for name, value in (spec.get("env") or {}).items()}
    mark = env.get(MARK, "")
    if mark.endswith(submission_mark("", token)):
        env[MARK] = f"{mark.removesuffix(submission_mark('', token))}{record.wgroup_id}/{record.generation}/{token}"
    return env

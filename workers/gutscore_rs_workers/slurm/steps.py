"""Sets inside an allocation: a provisioner that runs in a Slurm job starts launchers on the job's nodes by srun.

For sites that forbid processes on login nodes: `gutscore-rs run` or `up` stands in the batch script or in salloc, and
nothing is submitted. The step's srun is a process of this host, known by its mark; the launchers end by orders in
Redis.
"""

from __future__ import annotations

import logging
import secrets
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from gutscore_rs.entrypoints import step_command
from gutscore_rs.errors import ConfigError, SlurmError
from gutscore_rs.operations.client import finish_release
from gutscore_rs.paths import private_folder
from gutscore_rs.processes import Trail, kill_trail, marked_processes, start_detached
from gutscore_rs.settings import MARK, environment, environment_value
from gutscore_rs.slurm import SlurmClient
from gutscore_rs.slurm.job_script import JOB_END, step_words
from gutscore_rs.store import allocation_server
from gutscore_rs.store.records import ResourceSetRecord, State
from gutscore_rs_workers.affinity import thread_environment
from gutscore_rs_workers.local_backend import case_mark, logs_of, mark_of, relaunch
from gutscore_rs_workers.site import Allocation, Site
from gutscore_rs_workers.slurm.submit import refusal

log = logging.getLogger(__name__)

# Beyond its drain a launcher needs a beat to hear of its end, and this long to stop.
STOP_SECONDS = 12.0


def find_allocation() -> Allocation | None:
    """The job that this process runs in; None outside of one, or without srun."""
    job_id = environment_value("SLURM_JOB_ID")
    if not job_id or shutil.which("srun") is None:
        return None
    nodes = environment_value("SLURM_JOB_NUM_NODES") or environment_value("SLURM_NNODES") or "1"
    return Allocation(allocation_server(job_id), job_id, int(nodes) if nodes.isdigit() else 1, _end(job_id))


def _end(job_id: str) -> float:
    given = environment_value("SLURM_JOB_END_TIME")
    if given and given.isdigit():
        return float(given)
    try:
        return SlurmClient(timeout=5.0).end_time(job_id) or 0.0
    except SlurmError as error:
        log.warning("the end of job %s is not known: %s", job_id, error)
        return 0.0


def start(site: Site, allocation: Allocation, record: ResourceSetRecord) -> str:
    """Carry out a request: a step with one launcher on each node that the set asks for."""
    if record.state is not State.REQUESTED:
        return f"nothing to start: the set is {record.state}"
    error = _refusal(site, allocation, record)
    if error:
        site.store.sets.transition(record, State.FAILED, error, error=error)
        return error
    token = secrets.token_hex(8)
    taken = site.store.sets.transition(
        record,
        State.SUBMITTING,
        f"step {record.launches + 1} in job {allocation.job_id}",
        token=token,
        launches=record.launches + 1,
    )
    if taken is None:
        return "nothing to start: the set changed meanwhile"
    try:
        logs = private_folder(logs_of(site, record))
        command = step_words(
            taken.spec,
            step_command(
                site.folder.access_file,
                wgroup_id=record.wgroup_id,
                generation=record.generation,
                token=token,
                logs=logs,
            ),
            job_id=allocation.job_id,
        )
        env, cwd = _environment(site, allocation, taken), _cwd(taken, logs)
        pid = start_detached(command, log=logs / "step.log", env=env, cwd=cwd)
    except (ConfigError, OSError) as failure:
        error = f"the step in job {allocation.job_id} could not be started: {failure}"
        site.store.sets.transition(taken, State.FAILED, error, error=error)
        return error
    return f"srun {pid} started"


def _refusal(site: Site, allocation: Allocation, record: ResourceSetRecord) -> str:
    error = refusal(site, record)
    if error:
        return error
    nodes = int(record.spec.get("nodes", 1))
    if nodes > allocation.nodes:
        return (
            f"{nodes} nodes are more than job {allocation.job_id} has ({allocation.nodes}). Lower `nodes`, or ask for "
            "a larger allocation."
        )
    return ""


def _environment(site: Site, allocation: Allocation, record: ResourceSetRecord) -> dict[str, str]:
    spec = record.spec
    env = environment() | thread_environment(spec.get("cpus_per_worker"))
    env |= {str(name): str(value) for name, value in (spec.get("env") or {}).items()}
    env |= {MARK: case_mark(site.folder) + mark_of(record, record.token), JOB_END: f"{allocation.end:.0f}"}
    # srun takes its own options from these, too (srun(1), INPUT ENVIRONMENT VARIABLES).
    return {name: value for name, value in env.items() if not name.startswith(("SLURM_CPU_BIND", "SLURM_MEM_PER"))}


def _cwd(record: ResourceSetRecord, logs: Path) -> Path:
    cwd = Path(str(record.spec.get("cwd") or logs))
    return cwd if cwd.is_dir() else logs


def release(site: Site, record: ResourceSetRecord, renew_lock: Callable[[], object]) -> str:
    """Carry out a release: the launchers hear of it by their next beat; then the step's srun, if it is still there."""
    if record.state is not State.RELEASING:
        return f"nothing to release: the set is {record.state}"
    until = time.monotonic() + float(record.spec.get("drain_timeout", 5.0)) + STOP_SECONDS
    while time.monotonic() < until and site.store.sets.launchers(record.wgroup_id):
        time.sleep(0.1)
        renew_lock()
    # An srun whose launchers signed off ends by itself; one that is killed takes its step with it.
    left = kill_trail(Trail(case_mark(site.folder) + mark_of(record), prefix=True))
    if left:
        error = f"these processes on {site.host} could not be killed: {left}"
        site.store.sets.note(record.wgroup_id, error=error)
        return error
    if not site.store.workers.count(record.wgroup_id):
        site.store.sets.detach_all(record, "its step is gone")
    return "released" if finish_release(site.store, record) else "its leases have not ended yet"


def judge(site: Site, record: ResourceSetRecord) -> None:
    """A set whose step is gone is launched again, or has ended."""
    if record.state not in (State.SUBMITTING, State.STARTING, State.ACTIVE, State.DRAINING):
        return
    if marked_processes(case_mark(site.folder) + mark_of(record), prefix=True):
        return
    if site.store.time() < record.changed_at + 1.0 or site.store.workers.count(record.wgroup_id):
        return
    why = f"its step in job {record.server.rpartition(':')[2]} ended; see {logs_of(site, record) / 'step.log'}"
    site.store.sets.detach_all(record, why)
    relaunch(site, record, why)

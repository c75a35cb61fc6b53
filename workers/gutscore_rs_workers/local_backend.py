"""The local backend: starting and ending launchers on this host, each step safe to die at and to repeat."""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from gutscore_rs.entrypoints import arguments_of, workergroup_command
from gutscore_rs.errors import OperationRefusedError, StateFolderError
from gutscore_rs.identity import ProcessIdentity, identify, is_alive, is_here, process_stat
from gutscore_rs.operations.client import finish_release
from gutscore_rs.paths import CaseFolder
from gutscore_rs.processes import Trail, kill_marked, kill_trail, marked_processes, start_detached, stop
from gutscore_rs.settings import MARK, environment
from gutscore_rs.signature import check_description
from gutscore_rs.store import Store
from gutscore_rs.store.records import LauncherRecord, ResourceSetRecord, State, WorkerRecord
from gutscore_rs.store.workers import Departure
from gutscore_rs_workers.affinity import thread_environment
from gutscore_rs_workers.recovery import recover_lost
from gutscore_rs_workers.site import Site

log = logging.getLogger(__name__)

# Launchers that end before they attach are tried again after 1, 2 s, then the set fails.
MOST_ATTEMPTS = 3
# A launcher that is killed is replaced, within the set's runtime, this often.
MOST_LAUNCHES = 5
ATTACH_SECONDS = 60.0
LOG_TAIL = 15


def mark_of(record: ResourceSetRecord, token: str = "") -> str:
    """The mark of everything that a launch starts; without token and launch: of the whole request."""
    return f"{record.wgroup_id}/{record.generation}/{token}"


def case_mark(folder: CaseFolder) -> str:
    """The mark of everything that any process of a case starts on this host, cases of other state folders apart."""
    return f"{folder.root}:"


def logs_of(site: Site, record: ResourceSetRecord) -> Path:
    """The folder of the logs of a request's launchers and workers."""
    return site.folder.logs / f"set-{record.wgroup_id}" / f"g{record.generation}"


def trail_of(site: Site, record: ResourceSetRecord, token: str = "", workers: Iterable[WorkerRecord] = ()) -> Trail:
    """By what all is known that a launch, or a whole request, has started here; ``workers``: those that it had."""
    return Trail(
        case_mark(site.folder) + mark_of(record, token),
        prefix=True,
        output=f"{os.path.realpath(logs_of(site, record))}/",
        sessions=frozenset(worker.pid for worker in workers if _is_its_session(worker)),
    )


def _is_its_session(worker: WorkerRecord) -> bool:
    """Whether a session of this number is the worker's: no other gets the number while the session has members."""
    stat = process_stat(worker.pid)
    return stat is None or stat[2] == worker.start_ticks


def start(site: Site, record: ResourceSetRecord) -> str:
    """Carry out a request: start a launcher and see it attach.

    Returns:
        What happened, for the operation's record.
    """
    if record.state is not State.REQUESTED:
        return f"nothing to start: the set is {record.state}"
    if site.store.time() > record.expires_at:
        why = "request expired: no provisioner answered in time; request it again"
        site.store.sets.transition(record, State.FAILED, why, error=why)
        return why
    try:
        check_description(site.access, record)
    except OperationRefusedError as error:
        site.store.sets.transition(record, State.FAILED, str(error), error=str(error))
        raise
    token = secrets.token_hex(8)
    taken = site.store.sets.transition(
        record,
        State.SUBMITTING,
        f"launch {record.launches + 1} on {site.host}",
        token=token,
        launches=record.launches + 1,
    )
    if taken is None:
        return "nothing to start: the set changed meanwhile"
    logs = logs_of(site, record)
    try:
        logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        pid = _start_launcher(site, taken, logs)
    except (OSError, StateFolderError) as error:
        return _failed_start(site, taken, f"the launcher could not be started on {site.host}: {error}")
    return _see_it_attach(site, taken, pid, logs / "launcher.log")


def _start_launcher(site: Site, record: ResourceSetRecord, logs: Path) -> int:
    spec = record.spec
    command = workergroup_command(
        site.folder.access_file, wgroup_id=record.wgroup_id, generation=record.generation, token=record.token, logs=logs
    )
    env = environment() | thread_environment(spec.get("cpus_per_worker"))
    env |= {str(name): str(value) for name, value in (spec.get("env") or {}).items()}
    env[MARK] = case_mark(site.folder) + mark_of(record, record.token)
    cwd, log_file = Path(str(spec.get("cwd") or logs)), logs / "launcher.log"
    cwd = cwd if cwd.is_dir() else logs
    # An environment of its own may be meant for the loader or for Python: then only a new program will do.
    if site.fork_server is not None and not spec.get("env"):
        pid = site.fork_server.launch(arguments_of(command), env=env, cwd=cwd, log_file=log_file)
        if pid is not None:
            return pid
    return start_detached(command, log=log_file, env=env, cwd=cwd)


def _see_it_attach(site: Site, record: ResourceSetRecord, pid: int, log_file: Path) -> str:
    """Wait until the launcher is attached or ended; a death now is a failed attempt with its last words."""
    began, pause, identity = time.monotonic(), 0.005, identify(pid, site.host)
    while time.monotonic() - began < ATTACH_SECONDS:
        ended = _how_it_ended(pid, identity)
        now = site.store.sets.get(record.wgroup_id)
        if now is None or now.token != record.token or now.state is not State.SUBMITTING:
            return f"launcher {pid} started"
        if ended:
            return _failed_start(site, record, f"the launcher on {site.host} {ended}: {_tail(log_file)}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)
    kill_marked(case_mark(site.folder) + mark_of(record, record.token), prefix=True)
    return _failed_start(site, record, f"the launcher on {site.host} did not report within {ATTACH_SECONDS:.0f} s")


def _how_it_ended(pid: int, identity: ProcessIdentity | None) -> str:
    try:
        found, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        # The fork server's: once it has ended nobody knows its exit code.
        return "" if identity is not None and is_alive(identity) else "ended"
    return f"ended with code {os.waitstatus_to_exitcode(status)}" if found else ""


def _failed_start(site: Site, record: ResourceSetRecord, error: str) -> str:
    attempts = record.attempts + 1
    if attempts >= MOST_ATTEMPTS:
        site.store.sets.transition(record, State.FAILED, error, error=error, attempts=attempts)
    else:
        next_try = site.store.time() + 2 ** (attempts - 1)
        site.store.sets.transition(
            record, State.REQUESTED, error, error=error, attempts=attempts, next_try_at=f"{next_try:.6f}"
        )
    return error


def _tail(log_file: Path) -> str:
    try:
        lines = log_file.read_text(errors="replace").splitlines()
    except OSError as error:
        return f"its log cannot be read ({error})"
    return " | ".join(lines[-LOG_TAIL:]) or "it wrote nothing"


def release(site: Site, record: ResourceSetRecord, renew_lock: Callable[[], object]) -> str:
    """Carry out a release: end this host's launchers, and see that nothing of them is left."""
    if record.state is not State.RELEASING:
        return f"nothing to release: the set is {record.state}"
    drain = float(record.spec.get("drain_timeout", 5.0))
    for launcher in _launchers_here(site, record):
        # The launcher drains, stops and kills by itself; beyond that it must be hung or stopped.
        stopped = stop(launcher.identity, grace=drain + 8.0)
        renew_lock()
        bury_launcher(site, record, launcher, "released")
        if not stopped:
            log.error("launcher %d survived SIGKILL", launcher.identity.pid)
    left = kill_trail(trail_of(site, record))
    if left:
        error = f"these processes on {site.host} could not be killed: {left}"
        site.store.sets.note(record.wgroup_id, error=error)
        return error
    return "released" if finish_release(site.store, record) else "launchers on other hosts are still there"


def _launchers_here(site: Site, record: ResourceSetRecord) -> list[LauncherRecord]:
    return [
        launcher
        for launcher in site.store.sets.launchers(record.wgroup_id)
        if launcher.node == site.host and is_here(launcher.identity, site.host)
    ]


def dead_launchers(site: Site, record: ResourceSetRecord) -> list[LauncherRecord]:
    """Launchers of the set on this host whose process is gone although they did not sign off."""
    return [launcher for launcher in _launchers_here(site, record) if not is_alive(launcher.identity)]


def bury_launcher(site: Site, record: ResourceSetRecord, launcher: LauncherRecord, reason: str) -> None:
    """A launcher's process is gone: so are its workers. Deregister them at once, and hand on their jobs.

    Its workers die with it (PDEATHSIG); what their tasks had started is found by its trail.
    """
    workers = site.store.workers.registered(record.wgroup_id, launcher.node)
    kill_trail(trail_of(site, record, launcher.token, workers))
    deregister(site.store, record.wgroup_id, workers, reason)
    site.store.sets.detach(
        record.wgroup_id, generation=record.generation, node=launcher.node, owner=launcher.owner, final=None, why=reason
    )


def deregister(store: Store, wgroup_id: int, workers: list[WorkerRecord], reason: str) -> None:
    """Workers that are certainly gone: out of the count, their jobs back into the queues, then forgotten.

    In this order whoever is killed in the middle of it strands no job: the next one finds the records.
    """
    departures = [Departure(worker.member, worker.host, worker.pid, reason) for worker in workers]
    store.workers.leave(wgroup_id, departures, keep_records=True)
    names = [worker.rq_name for worker in workers if worker.rq_name]
    for name in names:
        recover_lost(store, name, reason=reason, dead=True)
    store.workers.leave(wgroup_id, departures)
    if names:
        record = store.sets.get(wgroup_id)
        store.jobs.unregister_workers(names, list(record.spec.get("queues", [])) if record else [])


def relaunch(site: Site, record: ResourceSetRecord, why: str) -> None:
    """A set lost its launcher: request it again for what is left of its runtime."""
    now = site.store.time()
    if record.deadline and record.deadline - now < 2.0:  # noqa: PLR2004 - not worth starting anything
        site.store.sets.transition(record, State.EXPIRED, f"{why}; its runtime is over")
    elif record.launches >= MOST_LAUNCHES:
        error = f"{why}; launched {record.launches} times, not again. See `gutscore-rs logs {site.store.case}`"
        site.store.sets.transition(record, State.FAILED, error, error=error)
    else:
        site.store.sets.transition(
            record, State.REQUESTED, why, error=why, next_try_at=0, expires_at=f"{max(record.deadline, now + 60):.6f}"
        )


def is_marked_alive(site: Site, record: ResourceSetRecord) -> bool:
    """Whether any process of the newest launch runs on this host."""
    return bool(marked_processes(case_mark(site.folder) + mark_of(record, record.token), prefix=True))

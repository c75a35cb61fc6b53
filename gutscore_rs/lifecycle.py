"""Starting and stopping what a case needs: the embedded server and a provisioner on this host."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from gutscore_rs import embedded
from gutscore_rs.access import Access, write_access
from gutscore_rs.case import Case, find_access
from gutscore_rs.config import CaseConfig, SlurmSection
from gutscore_rs.entrypoints import provisioner_command
from gutscore_rs.errors import ConfigError, GutscoreError, NoProvisionerError, ReleaseError, SerializationError
from gutscore_rs.identity import ProcessIdentity, identify, is_alive, is_here, this_host
from gutscore_rs.paths import CaseFolder, StateFolder, locked, write_private
from gutscore_rs.processes import Trail, kill_trail, start_detached, stop
from gutscore_rs.settings import Settings, environment
from gutscore_rs.store import Store

PROVISIONER_READY = 20.0
# Another `up` of the case may be at work: server and provisioner take a second, on a busy machine many.
START_PATIENCE = 60.0


@dataclass(slots=True)
class Services:
    """What was found or started for a case.

    Attributes:
        case: The open case.
        started_server: Whether this call started the embedded server.
        started_provisioner: Whether this call started the provisioner.
        warnings: What the server's settings put at risk.
    """

    case: Case
    started_server: bool
    started_provisioner: bool
    warnings: tuple[str, ...]


def start_services(config: CaseConfig, settings: Settings, *, owner: ProcessIdentity | None = None) -> Services:
    """Bring a case up: its Redis (embedded unless one is named) and a provisioner here. Repeatable.

    Args:
        config: The case.
        settings: Where the state folder is.
        owner: The process that the case shall not outlive by more than a minute; None: until ``down``.

    Raises:
        GutscoreError: Something did not start; nothing half-started is left behind.
    """
    state = StateFolder.open(settings)
    folder = state.case(config.name)
    folder.create()
    with locked(folder.start_lock, timeout=START_PATIENCE):
        return _start(config, settings, folder, this_host(settings, state.root), owner)


def _start(
    config: CaseConfig, settings: Settings, folder: CaseFolder, host: str, owner: ProcessIdentity | None
) -> Services:
    access, started = _find_or_start_server(config, settings, folder, host)
    case = Case(folder, host, access, Store.open(access, name="gutscore-rs"), tuple(config.tasks.queues))
    try:
        warnings = case.store.inspect().warnings
        if Path(config.source).is_file():
            write_private(folder.source, str(Path(config.source).absolute()).encode())
        guard = started and owner is not None
        fresh = ensure_provisioner(case, owner=owner, guard_server=guard, slurm=config.slurm)
    except BaseException:
        if started:
            stop_services(case, remove=False)
        raise
    return Services(case, started, fresh, warnings)


def _find_or_start_server(config: CaseConfig, settings: Settings, folder: CaseFolder, host: str) -> tuple[Access, bool]:
    access, bind = find_access(folder, settings, config.redis), config.redis.bind
    running = embedded.find(folder, host) if access is not None and access.url is None else None
    if running is not None and bind is not None and running.bind != bind:
        raise ConfigError(
            f"Case {folder.name!r} already runs, and its server does not listen on {bind} (but on "
            f"{running.bind or 'a unix socket only'}). End it first with `gutscore-rs down {folder.name}`."
        )
    if access is not None and (access.url is not None or running):
        return access, False
    # An access file without its server is what a crash left: the data are still there, the server is started on them.
    password = access.password if access else None
    if bind and not password:
        password = secrets.token_urlsafe(32)
    record = embedded.start(folder, host, bind=bind, password=password)
    address = embedded.address_of(record)
    if access is None or (access.socket, access.password, access.address) != (record.socket, password, address):
        access = Access.new(folder.name, socket=record.socket, password=password, address=address)
        write_access(folder.access_file, access)
    return access, True


def ensure_provisioner(
    case: Case,
    *,
    owner: ProcessIdentity | None = None,
    guard_server: bool = False,
    slurm: SlurmSection | None = None,
) -> bool:
    """See that a live provisioner serves this host; start one and wait for it if not.

    Returns:
        Whether one was started.

    Raises:
        NoProvisionerError: It did not come up; the message has the end of its log.
    """
    if provisioners_of(case) and case.store.provisioners.serving(case.host):
        return False
    log = case.folder.log("provisioner")
    command = provisioner_command(case.folder.access_file, owner=owner, guard_server=guard_server, slurm=slurm)
    pid = start_detached(command, log=log, env=environment(), cwd=case.folder.root)
    ends = time.monotonic() + PROVISIONER_READY
    while not any(record.pid == pid for record in case.store.provisioners.serving(case.host)):
        if identify(pid, case.host) is None or time.monotonic() > ends:
            raise NoProvisionerError(f"The provisioner of case {case.name!r} did not start: {_tail(log)}")
        time.sleep(0.003)
    return True


def _tail(log: Path) -> str:
    try:
        return " | ".join(log.read_text(errors="replace").splitlines()[-5:])
    except OSError as error:
        return str(error)


def provisioners_of(case: Case) -> list[ProcessIdentity]:
    """The case's provisioners on this host that live."""
    found = []
    for record in case.folder.provisioners.glob("*.json"):
        try:
            identity = ProcessIdentity.from_dict(json.loads(record.read_bytes()))
        except (OSError, ValueError, SerializationError):
            continue
        if is_here(identity, case.host) and is_alive(identity):
            found.append(identity)
    return found


def stop_provisioners(case: Case) -> list[int]:
    """End the case's provisioners on this host; pids of those that survived."""
    return [identity.pid for identity in provisioners_of(case) if not stop(identity, grace=12.0)]


def stop_services(case: Case, *, remove: bool) -> None:
    """End what runs on this host for the case: provisioner, embedded server, stray processes of tasks.

    Resource sets must have been released before.

    Args:
        case: The case.
        remove: Also remove its folder (data of the embedded server, logs, access file).

    Raises:
        ReleaseError: A process survived; it is named.
    """
    problems: list[str] = []
    try:
        problems += [f"provisioner {pid}" for pid in stop_provisioners(case)]
    finally:
        case.close()
        if case.access.socket is not None and not embedded.stop(case.folder, case.host):
            problems.append("the embedded server")
        output = f"{os.path.realpath(case.folder.logs)}/set-"
        left = kill_trail(Trail(f"{case.folder.root}:", prefix=True, output=output))
        problems += [f"process {pid} of a task" for pid in left]
    if problems:
        raise ReleaseError(f"Case {case.name!r}: these survived: {', '.join(problems)}. End them by hand.")
    if case.access.socket is not None:
        case.folder.access_file.unlink(missing_ok=True)
    if remove:
        case.folder.remove()


def release_all(case: Case, timeout: float, *, only: Collection[int] | None = None) -> list[str]:
    """Release every set of the case (or only some), side by side; what went wrong, as sentences."""
    operations = case.operations()
    records, unreadable = case.store.sets.readable()
    problems = [str(error) for error in unreadable]
    ids = [
        record.wgroup_id for record in records if not record.state.ended and (only is None or record.wgroup_id in only)
    ]
    for wgroup_id in ids:
        operations.begin_release(wgroup_id)
    ends = time.monotonic() + timeout
    for wgroup_id in ids:
        try:
            operations.release(wgroup_id, max(0.1, ends - time.monotonic()))
        except GutscoreError as error:
            problems.append(str(error))
    return problems

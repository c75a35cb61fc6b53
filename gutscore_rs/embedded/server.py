"""Starting, finding and stopping the embedded server of a case.

It listens on a unix socket in a folder of ours (0700) and, only with ``bind``, on an address with a password. It is
found again by pid, start time, boot and socket, never by name; it outlives a crashed command line but not ``down``.
"""

from __future__ import annotations

import json
import os
import re
import socket as sockets
import time
from dataclasses import dataclass
from pathlib import Path

from gutscore_rs.embedded.binary import server_binary
from gutscore_rs.embedded.resp import ask, listener_pid
from gutscore_rs.errors import SerializationError, ServerError
from gutscore_rs.identity import ProcessIdentity, identify, is_alive, is_here
from gutscore_rs.paths import CaseFolder, locked, private_folder, write_private
from gutscore_rs.processes import reap, start_detached
from gutscore_rs.processes import stop as stop_process
from gutscore_rs.settings import environment

START_SECONDS = 30.0
DEFAULT_PORT = "6379"
# Addresses that mean all addresses of this host.
ANY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104 - nothing is bound to them here
STOP_SECONDS = 10.0
# From the start of a server to its socket; loading its data comes after that.
SOCKET_SECONDS = 2.0
# The server needs next to nothing of the environment, and none of our secrets.
_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "GUTSCORE_RS_MARK")
_PLAIN = re.compile(r"[^\x00-\x1f\x7f\"\\]+")


@dataclass(frozen=True, slots=True)
class ServerRecord:
    """A server that was started for a case.

    Attributes:
        identity: Its process.
        socket: Its unix socket.
        bind: Further address (with or without a port) that it listens on, or None.
    """

    identity: ProcessIdentity
    socket: str
    bind: str | None


def address_of(record: ServerRecord) -> str | None:
    """Where other hosts reach a server, as a URL; None when it listens on its socket only."""
    if record.bind is None:
        return None
    host, port = _parts(record.bind)
    if host in ANY_ADDRESS:
        host = sockets.getfqdn()
    return f"redis://{f'[{host}]' if ':' in host else host}:{port}"


def _parts(bind: str) -> tuple[str, str]:
    # An IPv6 address stands in brackets when a port follows it (RFC 3986).
    host, _, port = bind.removeprefix("[").partition("]:" if "]" in bind else ":")
    return host.rstrip("]"), port or DEFAULT_PORT


def start(folder: CaseFolder, host: str, *, bind: str | None = None, password: str | None = None) -> ServerRecord:
    """Start the server of a case, on the data of its last life; the living one if there is one.

    Args:
        folder: The case's folder.
        host: This host's name.
        bind: An address to listen on as well, in clear text; with or without a port (6379).
        password: Needed with ``bind``.

    Raises:
        ServerError: It did not come up; the message has its last words.
        StateFolderError: The folders cannot be used.
    """
    if bind is not None and not password:
        raise ServerError(f"A server that listens on {bind} needs a password.")
    folder.create()
    with locked(folder.lock_file, timeout=START_SECONDS):
        log = folder.server_dir / "server.log"
        _refuse_foreign(folder, host)
        record = _living(folder)
        if record is not None and _listens(record):
            # Whoever started it may have died before it was ready.
            _wait_ready(record, log)
            return record
        if record is not None and not stop_process(record.identity, grace=STOP_SECONDS):
            raise ServerError(
                f"The embedded server (pid {record.identity.pid}) lost its socket {record.socket} and "
                "does not end. End it by hand, then try again."
            )
        socket = _socket_of_last_life(folder) or folder.socket
        private_folder(socket.parent)
        _end_unrecorded(socket, host)
        socket.unlink(missing_ok=True)
        config = folder.server_dir / "server.conf"
        write_private(config, _configuration(folder, socket, bind, password).encode())
        identity = _launch(config, folder, host, log)
        record = ServerRecord(identity, str(socket), bind)
        try:
            # On record before it is ready: two servers must never work on the same data.
            _write(folder, record)
            _wait_ready(record, log)
        except BaseException:
            if stop_process(identity, grace=STOP_SECONDS):
                _clear(folder, record)
            raise
        return record


def _listens(record: ServerRecord) -> bool:
    """Whether the server's socket is there: a login manager removes it with its folder when the user logs out."""
    ends = time.monotonic() + SOCKET_SECONDS
    # It may only just have been started: its socket is made before it reads its data.
    while not Path(record.socket).exists():
        if time.monotonic() > ends or not is_alive(record.identity):
            return False
        time.sleep(0.01)
    return True


def _end_unrecorded(socket: Path, host: str) -> None:
    """A server without a record still has our socket (its case's folder was removed): two must never be at work."""
    pid = listener_pid(str(socket))
    if pid is None:
        return
    identity = identify(pid, host) if pid else None
    if identity is None or not stop_process(identity, grace=STOP_SECONDS):
        raise ServerError(
            f"An unknown server (pid {pid or 'of another container'}) answers at {socket}. End it, then try again."
        )


def _launch(config: Path, folder: CaseFolder, host: str, log: Path) -> ProcessIdentity:
    env = {name: value for name, value in environment().items() if name in _ENVIRONMENT}
    try:
        pid = start_detached([str(server_binary()), str(config)], log=log, env=env, cwd=folder.server_dir, umask=0o077)
    except OSError as error:
        raise ServerError(f"The embedded server cannot be started: {error}.") from error
    identity = identify(pid, host)
    if identity is None:
        reap(pid)
        raise ServerError(f"The embedded server ended at once: {_last_words(log)}")
    return identity


def _socket_of_last_life(folder: CaseFolder) -> Path | None:
    """Where the processes of the case expect the server: they outlived it, and look for it there."""
    record = _read(folder)
    if record is None:
        return None
    place = Path(record.socket).parent
    # The place may have been cleared away; what it was in may be back (another login) or not.
    can_be_made = place.parent.is_dir() and os.access(place.parent, os.W_OK)
    return Path(record.socket) if place.is_dir() or can_be_made else None


def _configuration(folder: CaseFolder, socket: Path, bind: str | None, password: str | None) -> str:
    address, port = _parts(bind) if bind else ("", "0")
    lines = {
        "port": port,
        "unixsocket": _quoted(socket),
        "unixsocketperm": "700",
        "dir": _quoted(folder.server_dir),
        "daemonize": "no",
        "logfile": '""',
        "appendonly": "yes",
        "appendfsync": "always",
        "save": '""',
        "maxmemory-policy": "noeviction",
        "maxclients": "10000",
        "tcp-keepalive": "60",
        "timeout": "0",
    }
    if bind:
        lines |= {"bind": _quoted(address), "protected-mode": "yes", "requirepass": _quoted(password or "")}
    return "".join(f"{name} {value}\n" for name, value in lines.items())


def _quoted(value: str | Path) -> str:
    text = str(value)
    if not _PLAIN.fullmatch(text):
        raise ServerError(
            f"{text!r} cannot stand in the server's configuration: it is empty or has control characters, "
            "quotes or backslashes in it."
        )
    return f'"{text}"'


def _refuse_foreign(folder: CaseFolder, host: str) -> None:
    """A record of a server that may live where we cannot see it: two servers on one folder would ruin its data."""
    record = _read(folder)
    if record is None or is_here(record.identity, host):
        return
    where = record.identity.host
    if where == host:
        where += " in another container (pid namespace)"
    raise ServerError(
        f"The embedded server of case {folder.name!r} was started on host {where}. Use the case from "
        f"there, end it there with `gutscore-rs down {folder.name}`, or, if that host is gone for good, remove "
        f"{folder.server_record}."
    )


def _wait_ready(record: ServerRecord, log: Path) -> None:
    ends, pause = time.monotonic() + START_SECONDS, 0.002
    while time.monotonic() < ends:
        if not is_alive(record.identity):
            raise ServerError(f"The embedded server ended at once: {_last_words(log)}")
        try:
            answer = ask(record.socket, "PING")
        except OSError:
            answer = ""
        # NOAUTH: it is up and wants its password.
        if answer == "+PONG" or answer.startswith("-NOAUTH"):
            return
        if answer.startswith("-LOADING"):
            # It reads the data of its last life, however long that takes.
            ends = time.monotonic() + START_SECONDS
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)
    raise ServerError(
        f"The embedded server (pid {record.identity.pid}) was not ready after {START_SECONDS:.0f} s: {_last_words(log)}"
    )


def _last_words(log: Path) -> str:
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError as error:
        return f"its log cannot be read ({error})"
    telling = [line for line in lines[-30:] if "#" in line or "rror" in line or "FATAL" in line] or lines
    return f"{' | '.join(telling[-5:]) or 'it wrote nothing'} (log: {log})"


def _read(folder: CaseFolder) -> ServerRecord | None:
    try:
        data = json.loads(folder.server_record.read_bytes())
        return ServerRecord(ProcessIdentity.from_dict(data["identity"]), str(data["socket"]), data["bind"])
    except (OSError, ValueError, KeyError, TypeError, SerializationError):
        return None


def _write(folder: CaseFolder, record: ServerRecord) -> None:
    write_private(
        folder.server_record,
        json.dumps(
            {
                "schema": 1,
                "identity": record.identity.to_dict(),
                "socket": record.socket,
                "bind": record.bind,
            }
        ).encode(),
    )


def _clear(folder: CaseFolder, record: ServerRecord) -> None:
    folder.server_record.unlink(missing_ok=True)
    Path(record.socket).unlink(missing_ok=True)


def _living(folder: CaseFolder) -> ServerRecord | None:
    record = _read(folder)
    return record if record is not None and is_alive(record.identity) else None


def find(folder: CaseFolder, host: str) -> ServerRecord | None:
    """The server of a case on this host, when it lives and its socket is there; else None."""
    record = _living(folder)
    if record is None or not is_here(record.identity, host) or not Path(record.socket).exists():
        return None
    return record


def stop(folder: CaseFolder, host: str, *, timeout: float = STOP_SECONDS) -> bool:
    """Stop the case's server; its data stay.

    Returns:
        Whether none is left. False too when it was started where this process cannot see it: on another host, in
        another container.
    """
    record = _read(folder)
    if record is None:
        return True
    if not is_here(record.identity, host):
        return False
    if not stop_process(record.identity, grace=timeout):
        return False
    _clear(folder, record)
    return True

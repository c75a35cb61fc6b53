"""A proxy before a server that knows each step of gutscore_rs by name, and lets faults happen at a chosen one.

A *step* is one command that passes: for a Lua script of ours its name (``transition``), else the command and the kind
of its first key (``HGETALL resource_set``). A *kind* is who takes it: provisioner, operation, launcher, worker or
recovery, told by the client's name; the pid at the other end is told by the kernel (unix(7), SO_PEERCRED).
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import socket
import struct
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from support.resp import FrameReader

from gutscore_rs.store.scripts import ScriptName, digest

Moment = Literal["before", "after"]
SCRIPTS = {digest(name).encode(): name for name in get_args(ScriptName)}
_WORKER = re.compile(rb".+\.\d+\.\d+\.\d+\.[0-9a-f]{8}")
_KINDS = (b"provisioner", b"operation", b"recovery", b"launcher")
# What says who we are, or whether anybody is there: no step of anything.
_HANDSHAKE = {b"HELLO", b"AUTH", b"CLIENT", b"SELECT", b"COMMAND"}


def kind_of(client_name: bytes) -> str:
    """Which process it is that gives itself this name; "" for any other."""
    for kind in _KINDS:
        if client_name.startswith(kind):
            return kind.decode()
    return "worker" if _WORKER.fullmatch(client_name) else ""


def key_kind(key: bytes) -> str:
    """A key without what is particular to a case, set, job or worker."""
    text = key.decode(errors="replace")
    if text.startswith("gutscore:{"):
        parts = text.split("}:", 1)[-1].split(":")
        return ":".join(part for part in parts[:1] + parts[2:] if part) if parts[0] != "lease" else ":".join(parts)
    parts = text.split(":")
    if parts[0] != "rq" or len(parts) < 2:
        return text
    tail = ":executions" if parts[1] == "worker" and parts[-1] == "executions" else ""
    return f"rq:{parts[1]}{tail}"


def step_name(command: list[Any]) -> str:
    """The name of a step."""
    verb = bytes(command[0]).upper()
    if verb == b"EVALSHA":
        return SCRIPTS.get(command[1], "EVALSHA of somebody else")
    if verb == b"EVAL":
        return SCRIPTS.get(hashlib.sha1(command[1]).hexdigest().encode(), "EVAL of somebody else")
    return f"{verb.decode()} {key_kind(command[1])}" if len(command) > 1 else verb.decode()


@dataclass(frozen=True, slots=True)
class Passing:
    """A command on its way.

    Attributes:
        kind: Who sent it.
        pid: The process at the other end.
        name: The step.
        words: The command.
    """

    kind: str
    pid: int
    name: str
    words: list[Any]


@dataclass
class Fault:
    """Something that happens once, at the ``nth`` such step of a process.

    Attributes:
        act: What happens; True: the command (before), or its reply (after), is lost and the connection cut.
        where: Only commands of which this holds.
        happened: Set once it has.
    """

    kind: str
    name: str
    moment: Moment
    act: Callable[[Passing], bool]
    nth: int = 1
    where: Callable[[Passing], bool] = lambda _: True
    happened: threading.Event = field(default_factory=threading.Event)
    seen: Counter[int] = field(default_factory=Counter)

    def is_due(self, passing: Passing) -> bool:
        """Whether it is this command that it waits for."""
        if self.happened.is_set() or (passing.kind, passing.name) != (self.kind, self.name) or not self.where(passing):
            return False
        self.seen[passing.pid] += 1
        return self.seen[passing.pid] == self.nth


class StepProxy:
    """Forwards, one command after the other, between clients and a server's unix socket.

    Attributes:
        trace: (kind, pid, name) of each step that passed, if it is kept.
    """

    def __init__(self, target: Path, *, keep_trace: bool = False) -> None:
        self._target = target
        self._folder = Path(tempfile.mkdtemp(prefix="gs-steps-"))
        self.socket = self._folder / "p.sock"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.socket))
        self._listener.listen(128)
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._faults: list[Fault] = []
        self.trace: list[tuple[str, int, str]] | None = [] if keep_trace else None
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def arm(self, fault: Fault) -> Fault:
        """Let a fault wait for its step."""
        with self._lock:
            self._faults.append(fault)
        return fault

    def disarm(self) -> None:
        """Forget all faults, those that happened too."""
        with self._lock:
            self._faults.clear()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        server = socket.socket(socket.AF_UNIX)
        with self._lock:
            self._open |= {client, server}
        try:
            pid = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
            server.connect(str(self._target))
            self._forward(FrameReader(client), client, FrameReader(server), server, pid)
        except (OSError, EOFError):
            pass
        finally:
            for one in (client, server):
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
                one.close()
            with self._lock:
                self._open -= {client, server}

    def _forward(
        self, asks: FrameReader, client: socket.socket, answers: FrameReader, server: socket.socket, pid: int
    ) -> None:
        kind = ""
        transaction: list[str] | None = None
        while True:
            raw, words = asks.frame()
            if [word.upper() for word in words[:2]] == [b"CLIENT", b"SETNAME"]:
                kind = kind_of(words[2])
            name = step_name(words)
            # Commands of a transaction are taken down only; it is one step, that of its end.
            silent = words[0].upper() in _HANDSHAKE or name == "MULTI"
            if name == "MULTI":
                transaction = []
            elif transaction is not None and name == "EXEC":
                name, transaction = f"EXEC {transaction[0]}", None
            elif transaction is not None:
                transaction.append(name)
                silent = True
            passing = None if silent or not kind else Passing(kind, pid, name, words)
            if passing and self._happens(passing, "before"):
                return
            server.sendall(raw)
            reply, _ = answers.frame()
            # A server without the script did nothing: the step comes again, as a whole.
            if passing and not reply.startswith(b"-NOSCRIPT"):
                if self.trace is not None:
                    self.trace.append((kind, pid, name))
                if self._happens(passing, "after"):
                    return
            client.sendall(reply)

    def _happens(self, passing: Passing, moment: Moment) -> bool:
        with self._lock:
            due = [fault for fault in self._faults if fault.moment == moment and fault.is_due(passing)]
            for fault in due:
                fault.happened.set()
        # All of them happen, whatever the first one says.
        outcomes = [fault.act(passing) for fault in due]
        return any(outcomes)

    def close(self) -> None:
        """Hang up everywhere."""
        with self._lock:
            ends = [self._listener, *self._open]
        for one in ends:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        shutil.rmtree(self._folder, ignore_errors=True)

"""A proxy before a server's unix socket that breaks what passes, as a broken network does at the worst moment."""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path


class DroppingProxy:
    """Forwards between clients and a server; on demand it drops replies, cuts, refuses or holds up connections.

    Attributes:
        dropped: How many replies were swallowed.
    """

    def __init__(self, target: Path) -> None:
        self._target = target
        self._folder = Path(tempfile.mkdtemp(prefix="gs-proxy-"))
        self.socket = self._folder / "p.sock"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.socket))
        self._listener.listen()
        self._after: bytes | None = None
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._flows = threading.Event()
        self._flows.set()
        self._refuses = False
        self.dropped = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def drop_next_reply(self, *, to: bytes = b"EVAL") -> None:
        """Swallow the reply to the next request that has ``to`` in it, and hang up."""
        self._after = to

    def cut(self) -> int:
        """Cut every connection, now; how many there were. New ones are taken."""
        with self._lock:
            ends = list(self._open)
        self._hang_up(*ends)
        return len(ends) // 2

    @contextlib.contextmanager
    def refuse(self) -> Iterator[None]:
        """Cut every connection and take no new one meanwhile."""
        self._refuses = True
        self.cut()
        try:
            yield
        finally:
            self._refuses = False

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Let nothing pass meanwhile; what was sent arrives afterwards, however late."""
        self._flows.clear()
        try:
            yield
        finally:
            self._flows.set()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self._refuses:
                    client.close()
                else:
                    threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(str(self._target))
        except OSError:
            # The server is down: so are we, for this client.
            self._hang_up(client, server)
            return
        with self._lock:
            self._open |= {client, server}
        doomed = threading.Event()
        back = threading.Thread(target=self._replies, args=(server, client, doomed), daemon=True)
        back.start()
        with contextlib.suppress(OSError):
            while data := client.recv(1 << 20):
                if self._after is not None and self._after in data.upper():
                    self._after = None
                    doomed.set()
                self._flows.wait()
                server.sendall(data)
        self._hang_up(client, server)

    def _replies(self, server: socket.socket, client: socket.socket, doomed: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(1 << 20):
                # A server without the script says so: nothing was done, and the client sends it whole.
                if doomed.is_set() and not data.startswith(b"-NOSCRIPT"):
                    self.dropped += 1
                    break
                if doomed.is_set():
                    doomed.clear()
                    self._after = b"EVAL"
                self._flows.wait()
                client.sendall(data)
        self._hang_up(client, server)

    def _hang_up(self, *sockets: socket.socket) -> None:
        for one in sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
            with self._lock:
                self._open.discard(one)

    def close(self) -> None:
        self._flows.set()
        with self._lock:
            ends = list(self._open)
        self._hang_up(self._listener, *ends)
        os.unlink(self.socket)
        self._folder.rmdir()

"""A proxy before a server's unix socket that can swallow a reply, as a broken network does at the worst moment."""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
import threading
from pathlib import Path


class DroppingProxy:
    """Forwards between clients and a server; on demand it lets a command through and drops its reply.

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
        self.dropped = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def drop_next_reply(self, *, to: bytes = b"EVAL") -> None:
        """Swallow the reply to the next request that has ``to`` in it, and hang up."""
        self._after = to

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        server = socket.socket(socket.AF_UNIX)
        server.connect(str(self._target))
        self._open |= {client, server}
        doomed = threading.Event()
        back = threading.Thread(target=self._replies, args=(server, client, doomed), daemon=True)
        back.start()
        with contextlib.suppress(OSError):
            while data := client.recv(1 << 20):
                if self._after is not None and self._after in data.upper():
                    self._after = None
                    doomed.set()
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
                client.sendall(data)
        self._hang_up(client, server)

    def _hang_up(self, *sockets: socket.socket) -> None:
        for one in sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
            self._open.discard(one)

    def close(self) -> None:
        self._hang_up(self._listener, *self._open)
        os.unlink(self.socket)
        self._folder.rmdir()

"""Frames of Redis' protocol, RESP2 and RESP3, as far as a proxy must know where one ends (redis.io, protocol spec)."""

from __future__ import annotations

import socket
from typing import Any

_AGGREGATES = {b"*": 1, b"~": 1, b">": 1, b"%": 2}
_BLOBS = b"$=!"


class FrameReader:
    """Reads whole frames from a socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = bytearray()
        self._at = 0

    def frame(self) -> tuple[bytes, Any]:
        """The next frame as it came, and its value: blobs are bytes, aggregates lists, the rest its line.

        Raises:
            EOFError: The other side hung up.
            OSError: The socket is of no use any more.
        """
        value = self._value()
        raw = bytes(self._buffer[: self._at])
        del self._buffer[: self._at]
        self._at = 0
        return raw, value

    def _value(self) -> Any:
        line = self._line()
        kind, rest = line[:1], line[1:]
        if kind in _AGGREGATES:
            return [self._value() for _ in range(max(0, int(rest)) * _AGGREGATES[kind])]
        if kind in _BLOBS:
            return self._blob(int(rest))
        return line

    def _line(self) -> bytes:
        while (end := self._buffer.find(b"\r\n", self._at)) < 0:
            self._more()
        line = bytes(self._buffer[self._at : end])
        self._at = end + 2
        return line

    def _blob(self, length: int) -> bytes | None:
        if length < 0:
            return None
        while len(self._buffer) < self._at + length + 2:
            self._more()
        blob = bytes(self._buffer[self._at : self._at + length])
        self._at += length + 2
        return blob

    def _more(self) -> None:
        data = self._sock.recv(1 << 16)
        if not data:
            raise EOFError
        self._buffer += data

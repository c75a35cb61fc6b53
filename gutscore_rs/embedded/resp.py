"""Just enough of the Redis protocol to ask a server whether it is ready (redis.io/docs: RESP2)."""

from __future__ import annotations

import socket
import struct
import sys


def ask(path: str, *command: str, timeout: float = 1.0) -> str:
    """Send one command over a unix socket; the first line of the answer.

    Raises:
        OSError: Nobody answers.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout)
        connection.connect(path)
        parts = [f"*{len(command)}\r\n"] + [f"${len(word.encode())}\r\n{word}\r\n" for word in command]
        connection.sendall("".join(parts).encode())
        answer = b""
        while not answer.endswith(b"\r\n"):
            chunk = connection.recv(4096)
            if not chunk:
                raise ConnectionResetError(f"the server at {path} closed the connection")
            answer += chunk
    return answer.split(b"\r\n", 1)[0].decode(errors="replace")


def listener_pid(path: str, timeout: float = 1.0) -> int | None:
    """Who listens on a unix socket (unix(7): SO_PEERCRED; macOS: LOCAL_PEERPID); None: nobody, 0: nobody we can see."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout)
        try:
            connection.connect(path)
        except OSError:
            return None
        if sys.platform != "linux":
            return int(connection.getsockopt(0, 2))
        return int(struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0])

"""Just enough of the Redis protocol to ask a server whether it is ready (redis.io/docs: RESP2)."""

from __future__ import annotations

import socket


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

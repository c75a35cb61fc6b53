"""Another process that watches a count in Redis and says when it was reached.

The moment is CLOCK_MONOTONIC's, which all processes of a Linux host share. It speaks RESP itself: an observer that
needs the processor would slow down what it observes.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

PAUSE, PATIENCE = 0.0005, 120.0


def command(*words: str) -> bytes:
    """A command in RESP."""
    parts = [f"*{len(words)}\r\n"] + [f"${len(word.encode())}\r\n{word}\r\n" for word in words]
    return "".join(parts).encode()


class Observer:
    """A running observer.

    Args:
        server: The server's unix socket.
    """

    def __init__(self, server: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-S", str(Path(__file__)), str(server)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._read()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)

    def watch(self, kind: str, key: str, wanted: int) -> None:
        """Begin to watch: ``leases`` counts valid ones of a sorted set, ``members`` those of a set."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{kind} {key} {wanted}\n")
        self._process.stdin.flush()
        self._read()

    def reached(self) -> float:
        """The monotonic second at which the count was seen.

        Raises:
            TimeoutError: It was not, within two minutes.
        """
        answer = self._read()
        if answer == "never":
            raise TimeoutError(f"the count was not reached within {PATIENCE:.0f} s")
        return float(answer)

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def _serve(path: str) -> None:
    server = socket.socket(socket.AF_UNIX)
    server.connect(path)
    print("ready", flush=True)
    for line in sys.stdin:
        kind, key, wanted = line.split()
        print("watching", flush=True)
        ends = time.monotonic() + PATIENCE
        while True:
            words = ("ZCOUNT", key, f"{time.time():.6f}", "+inf") if kind == "leases" else ("SCARD", key)
            server.sendall(command(*words))
            count = int(server.recv(4096)[1:])
            moment = time.monotonic()
            if count >= int(wanted) or moment > ends:
                print(moment if count >= int(wanted) else "never", flush=True)
                break
            time.sleep(PAUSE)


if __name__ == "__main__":
    _serve(sys.argv[1])

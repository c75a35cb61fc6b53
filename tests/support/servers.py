"""Real servers for tests: an own Redis or Valkey on a unix socket in a temp folder, never somebody else's."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import redis
from support.waiting import wait_until

from gutscore_rs.embedded.binary import server_binary
from gutscore_rs.errors import ServerError


def program(product: str) -> str:
    """The server program; missing, a test is skipped on a laptop and fails in CI."""
    found: str | None
    if product == "valkey":
        try:
            found = str(server_binary())
        except ServerError:
            found = None
    else:
        found = shutil.which("redis-server")
    if found is None:
        message = f"no {product} server program is installed"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return found


@dataclass
class Server:
    """A server process that tests may kill and start again.

    Attributes:
        options: Further arguments, which go before ours.
        env: Further variables of its environment.
    """

    product: str
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="gs-test-")))
    append_only: bool = True
    process: subprocess.Popen[bytes] | None = None
    options: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)

    @property
    def socket(self) -> Path:
        return self.folder / "s.sock"

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def command(self) -> list[str]:
        return [
            program(self.product),
            "--port",
            "0",
            "--unixsocket",
            str(self.socket),
            "--dir",
            str(self.folder),
            "--save",
            "",
            "--appendonly",
            "yes" if self.append_only else "no",
            "--appendfsync",
            "always",
            "--logfile",
            str(self.folder / "log"),
            "--daemonize",
            "no",
            *self.options,
        ]

    def start(self) -> None:
        env = dict(os.environ) | self.env
        self.process = subprocess.Popen(self.command(), env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(self._answers, 10, what=f"the {self.product} server answers")

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def client(self) -> redis.Redis:
        return redis.Redis(unix_socket_path=str(self.socket))

    def version(self) -> str:
        """Product and version, as it says itself."""
        with self.client() as client:
            facts: Any = client.info("server")
        return f"{self.product} {facts.get('valkey_version') or facts['redis_version']}"

    def kill(self) -> None:
        """kill -9, as a crash."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def signal(self, signum: int) -> None:
        assert self.process is not None
        self.process.send_signal(signum)

    def restart(self, *, keep_data: bool = True) -> None:
        """Crash and start again, with or without the data."""
        self.kill()
        if not keep_data:
            shutil.rmtree(self.folder / "appendonlydir", ignore_errors=True)
        self.start()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            self.process.wait(timeout=10)
        shutil.rmtree(self.folder, ignore_errors=True)

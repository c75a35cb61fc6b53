"""Bad input, as a user meets it on the command line: one message with the remedy, a code, and nothing half-started."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.servers import Server
from support.shell import Shell

from gutscore_rs.processes import marked_processes

WRONG, UNAVAILABLE, CANNOT = 65, 69, 73


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """A shell that ends what a test left up."""
    (tmp_path / "here").mkdir()
    shell = Shell(tmp_path / "s", tmp_path / "here")
    yield shell
    if (shell.state / "cases" / "cli" / "access.json").exists():
        shell("down", "cli", "--purge")


def case_file(shell: Shell, config: str = "", *, case: str = 'name = "cli"', more: str = "") -> str:
    given = config if "nworkers" in config else f"nworkers = 1\n{config}"
    given = given if "runtime" in given else f"{given}\nruntime = 60"
    return shell.toml(f'[case]\n{case}\n[resource]\nbackend = "local"\n[resource.config]\n{given}\n{more}')


def refused(shell: Shell, toml: str, code: int, *says: str, command: str = "up") -> str:
    """It exits so, says that in few lines, without a traceback, and nothing was begun."""
    done = shell(command, toml, code=code)
    for text in says:
        assert text in done.stderr, done.stderr
    assert done.stderr.startswith("gutscore-rs:")
    assert "Traceback" not in done.stderr
    assert len(done.stderr) < 2500
    assert marked_processes(f"{shell.state}/", prefix=True) == []
    assert not list(shell.state.glob("cases/*/access.json")), "a case was begun"
    return done.stderr


@pytest.mark.parametrize("command", ["up", "run"])
@pytest.mark.parametrize(
    ("config", "says"),
    [
        ("nworkers = 0", ["nworkers", "0"]),
        ("nworkers = -3", ["nworkers", "-3"]),
        ('nworkers = "two"', ["nworkers", "two"]),
        ("nworkers = 2.5", ["nworkers", "2.5"]),
        ("nworkers = true", ["nworkers", "True"]),
        ("nworkers = 1_000_000_000", ["nworkers", "1000000000", "100000"]),
        ("runtime = 0", ["runtime", "0"]),
        ("runtime = -5", ["runtime", "-5"]),
        ('runtime = "1:75"', ["runtime", "1:75"]),
        ('runtime = "abc"', ["runtime", "abc"]),
        ("runtime = nan", ["runtime", "nan"]),
        ("runtime = inf", ["runtime", "inf"]),
        ("runtime = 1_000_000_000_000", ["runtime"]),
        ("nworker = 2", ["nworker", "nworkers"]),
        ("run_time = 2", ["run_time", "runtime"]),
        ('host = "a/b"', ["host", "a/b"]),
        ('host = "a\\nb"', ["host"]),
        ('cwd = "relative"', ["cwd"]),
        ('env = { "A=B" = "1" }', ["env", "A=B"]),
        ("oversubscribe = 3", ["oversubscribe"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_description_is_refused_by_key_and_value(
    shell: Shell, config: str, says: list[str], command: str
) -> None:
    refused(shell, case_file(shell, config), WRONG, "case.toml", *says, command=command)


@pytest.mark.parametrize(
    "name", ['"a/b"', '"a\\nb"', '"a\\u0000b"', '""', '".."', '"-x"', '"' + "x" * 10_000 + '"', '"ﬁsh and chips"', "3"]
)
def test_a_name_that_files_and_keys_cannot_hold_is_refused(shell: Shell, name: str) -> None:
    refused(shell, case_file(shell, case=f"name = {name}"), WRONG, "case.toml", "name")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[case]\nname = "x', ["end of document"]),
        ("[case]\n[case]\n", ["line"]),
        ("\x00", ["case.toml"]),
        ('[case]\nname = "cli"\n[resouce]\n', ["resouce", "resource"]),
        ('[case]\nname = "cli"\nnam = 1\n[resource.config]\nnworkers = 1\nruntime = 1\n', ["nam", "name"]),
    ],
    ids=["cut", "twice", "NUL", "section", "key"],
)
def test_a_file_that_is_no_case_is_refused_with_the_place(shell: Shell, text: str, says: list[str]) -> None:
    refused(shell, shell.toml(text), WRONG, *says)


def test_more_workers_than_the_host_can_hold_are_refused_with_the_numbers(shell: Shell) -> None:
    toml = case_file(shell, "nworkers = 90_000")
    shell("up", toml)
    done = shell("request", toml, code=WRONG)
    assert "asks for 90000 workers; this host has room for" in done.stderr
    assert "oversubscribe = true" in done.stderr
    assert shell.json("status", "cli")["resource_sets"] == []


def test_with_oversubscribe_a_tight_host_takes_them(shell: Shell) -> None:
    toml = case_file(shell, "nworkers = 3\noversubscribe = true")
    # Room for one worker by the number of open files, as it is counted beforehand.
    tight = f"ulimit -n 65; exec {sys.executable} -m gutscore_rs"
    shell("up", toml)
    before = subprocess.run(
        ["bash", "-c", f"{tight} request {case_file(shell, 'nworkers = 3')}"],
        env=shell.env,
        capture_output=True,
        text=True,
    )
    assert before.returncode == WRONG, before.stderr
    assert "room for 1: one open file each, and `ulimit -n` is 65" in before.stderr
    toml = case_file(shell, "nworkers = 3\noversubscribe = true")
    after = subprocess.run(
        ["bash", "-c", f"{tight} request {toml} --wait"], env=shell.env, capture_output=True, text=True
    )
    assert after.returncode == 0, after.stderr
    assert shell.json("count", "cli")["active"] == 3


class Impostor:
    """Something else that listens where a Redis should."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client:
                client.recv(4096)
                client.sendall(self._answer)

    def close(self) -> None:
        self._listener.close()


@pytest.fixture(params=[b"HTTP/1.1 400 Bad Request\r\n\r\n<html>", b"", b"\x15\x03\x01\x00\x02\x02F", b"+OK\r\n" * 3])
def impostor(request: pytest.FixtureRequest) -> Iterator[Impostor]:
    found = Impostor(request.param)
    yield found
    found.close()


def test_what_is_no_redis_is_told_so(shell: Shell, impostor: Impostor) -> None:
    toml = case_file(shell, more=f'[redis]\nurl = "redis://127.0.0.1:{impostor.port}"')
    done = shell("up", toml, code=UNAVAILABLE)
    assert f"127.0.0.1:{impostor.port}" in done.stderr
    assert "Traceback" not in done.stderr
    (shell.state / "cases" / "cli" / "access.json").unlink()


def test_a_redis_that_is_down_or_wants_a_password_is_named_with_the_remedy(shell: Shell, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    toml = case_file(shell, more=f'[redis]\nurl = "redis://127.0.0.1:{port}"')
    done = shell("up", toml, code=UNAVAILABLE)
    assert f"127.0.0.1:{port}" in done.stderr
    assert "Is the server running?" in done.stderr
    server = Server("valkey")
    server.start()
    try:
        with server.client() as client:
            client.config_set("requirepass", "right")
            client.config_set("port", port)
        done = shell("up", toml, code=UNAVAILABLE)
        assert "password" in done.stderr
        file = tmp_path / "password"
        file.write_text("not-this-one")
        file.chmod(0o600)
        (shell.state / "cases" / "cli" / "access.json").unlink(missing_ok=True)
        toml = case_file(shell, more=f'[redis]\nurl = "redis://127.0.0.1:{port}"\npassword_file = "{file}"')
        done = shell("up", toml, code=UNAVAILABLE)
        assert "password" in done.stderr
        assert "not-this-one" not in done.stderr
        file.chmod(0o644)
        assert "chmod 600" in shell("up", toml, code=WRONG).stderr
    finally:
        (shell.state / "cases" / "cli" / "access.json").unlink(missing_ok=True)
        server.stop()


@pytest.mark.parametrize("content", [b"", b"{", b'{"schema": 1}', os.urandom(200), b"[" * 10_000])
def test_an_access_file_of_garbage_is_named_with_the_remedy(shell: Shell, content: bytes) -> None:
    file = shell.state / "cases" / "cli" / "access.json"
    file.parent.mkdir(parents=True, mode=0o700)
    file.write_bytes(content)
    file.chmod(0o600)
    for words in (["count", "cli"], ["up", case_file(shell)]):
        done = shell(*words, code=CANNOT)
        assert str(file) in done.stderr
        assert "remove the file" in done.stderr
    file.chmod(0o644)
    assert "chmod 600" in shell("count", "cli", code=CANNOT).stderr
    file.unlink()


def test_state_folders_that_cannot_be_are_named(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    toml = case_file(shell)
    for state in (file, loop, Path("/proc/nobody")):
        shell.state = state
        done = shell("up", toml, code=CANNOT)
        assert str(state) in done.stderr
        assert "GUTSCORE_RS_STATE_DIR" in done.stderr or "Move it away" in done.stderr
        assert "Traceback" not in done.stderr
    shell.state = tmp_path / "s"


def test_a_driver_that_is_not_there_is_told_and_one_that_leaves_gives_its_code(shell: Shell) -> None:
    (shell.folder / "mine.py").write_text("import sys\ndef leave(manager, options, output):\n    sys.exit(3)\n")
    missing = case_file(shell, more='[driver]\nfunction = "mine:nothing"')
    done = shell("run", missing, code=1)
    assert "The module 'mine' of the driver has no 'nothing'." in done.stderr
    leaves = case_file(shell, more='[driver]\nfunction = "mine:leave"')
    done = shell("run", leaves, code=3)
    assert "all workers are gone, server stopped" in done.stderr
    assert "Traceback" not in done.stderr
    assert marked_processes(f"{shell.state}/", prefix=True) == []


def test_down_of_what_is_not_up_says_so_twice(shell: Shell) -> None:
    for _ in range(2):
        done = shell("down", "cli", code=CANNOT)
        assert "does not run here" in done.stderr

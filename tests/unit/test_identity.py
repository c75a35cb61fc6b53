"""Who a process is: round trips, garbage, boots, reused pids, zombies, and the name of a host."""

from __future__ import annotations

import multiprocessing
import os
import socket
import subprocess
import sys
from dataclasses import replace
from multiprocessing.queues import Queue
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.waiting import wait_until

from gutscore_rs import identity
from gutscore_rs.errors import SerializationError, StateFolderError
from gutscore_rs.identity import (
    ProcessIdentity,
    identify,
    is_alive,
    is_here,
    process_stat,
    this_host,
    this_process,
)
from gutscore_rs.settings import Settings

HERE = Settings()
plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()


def sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])


@pytest.fixture
def child():
    process = sleeper()
    yield process
    process.kill()
    process.wait()


def test_an_identity_survives_the_round_trip() -> None:
    me = this_process("host")
    assert ProcessIdentity.from_dict(me.to_dict()) == me
    assert ProcessIdentity.from_dict(me.to_dict() | {"later": "field"}) == me


@given(st.dictionaries(st.sampled_from(ProcessIdentity.__slots__), plain))
def test_garbage_gives_an_identity_of_the_right_types_or_a_serialization_error(data: dict[str, object]) -> None:
    try:
        made = ProcessIdentity.from_dict(data)
    except SerializationError:
        return
    assert isinstance(made.host, str)
    assert type(made.pid) is int
    assert made.pid > 0


@pytest.mark.parametrize(
    "change",
    [{"pid": 0}, {"pid": -1}, {"pid": True}, {"pid": 1.5}, {"host": 3}, {"boot_id": None}, {"start_ticks": "1"}],
)
def test_a_field_of_another_type_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(SerializationError):
        ProcessIdentity.from_dict(this_process("host").to_dict() | change)


def test_this_process_is_alive_and_here() -> None:
    me = this_process("host")
    assert is_alive(me)
    assert is_here(me, "host")
    assert not is_here(me, "another")


def test_another_boot_is_not_alive_but_judged_here() -> None:
    earlier = replace(this_process("host"), boot_id="another", pid_namespace=1)
    assert not is_alive(earlier)
    assert is_here(earlier, "host")


def test_a_process_of_another_pid_namespace_cannot_be_judged() -> None:
    assert not is_here(replace(this_process("host"), pid_namespace=1), "host")


def test_a_reused_pid_is_another_process(child: subprocess.Popen[bytes]) -> None:
    now = identify(child.pid, "host")
    assert now is not None
    assert is_alive(now)
    assert not is_alive(replace(now, start_ticks=now.start_ticks - 1))


def test_a_zombie_is_not_alive(child: subprocess.Popen[bytes]) -> None:
    alive = identify(child.pid, "host")
    assert alive is not None
    child.kill()
    wait_until(lambda: (process_stat(child.pid) or "?")[0] == "Z", what="the killed child is a zombie")
    assert not is_alive(alive)
    assert identify(child.pid, "host") is None


def test_a_process_that_was_waited_for_is_nobody(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.wait()
    assert identify(child.pid, "host") is None
    assert process_stat(child.pid) is None


@pytest.mark.skipif(sys.platform != "linux", reason="names with brackets are a matter of proc_pid_stat(5)")
def test_a_name_with_brackets_and_spaces_does_not_shift_the_fields(tmp_path: Path) -> None:
    program = tmp_path / "a) R 1 (b"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([str(program), "60"]) as process:
        try:
            wait_until(lambda: b"a) R" in Path(f"/proc/{process.pid}/stat").read_bytes(), what="the child is executed")
            stat = process_stat(process.pid)
            assert stat is not None
            assert stat[0] in "SRD"
            assert stat[1] == os.getsid(process.pid)
        finally:
            process.kill()


def test_the_settings_name_the_host_and_lose_what_keys_cannot_hold(tmp_path: Path) -> None:
    assert this_host(Settings(host="node/7 {x}"), tmp_path) == "node-7--x-"
    assert not list(tmp_path.iterdir())


def test_the_hosts_name_is_kept_whatever_the_system_calls_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "_machine_id", lambda: "machine")
    first = this_host(HERE, tmp_path)
    monkeypatch.setattr(socket, "gethostname", lambda: "renamed.by.dhcp")
    assert this_host(HERE, tmp_path) == first
    assert len(list((tmp_path / "hosts").glob("[!.]*"))) == 1
    monkeypatch.setattr(identity, "boot_id", lambda: "the next boot, still by the name that DHCP gave")
    assert this_host(HERE, tmp_path) == first


def test_machines_of_one_image_have_names_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "_machine_id", lambda: "the image's")
    names = {}
    for boot in ("first", "second", "third"):
        for machine in ("login1", "login2", "login3"):
            monkeypatch.setattr(socket, "gethostname", lambda machine=machine: machine)
            monkeypatch.setattr(identity, "boot_id", lambda machine=machine, boot=boot: f"{boot} boot of {machine}")
            name = this_host(HERE, tmp_path)
            assert names.setdefault(machine, name) == name
    assert len(set(names.values())) == 3


def test_containers_of_one_host_have_names_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = this_host(HERE, tmp_path)
    monkeypatch.setattr(identity, "pid_namespace", lambda: 7)
    monkeypatch.setattr(socket, "gethostname", lambda: "0123456789ab")
    assert this_host(HERE, tmp_path) != first


def test_a_name_that_is_kept_needs_no_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = this_host(HERE, tmp_path)
    monkeypatch.setattr(identity, "write_private", None)
    monkeypatch.setattr(identity, "locked", None)
    assert this_host(HERE, tmp_path) == first


def test_hosts_that_share_a_home_have_names_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "_machine_id", lambda: "one")
    first = this_host(HERE, tmp_path)
    monkeypatch.setattr(identity, "_machine_id", lambda: "two")
    assert this_host(HERE, tmp_path) != first


def _name_it(root: Path, out: Queue[str], go: multiprocessing.synchronize.Barrier) -> None:
    go.wait()
    out.put(this_host(HERE, root))


def test_processes_that_start_at_once_agree_on_the_hosts_name(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    out, go = context.Queue(), context.Barrier(4)
    processes = [context.Process(target=_name_it, args=(tmp_path, out, go)) for _ in range(4)]
    for process in processes:
        process.start()
    names = {out.get(timeout=10) for _ in processes}
    for process in processes:
        process.join()
    assert len(names) == 1
    assert len(list((tmp_path / "hosts").glob("[!.]*"))) == 1


@pytest.mark.parametrize(
    "garbage", [b"", b"\xff\xfe\x00", b" a/b\n", b"[]", b"{}", b'{"name": 3}', b'{"name": "a/b"}', b'{"name": "x"}']
)
def test_a_name_that_was_tampered_with_is_made_safe(tmp_path: Path, garbage: bytes) -> None:
    this_host(HERE, tmp_path)
    next((tmp_path / "hosts").glob("[!.]*")).write_bytes(garbage)
    name = this_host(HERE, tmp_path)
    assert name
    assert not identity._UNSAFE.search(name)


def test_a_name_that_cannot_be_kept_is_an_error_that_says_what_to_set(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("a file in the way")
    with pytest.raises(StateFolderError, match="GUTSCORE_RS_HOST"):
        this_host(HERE, tmp_path)

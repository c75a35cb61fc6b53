"""Folders and files that are ours alone, whole or not at all; locks that name their holder; sockets that fit."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.waiting import wait_until

from gutscore_rs import paths
from gutscore_rs.errors import ConfigError, StateFolderError
from gutscore_rs.paths import CaseFolder, StateFolder, check_case_name, locked, private_folder, write_private
from gutscore_rs.settings import Settings

ROOT = os.geteuid() == 0
as_root = pytest.mark.skipif(not ROOT, reason="needs root")
NOBODY = 65534


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 KB."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    mounted = (
        ROOT
        and subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=16k,mode=700", "tmpfs", str(folder)], capture_output=True, check=False
        ).returncode
        == 0
    )
    if not mounted:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


# -- folders ------------------------------------------------------------------------------------------------


def test_a_new_folder_is_ours_alone(tmp_path: Path) -> None:
    assert mode(private_folder(tmp_path / "a" / "b")) == 0o700
    assert private_folder(tmp_path / "a" / "b") == tmp_path / "a" / "b"


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(StateFolderError, match="is a file"):
        private_folder(tmp_path / "state")


def test_a_file_among_the_parents_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateFolderError, match="GUTSCORE_RS_STATE_DIR"):
        private_folder(tmp_path / "file" / "state")


@pytest.mark.parametrize("bits", [0o770, 0o702, 0o777])
def test_a_folder_that_others_may_write_is_refused(tmp_path: Path, bits: int) -> None:
    folder = private_folder(tmp_path / "state")
    folder.chmod(bits)
    with pytest.raises(StateFolderError, match="chmod go-w"):
        private_folder(folder)


@as_root
def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    folder = private_folder(tmp_path / "state")
    os.chown(folder, NOBODY, NOBODY)
    with pytest.raises(StateFolderError, match=f"user {NOBODY}"):
        private_folder(folder)


@as_root
def test_a_link_of_another_user_and_a_link_to_another_users_folder_are_refused(tmp_path: Path) -> None:
    ours, theirs = private_folder(tmp_path / "ours"), private_folder(tmp_path / "theirs")
    os.chown(theirs, NOBODY, NOBODY)
    planted, strayed = tmp_path / "planted", tmp_path / "strayed"
    planted.symlink_to(ours)
    os.lchown(planted, NOBODY, NOBODY)
    strayed.symlink_to(theirs)
    for link in (planted, strayed):
        with pytest.raises(StateFolderError, match=f"user {NOBODY}"):
            private_folder(link)


def test_a_link_of_ours_to_a_folder_of_ours_is_well(tmp_path: Path) -> None:
    folder = private_folder(tmp_path / "scratch")
    (tmp_path / "state").symlink_to(folder)
    assert private_folder(tmp_path / "state") == tmp_path / "state"


def test_a_read_only_folder_is_refused(tiny: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(tiny)], check=True)
    with pytest.raises(StateFolderError, match="cannot be written"):
        private_folder(tiny)
    with pytest.raises(StateFolderError, match="cannot be made"):
        private_folder(tiny / "state")


# -- files --------------------------------------------------------------------------------------------------


def test_a_file_is_replaced_whole_and_is_ours_alone(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_text("old")
    file.chmod(0o644)
    write_private(file, b"new")
    assert file.read_bytes() == b"new"
    assert mode(file) == 0o600
    assert os.listdir(tmp_path) == ["f"]


def test_a_full_disk_leaves_what_was_there(tiny: Path) -> None:
    file = tiny / "record.json"
    write_private(file, b"old")
    with pytest.raises(StateFolderError, match="cannot be written"):
        write_private(file, b"x" * 100_000)
    assert file.read_bytes() == b"old"
    assert os.listdir(tiny) == ["record.json"]


def test_a_full_disk_is_no_reason_to_do_without_the_lock(tiny: Path) -> None:
    path = tiny / "lock"
    path.touch()
    with (tiny / "ballast").open("wb", buffering=0) as stream, contextlib.suppress(OSError):
        while stream.write(b"x" * 4096):
            pass
    with locked(path, timeout=1.0), pytest.raises(StateFolderError, match="holds"), locked(path, timeout=0.05):
        pytest.fail("two had the lock")


def test_a_folder_that_is_not_there_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(StateFolderError, match="cannot be written"):
        write_private(tmp_path / "nowhere" / "f", b"")


def test_a_folder_in_the_place_of_the_file_leaves_no_draft(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    with pytest.raises(StateFolderError):
        write_private(tmp_path / "f", b"new")
    assert os.listdir(tmp_path) == ["f"]


# -- locks --------------------------------------------------------------------------------------------------


def _hold(path: Path, held: object, go: object) -> None:
    with locked(path, timeout=5.0):
        held.set()  # type: ignore[attr-defined]
        go.wait(20)  # type: ignore[attr-defined]


def test_a_lock_names_its_holder_and_is_free_once_that_dies(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    held, go, path = context.Event(), context.Event(), tmp_path / "lock"
    holder = context.Process(target=_hold, args=(path, held, go))
    holder.start()
    assert held.wait(10)
    with pytest.raises(StateFolderError, match=f"Process {holder.pid} holds"), locked(path, timeout=0.05):
        pytest.fail("two had the lock")
    holder.kill()
    holder.join()
    with locked(path, timeout=5.0):
        assert path.read_text() == str(os.getpid())
    assert mode(path) == 0o600


WAITER = """
import sys
from pathlib import Path
from gutscore_rs.paths import locked
with locked(Path(sys.argv[1]), timeout=20):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_lock_that_was_removed_while_it_was_waited_for_is_taken_anew(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    # No fork: a child would have the lock with us.
    with subprocess.Popen(
        [sys.executable, "-c", WAITER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=dict(os.environ) | {"PYTHONPATH": os.pathsep.join(sys.path)},
    ) as waiter:
        assert waiter.stdout is not None
        with locked(path, timeout=1.0):
            opened = psutil.Process(waiter.pid).open_files
            wait_until(lambda: str(path) in [file.path for file in opened()], what="the waiter has opened the lock")
            path.unlink()
        assert waiter.stdout.readline() == b"held\n"
        with pytest.raises(StateFolderError, match=f"Process {waiter.pid} holds"), locked(path, timeout=0.05):
            pytest.fail("two had the lock")
        waiter.communicate(b"")


def test_the_name_of_an_earlier_holder_does_not_shine_through(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_text("9" * 40)
    with locked(path, timeout=1.0):
        assert path.read_text() == str(os.getpid())


def test_a_lock_that_cannot_be_opened_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(StateFolderError, match="cannot be opened"), locked(tmp_path / "nowhere" / "lock", timeout=1.0):
        pass


def test_a_file_system_without_locks_is_not_taken_for_a_holder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(paths.fcntl, "flock", refuse)
    with pytest.raises(StateFolderError, match="No locks available"), locked(tmp_path / "lock", timeout=60.0):
        pass


# -- cases --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a", "double_well", "9-lives", "A" * 64])
def test_names_that_cases_may_have(name: str) -> None:
    assert check_case_name(name) == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "a b", "-x", "_x", "a\n", "a{b}", "A" * 65, "é", "a:b", 3, None]
)
def test_names_that_cases_may_not_have(name: object) -> None:
    with pytest.raises(ConfigError, match="no name of a case"):
        check_case_name(name)  # type: ignore[arg-type]


@given(st.text(max_size=80))
def test_no_text_that_passes_as_a_name_leaves_the_folder_of_cases(name: str) -> None:
    try:
        check_case_name(name)
    except ConfigError:
        return
    assert os.path.normpath(f"/cases/{name}") == f"/cases/{name}"


def test_a_state_folder_lists_the_cases_that_run(tmp_path: Path) -> None:
    state = StateFolder.open(Settings(state_dir=tmp_path / "state"))
    for name in ("b", "a", "ended"):
        state.case(name).create()
    for name in ("b", "a"):
        write_private(state.case(name).access_file, b"{}")
    assert state.case_names() == ["a", "b"]
    assert all(mode(folder) == 0o700 for folder in state.case("a").root.iterdir() if folder.is_dir())
    state.case("a").remove()
    state.case("a").remove()
    assert state.case_names() == ["b"]


def test_the_current_folder_may_change_under_a_relative_state_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    state = StateFolder.open(Settings(state_dir=Path("state")))
    assert state.root == tmp_path / "state"
    state.root.rmdir()


def test_the_socket_lies_in_the_runtime_folder_under_a_name_of_its_case(tmp_path: Path) -> None:
    runtime = Path(tempfile.mkdtemp(prefix="gs-"))
    try:
        one, two = (CaseFolder("c", tmp_path / name, runtime) for name in ("one", "two"))
        assert one.socket.parent == runtime / f"gutscore-rs-{os.geteuid()}"
        assert one.socket != two.socket
    finally:
        runtime.rmdir()


def test_a_runtime_folder_whose_path_is_too_long_gives_way_to_the_temp_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: "/tmp")
    folder = CaseFolder("c", tmp_path, tmp_path / ("x" * 100))
    assert folder.socket.is_relative_to("/tmp")
    assert len(os.fsencode(folder.socket)) <= paths.SOCKET_PATH_BYTES


def test_no_place_for_a_socket_is_an_error_that_says_what_to_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: "/" + "x" * 100)
    with pytest.raises(StateFolderError, match="GUTSCORE_RS_RUNTIME_DIR"):
        _ = CaseFolder("c", tmp_path, None).socket


def test_a_runtime_folder_that_is_not_there_is_not_used(tmp_path: Path) -> None:
    state = StateFolder.open(Settings(state_dir=tmp_path / "state", runtime_dir=tmp_path / "nowhere"))
    assert state.runtime_dir is None

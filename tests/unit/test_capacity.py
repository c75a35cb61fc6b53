"""More workers than a host can hold are refused, with the limit and its numbers."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import pytest

from gutscore_rs import capacity
from gutscore_rs.capacity import Limit, check_room, limits
from gutscore_rs.errors import CapacityError


def test_a_handful_of_workers_fits_on_any_host() -> None:
    check_room("set 0", 4)


def test_the_tightest_limit_is_named_with_its_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "limits", lambda: iter([Limit(90, "loose"), Limit(30, "ulimit -n is 94")]))
    check_room("set 0", 30)
    with pytest.raises(CapacityError, match=r"set 0 asks for 31 workers.*room for 30: ulimit -n is 94.*oversubscribe"):
        check_room("set 0", 31)


def test_whoever_insists_gets_what_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "limits", lambda: iter([Limit(1, "one")]))
    check_room("set 0", 100, oversubscribe=True)


def test_without_any_known_limit_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "limits", lambda: iter([]))
    check_room("set 0", 10**6)


def test_open_files_are_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: (100, 100))
    assert Limit(36, "one open file each, and `ulimit -n` is 100") in limits()


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_the_limits_of_control_groups_are_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, text in {
        "pids.max": "40",
        "pids.current": "15",
        "memory.max": str(1 << 30),
        "memory.current": "0",
    }.items():
        (tmp_path / name).write_text(text + "\n")
    monkeypatch.setattr(capacity, "_cgroups", lambda: iter([tmp_path]))
    assert Limit(25, f"15 processes run in {tmp_path}, whose pids.max is 40") in limits()
    assert any(limit.room == 128 and "1024 MiB left" in limit.what for limit in limits())
    (tmp_path / "pids.max").write_text("max\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert not any(str(tmp_path) in limit.what for limit in limits())


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_free_memory_and_the_process_table_are_limits_of_every_linux() -> None:
    found = " ".join(limit.what for limit in limits())
    assert "kernel.pid_max" in found
    assert "MiB are free" in found

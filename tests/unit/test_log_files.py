"""Logs have a cap, and their writers notice nothing."""

from __future__ import annotations

import os
from pathlib import Path

from gutscore_rs.log_files import cap_logs


def test_a_log_beyond_the_limit_is_moved_aside_and_its_writer_goes_on(tmp_path: Path) -> None:
    log, small = tmp_path / "worker-0.log", tmp_path / "small.log"
    small.write_text("few")
    with os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "wb", buffering=0) as writer:
        writer.write(b"a" * 60 + b"b" * 60)
        assert cap_logs(tmp_path, limit=100) == [log]
        writer.write(b"next")
    assert log.read_bytes() == b"next"
    kept = tmp_path / "worker-0.log.1"
    assert kept.read_bytes() == b"a" * 40 + b"b" * 60
    assert kept.stat().st_mode & 0o777 == 0o600
    assert small.read_text() == "few"
    assert cap_logs(tmp_path, limit=100) == []


def test_the_second_time_replaces_what_was_moved_aside(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    for letter in (b"a", b"b"):
        log.write_bytes(letter * 200)
        cap_logs(tmp_path, limit=100)
    assert (tmp_path / "x.log.1").read_bytes() == b"b" * 100
    assert log.read_bytes() == b""


def test_what_cannot_be_emptied_stops_nobody(tmp_path: Path) -> None:
    (tmp_path / "folder.log").mkdir()
    (tmp_path / "dangling.log").symlink_to(tmp_path / "nowhere")
    (tmp_path / "big.log").write_bytes(b"x" * 200)
    (tmp_path / "big.log.1").mkdir()
    assert cap_logs(tmp_path, limit=100) == []
    assert cap_logs(tmp_path / "absent", limit=100) == []

"""The disk is full: under the server's append-only file, under the logs, under the whole state folder."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rq.job import JobStatus
from support import jobs
from support.cases import LiveCase
from support.processes import survivors
from support.servers import Server
from support.waiting import holds_for, wait_until

from gutscore_rs.errors import StoreUnavailableError
from gutscore_rs.identity import is_alive

FEW_BEATS = 6.0


class SmallDisk:
    """A file system of its own, of some megabytes, that can be filled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=0700", "gs-test", str(folder)], check=True)
        self._filler = folder / "filler"

    def fill(self) -> None:
        """Take all blocks, and what is left of the last block of each log."""
        _fill(self._filler, 1 << 16, 1 << 12)
        for file in self.folder.rglob("*.log"):
            _fill(file, 1)

    def free(self) -> None:
        self._filler.unlink()

    def unmount(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.folder)], check=True)


def _fill(file: Path, *sizes: int) -> None:
    with file.open("ab", buffering=0) as stream:
        for size in sizes:
            with contextlib.suppress(OSError):
                while True:
                    stream.write(b"x" * size)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    if sys.platform != "linux" or os.geteuid() != 0:
        if os.environ.get("CI"):
            pytest.fail("only root may mount a small disk")
        pytest.skip("only root may mount a small disk")
    made = SmallDisk(tmp_path / "disk")
    yield made
    made.unmount()


def words(file: Path) -> list[str]:
    return [line.split()[0] for line in file.read_text().splitlines()] if file.exists() else []


def refuses_writes(server: Server) -> bool:
    try:
        with server.client() as client:
            client.set("write", "x" * 1000)
    except Exception as error:
        return "MISCONF" in str(error)
    return False


def test_a_server_that_refuses_writes_on_a_full_disk_costs_nothing_once_there_is_room(
    disk: SmallDisk, tmp_path: Path
) -> None:
    server = Server("valkey", options=("--dir", str(disk.folder), "--appendfsync", "everysec"))
    server.start()
    case = LiveCase(server, tmp_path / "state")
    try:
        case.start_provisioner()
        case.request(0, nworkers=2)
        workers, marks = case.pids(), tmp_path / "marks"
        running = case.queue().enqueue(jobs.sleep, 3.0, str(marks))
        wait_until(lambda: words(marks) == ["begin"], what="the job has begun")
        waiting = [case.queue().enqueue(jobs.sleep, 0.5) for _ in range(10)]
        disk.fill()
        wait_until(lambda: refuses_writes(server), 10, what="the server refuses writes", interval=0.1)
        with pytest.raises(StoreUnavailableError, match="its disk is full or broken"):
            case.request(1, nworkers=1, wait=False)
        with pytest.raises(StoreUnavailableError, match="its disk is full or broken"):
            case.tasks.enqueue(jobs.square, 2)
        wait_until(lambda: words(marks) == ["begin", "end"], what="the job came to its end meanwhile")
        holds_for(lambda: len(survivors(workers)) == 2, 3.0, what="the workers live", interval=0.5)
        assert case.state_of(1) is None
        disk.free()
        wait_until(lambda: not refuses_writes(server), 10, what="the server takes writes again", interval=0.1)
        done = [running, *waiting]
        wait_until(lambda: all(job.get_status() is JobStatus.FINISHED for job in done), 20, what="the jobs finished")
        wait_until(lambda: case.pids() == workers, FEW_BEATS, what="the same workers are counted")
        assert words(marks) == ["begin", "end"]
        assert case.reasons() == []
        case.request(1, nworkers=1)
    finally:
        case.close()
        server.stop()


def test_launcher_workers_and_provisioner_live_on_when_their_logs_cannot_be_written(
    disk: SmallDisk, server: Server
) -> None:
    case = LiveCase(server, disk.folder / "state")
    try:
        (provisioner,) = [case.start_provisioner()]
        case.request(0, nworkers=2)
        launcher, workers = case.launcher(), case.pids()
        disk.fill()
        for _ in range(3):
            failed = case.queue().enqueue(jobs.fail)
            wait_until(
                lambda job=failed: job.get_status() is JobStatus.FAILED, 10, what="a job failed, which is logged"
            )
            assert "on purpose" in str(failed.latest_result().exc_string)
        done = case.queue().enqueue(jobs.say, "x" * 100_000)
        wait_until(
            lambda: done.get_status() in (JobStatus.FINISHED, JobStatus.FAILED), 10, what="a job that prints ended"
        )
        for victim in workers:
            os.kill(victim, signal.SIGKILL)
            wait_until(lambda pid=victim: pid not in case.pids(), 1.0, what="the dead worker is not counted")
            case.wait_active(0, 2, timeout=10)
        assert case.operations.reconcile(0)
        again = case.queue().enqueue(jobs.square, 4)
        wait_until(lambda: again.return_value() == 16, 10, what="work goes on")
        assert is_alive(launcher)
        assert is_alive(provisioner)
        disk.free()
        last = case.queue().enqueue(jobs.fail, "there is room again")
        wait_until(lambda: last.get_status() is JobStatus.FAILED, 10, what="one more job failed")
        logs = case.folder.logs / "set-0" / "g1"
        wait_until(
            lambda: any("there is room again" in file.read_text() for file in logs.glob("worker-*.log")),
            5,
            what="it is in a log",
        )
        case.operations.release(0, timeout=20)
    finally:
        case.close()

"""Parts of the launcher that need no processes: shared memory, shares, allocations, reasons, and a worker's way with a job."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from rq import Queue
from support import jobs as tasks
from support.servers import Server

from gutscore_rs.access import Access
from gutscore_rs.errors import CapacityError
from gutscore_rs.identity import identify, this_process
from gutscore_rs.store import Store
from gutscore_rs_workers import shared_memory
from gutscore_rs_workers.affinity import available_gpus, gpu_environment, share, thread_environment
from gutscore_rs_workers.allocation import Grant, Wish, allocate
from gutscore_rs_workers.children import Child, End
from gutscore_rs_workers.crew import reason_of
from gutscore_rs_workers.rq_bridge import JobBooks
from gutscore_rs_workers.shared_memory import Cursor, SharedMemory
from gutscore_rs_workers.worker import Worker, WorkerContext

ME = this_process("host")
OLD, NEW = Cursor("a" * 32, 1.5, endless=False), Cursor("b" * 32, 2.5, endless=True)

# -- shared memory ------------------------------------------------------------------------------------------


def test_a_cursor_is_read_as_it_was_written() -> None:
    memory = SharedMemory(3)
    memory.write(1, NEW)
    assert [memory.read(index) for index in range(3)] == [Cursor(), NEW, Cursor()]
    memory.write(1, Cursor())
    assert memory.read(1) == Cursor()


def test_a_worker_killed_while_it_writes_leaves_the_old_cursor(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = SharedMemory(1)
    memory.write(0, OLD)

    class Torn:
        unpack_from = staticmethod(shared_memory._CURSOR.unpack_from)

        @staticmethod
        def pack_into(buffer: memoryview, at: int, *_: object) -> None:
            buffer[at : at + 20] = b"\xff" * 20
            raise KeyboardInterrupt

    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(shared_memory, "_CURSOR", Torn)
            with pytest.raises(KeyboardInterrupt):
                memory.write(0, NEW)
        assert memory.read(0) == OLD


def test_a_reader_beside_a_busy_writer_sees_whole_cursors() -> None:
    memory, done = SharedMemory(1), threading.Event()
    memory.write(0, OLD)

    def write() -> None:
        for _ in range(3000):
            memory.write(0, NEW)
            memory.write(0, OLD)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = set()
    while not done.is_set():
        seen.add(memory.read(0))
    writer.join()
    assert seen <= {OLD, NEW}


def test_a_reader_that_is_overtaken_looks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = SharedMemory(1)
    memory.write(0, OLD)
    looks = []

    class Overtaken:
        pack_into = staticmethod(shared_memory._CURSOR.pack_into)

        @staticmethod
        def unpack_from(buffer: memoryview, at: int = 0) -> tuple[bytes, float, int]:
            looks.append(at)
            if len(looks) == 1:
                memory.write(0, NEW)
                memory.write(0, NEW)
                return b"torn", 7.0, 0
            found: tuple[bytes, float, int] = real.unpack_from(buffer, at)
            return found

    real = shared_memory._CURSOR
    monkeypatch.setattr(shared_memory, "_CURSOR", Overtaken)
    assert memory.read(0) == NEW


def test_the_lease_and_the_drain_are_shared_across_a_fork() -> None:
    memory = SharedMemory(1)
    memory.set_lease_end(1234.5678)
    pid = os.fork()
    if not pid:
        good = memory.lease_end == 1234.5678 and not memory.draining
        memory.write(0, NEW)
        memory.set_draining()
        os._exit(0 if good else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert memory.draining
    assert memory.read(0) == NEW
    assert memory.lease_end == 1234.5678


# -- CPUs and GPUs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("items", "index", "size", "expected"),
    [
        ("abcd", 0, 2, "ab"),
        ("abcd", 1, 2, "cd"),
        ("abcd", 2, 2, "ab"),
        ("abc", 1, 2, "ca"),
        ("ab", 0, 5, "ab"),
        ("", 0, 2, ""),
        ("abc", 0, 0, ""),
    ],
)
def test_shares_go_round_and_never_name_an_item_twice(items: str, index: int, size: int, expected: str) -> None:
    assert share(list(items), index, size) == list(expected)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"CUDA_VISIBLE_DEVICES": "2,3"}, ["2", "3"]),
        ({"CUDA_VISIBLE_DEVICES": ""}, []),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, []),
        ({"ROCR_VISIBLE_DEVICES": "GPU-abc"}, ["GPU-abc"]),
    ],
)
def test_an_inherited_list_of_gpus_rules(environ: dict[str, str], expected: list[str]) -> None:
    assert available_gpus(environ) == expected


def test_libraries_start_as_many_threads_as_a_worker_has_cpus() -> None:
    assert set(thread_environment(4).values()) == {"4"}
    assert set(thread_environment(None).values()) == {"1"}
    assert gpu_environment(["2", "5"])["CUDA_VISIBLE_DEVICES"] == "2,5"


def ask(folder: Path, owner: object = ME, *, cpus: int = 2, gpus: int = 0, present: int = 4, **options: bool) -> Grant:
    return allocate(
        folder,
        owner,
        Wish(f"set of {owner.pid}", cpus, gpus, **options),  # type: ignore[attr-defined, arg-type]
        cpus=range(present),
        gpus=["g0", "g1"],
    )


@pytest.fixture
def other() -> Iterator[object]:
    """Another living process."""
    pid = os.fork()
    if not pid:
        signal.pause()
    living = identify(pid, "host")
    assert living is not None
    yield living
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_two_launchers_get_different_cpus_and_gpus(tmp_path: Path, other: object) -> None:
    assert ask(tmp_path, gpus=1) == Grant(("0", "1"), ("g0",))
    assert ask(tmp_path, other, gpus=1) == Grant(("2", "3"), ("g1",))


def test_whoever_asks_for_nothing_takes_nothing(tmp_path: Path) -> None:
    assert ask(tmp_path, cpus=0) == Grant()
    assert not list(tmp_path.iterdir())


def test_too_few_are_refused_with_numbers_and_holders(tmp_path: Path, other: object) -> None:
    ask(tmp_path, cpus=3)
    with pytest.raises(CapacityError, match=rf"needs 2 CPUs.*lets us use 4, of which 1 are free.*set of {ME.pid}"):
        ask(tmp_path, other)
    assert ask(tmp_path, other, oversubscribe=True) == Grant(("3", "0"))
    assert len(ask(tmp_path, other, cpus=9, oversubscribe=True).cpus) == 4


def test_asking_again_replaces_what_one_had(tmp_path: Path) -> None:
    assert [ask(tmp_path, cpus=3) for _ in range(2)] == [Grant(("0", "1", "2"))] * 2


def test_the_dead_hold_nothing(tmp_path: Path) -> None:
    ask(tmp_path, replace(ME, start_ticks=1), cpus=4)
    assert ask(tmp_path, cpus=4).cpus == ("0", "1", "2", "3")
    assert len(json.loads((tmp_path / "allocations-host.json").read_text())) == 1


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"{",
        b"\xff",
        b"5",
        b"[5]",
        b'[{"owner": 3, "label": "x", "CPUs": [], "GPUs": []}]',
        b'{"a": 1}',
        b"[" * 50_000,
        json.dumps([{"owner": ME.to_dict() | {"pid": os.getppid()}, "label": "x", "CPUs": 5, "GPUs": []}]).encode(),
        json.dumps([{"owner": ME.to_dict() | {"host": "h2"}, "label": ["x"], "CPUs": [["0"]], "GPUs": [1]}]).encode(),
    ],
)
def test_a_file_of_garbage_stops_nobody(tmp_path: Path, garbage: bytes) -> None:
    (tmp_path / "allocations-host.json").write_bytes(garbage)
    assert ask(tmp_path).cpus == ("0", "1")


# -- the crew -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (0, "worker 3 (pid 7 on m) exited with code 0"),
        (70 << 8, "worker 3 (pid 7 on m) exited with code 70"),
        (signal.SIGSEGV, "worker 3 (pid 7 on m) was killed by SIGSEGV"),
        (signal.SIGKILL, "worker 3 (pid 7 on m) was killed by SIGKILL; perhaps out of memory"),
        (signal.SIGABRT | 0x80, "worker 3 (pid 7 on m) was killed by SIGABRT"),
        (60, "worker 3 (pid 7 on m) was killed by signal 60"),
    ],
)
def test_a_death_is_told_by_exit_code_or_signal(status: int, expected: str) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        child = Child(3, 7, "n", 1, "m/1/3", "rq", ours)
        assert reason_of(child, End(status)) == expected
        child.killed_for = "the deadline"
        assert reason_of(child, End(status)) == "the deadline"


# -- a worker and a poisoned job ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "poison",
    [
        {"created_at": "never"},
        {"started_at": "x", "enqueued_at": "y"},
        {"data": b"\xff"},
        {"timeout": "soon"},
        {"status": "queued", "ttl": "x"},
        {"result_ttl": "x"},
    ],
)
def test_a_job_whose_record_is_garbage_fails_and_takes_no_worker_with_it(
    shared_server: Server, poison: dict[str, object]
) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, shared_server.client() as client:
        access = Access.new("poison", url=shared_server.url)
        store = Store.open(access)
        queue = Queue("poison:tasks", connection=client)
        job = queue.enqueue(tasks.square, 3)
        client.hset(job.key, mapping=poison)
        worker = Worker(
            WorkerContext(
                lambda: Store.open(access), JobBooks, 0, "rq-poisoned", [queue.name], theirs, SharedMemory(1), 15.0
            )
        )
        worker._registered = True
        worker._memory.set_lease_end(time.monotonic() + 60)
        worker._open()
        claim = store.jobs.claim([queue.name], "rq-poisoned")
        assert claim is not None
        worker._run_batch([claim])
        worker._settle()
        status = client.hget(job.key, "status")
        assert status in (b"failed", b"finished")
        assert store.jobs.held_by("rq-poisoned") == []
        assert worker._memory.read(0) == Cursor()
        client.flushall()
        store.close()
        worker._store.close()

from __future__ import annotations

import multiprocessing
import os
import signal
import time

import pytest
from support.waiting import wait_until

from gutscore_rs.errors import ReleaseError, ResourceSetError
from gutscore_rs.resource_set import ResourceSetBaseclass, ResourceSetLocal, own_processes

FORK = multiprocessing.get_context("fork")


def idle():
    while True:
        time.sleep(60)


def stubborn(ready):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ready.set()
    idle()


@pytest.fixture
def process():
    """Make processes; whatever is left of them is ended."""
    made = []

    def make(target=idle, *args):
        made.append(FORK.Process(target=target, args=args))
        return made[-1]

    yield make
    for one in made:
        if one.pid is not None and one.exitcode is None:
            one.kill()
            one.join()


@pytest.fixture
def found():
    made = ResourceSetLocal(0, {"nworkers": 2, "drain_timeout": 0.05})
    yield made
    made.release()


def test_an_appended_process_is_started_counted_and_named_in_the_json(found, process):
    first, second = process(), process()
    found.append_worker_process(first)
    assert first.is_alive()
    assert (found.get_nworkers_active(), found.workers_initiated()) == (1, False)
    found.append_worker_process(second)
    assert (found.get_nworkers_active(), found.workers_initiated()) == (2, True)
    assert found._worker_pids == [first.pid, second.pid]
    assert ResourceSetBaseclass.from_json(found.serialize())._worker_pids == [first.pid, second.pid]


def test_a_process_that_runs_already_is_taken(found, process):
    one = process()
    one.start()
    found.append_worker_process(one)
    assert found.get_nworkers_active() == 1


def test_a_full_set_takes_no_more_and_does_not_start_it(found, process):
    found.append_worker_process(process())
    found.append_worker_process(process())
    third = process()
    with pytest.raises(RuntimeError, match="full"):
        found.append_worker_process(third)
    assert third.pid is None


def test_a_process_is_not_counted_twice(found, process):
    one = process()
    found.append_worker_process(one)
    with pytest.raises(ResourceSetError, match="already"):
        found.append_worker_process(one)
    assert found.get_nworkers_active() == 1


def test_a_killed_worker_is_not_counted_and_makes_room(found, process):
    one = process()
    found.append_worker_process(one)
    os.kill(one.pid, signal.SIGKILL)
    wait_until(lambda: found.get_nworkers_active() == 0, what="the worker's death")
    found.append_worker_process(process())
    found.append_worker_process(process())
    assert found.workers_initiated()
    assert one.pid not in found._worker_pids


def test_a_start_that_fails_is_not_counted(found, process, monkeypatch):
    one = process()

    def fail():
        raise OSError(11, "no more processes")

    monkeypatch.setattr(one, "start", fail)
    with pytest.raises(RuntimeError, match="no more processes"):
        found.append_worker_process(one)
    assert (found.get_nworkers_active(), found._workers, found._worker_pids) == (0, [], [])


def test_a_start_without_a_pid_is_not_counted(found, process, monkeypatch):
    one = process()
    monkeypatch.setattr(one, "start", lambda: None)
    with pytest.raises(RuntimeError, match="no pid"):
        found.append_worker_process(one)
    assert found._workers == []


def test_a_process_that_cannot_be_pickled_is_not_counted(found):
    one = multiprocessing.get_context("spawn").Process(target=lambda: None)
    with pytest.raises(RuntimeError, match="could not be started"):
        found.append_worker_process(one)
    assert found._workers == []


def test_an_ended_process_is_refused(found, process):
    one = process(int)
    one.start()
    one.join()
    with pytest.raises(RuntimeError, match="ended"):
        found.append_worker_process(one)


@pytest.mark.parametrize("thing", [None, "process", object()])
def test_what_is_no_process_is_refused(found, thing):
    with pytest.raises(RuntimeError, match="multiprocessing"):
        found.append_worker_process(thing)


def test_release_ends_the_processes_even_those_that_ignore_sigterm(found, process):
    ready = FORK.Event()
    deaf, one = process(stubborn, ready), process()
    found.append_worker_process(deaf)
    found.append_worker_process(one)
    assert ready.wait(10)
    found.release()
    assert (one.exitcode, deaf.exitcode) == (-signal.SIGTERM, -signal.SIGKILL)
    assert (found._workers, found._worker_pids) == ([], [])


def test_release_names_what_survives(found, process, monkeypatch):
    one = process()
    found.append_worker_process(one)
    with monkeypatch.context() as patch:
        patch.setattr(own_processes, "KILL_SECONDS", 0.05)
        patch.setattr(one, "terminate", lambda: None)
        patch.setattr(one, "kill", lambda: None)
        with pytest.raises(ReleaseError, match=str(one.pid)):
            found.release()
    assert found.get_nworkers_active() == 1

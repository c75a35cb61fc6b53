"""The executor, as users of concurrent.futures know one, on real workers."""

from __future__ import annotations

import threading
from concurrent.futures import ALL_COMPLETED, BrokenExecutor, CancelledError, as_completed, wait
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from support import calls, jobs
from support.calls import executor_on
from support.cases import LiveCase
from support.waiting import holds_for, wait_until

from gutscore_rs.errors import (
    ConfigError,
    DependencyError,
    ExecutorBrokenError,
    PayloadTooLargeError,
    TaskError,
    TaskTimeoutError,
    WalltimeError,
    WorkerLostError,
)


def keys_of_executors(case: LiveCase) -> list[bytes]:
    """What is left of executors, but for the marks of calls that were taken back: they last 15 s."""
    client = case.store.client
    keys = [key for key in client.keys("*") if b":executor:" in key or key.startswith(b"rq:job:x")]
    return [key for key in keys if not 0 <= client.ttl(key) <= 15]


# -- calls and results --------------------------------------------------------------------------------------


def test_calls_of_every_kind_bring_their_results(case: LiveCase) -> None:
    case.request(nworkers=2)
    base = 10

    def closure(x: int, *, times: int = 1) -> int:
        return base + x * times

    with executor_on(case) as executor:
        futures = [
            executor.submit(jobs.square, 3),
            executor.submit(lambda x: x + 1, 4),
            executor.submit(closure, 2, times=3),
            executor.submit(partial(jobs.square, 5)),
            executor.submit("{}-{}".format, 1, 2),
        ]
        assert [future.result(20) for future in futures] == [9, 5, 16, 25, "1-2"]
    assert keys_of_executors(case) == []


def test_what_a_call_raises_is_raised_with_its_traceback_as_the_cause(case: LiveCase) -> None:
    case.request(nworkers=1)
    with executor_on(case) as executor:
        error = executor.submit(calls.raise_chained).exception(20)
        assert isinstance(error, ValueError)
        assert str(error) == "outer"
        assert "KeyError: 'inner'" in str(error.__cause__)
        assert "raise_chained" in str(error.__cause__)
        odd = executor.submit(calls.raise_odd).exception(20)
        assert isinstance(odd, TaskError)
        assert "1 and 2" in str(odd)
        left = executor.submit(jobs.leave, 3).exception(20)
        assert isinstance(left, SystemExit)
        assert executor.submit(jobs.square, 2).result(20) == 4


def test_a_result_that_cannot_travel_is_an_error_of_its_call(case: LiveCase) -> None:
    case.request(nworkers=1)
    with executor_on(case) as executor:
        error = executor.submit(threading.Lock).exception(20)
        assert isinstance(error, TypeError)
        assert "pickle" in str(error)


def test_large_arrays_come_back_whole_and_writable(case: LiveCase) -> None:
    case.request(nworkers=1)
    given = np.arange(2_000_000.0)
    with executor_on(case) as executor:
        back = executor.submit(lambda array: array * 2, given).result(60)
        assert np.array_equal(back, given * 2)
        back[0] = 1.0


def test_what_is_larger_than_the_cap_is_refused_on_both_ways(case: LiveCase) -> None:
    case.request(nworkers=1)
    with executor_on(case, max_bytes=100_000) as executor:
        with pytest.raises(PayloadTooLargeError, match="max_bytes"):
            executor.submit(len, b"x" * 100_001)
        error = executor.submit(bytes, 100_001).exception(20)
        assert isinstance(error, PayloadTooLargeError)
        assert executor.submit(len, b"x" * 90_000).result(20) == 90_000


# -- as concurrent.futures has it ---------------------------------------------------------------------------


def test_map_keeps_the_order_whatever_its_chunks(case: LiveCase) -> None:
    case.request(nworkers=2)
    with executor_on(case) as executor:
        expected = [n * n for n in range(25)]
        assert list(executor.map(jobs.square, range(25))) == expected
        assert list(executor.map(jobs.square, range(25), chunksize=7)) == expected
        assert list(executor.map(jobs.square, range(25), buffersize=3)) == expected
        assert list(executor.map(pow, [2, 3], [3, 2])) == [8, 9]
        with pytest.raises(ValueError, match="chunksize"):
            executor.map(jobs.square, [1], chunksize=0)


def test_a_buffer_bounds_how_far_map_reads_ahead(case: LiveCase) -> None:
    case.request(nworkers=1)
    read: list[int] = []

    def numbers() -> object:
        for n in range(10):
            read.append(n)
            yield n

    with executor_on(case) as executor:
        results = executor.map(jobs.square, numbers(), buffersize=2)
        assert next(results) == 0
        assert read == [0, 1, 2]


def test_a_map_that_takes_too_long_is_ended(case: LiveCase) -> None:
    case.request(nworkers=1)
    with executor_on(case) as executor, pytest.raises(TimeoutError):
        list(executor.map(jobs.sleep, [5.0, 5.0], timeout=0.3))


def test_futures_are_waited_for_in_all_ways(case: LiveCase) -> None:
    case.request(nworkers=2)
    with executor_on(case) as executor:
        futures = [executor.submit(jobs.square, n) for n in range(50)]
        assert {future.result() for future in as_completed(futures, 30)} == {n * n for n in range(50)}
        more = [executor.submit(jobs.square, n) for n in range(5)]
        assert len(wait(more, 30, return_when=ALL_COMPLETED).done) == 5
        called: list[int] = []
        executor.submit(jobs.square, 6).add_done_callback(lambda future: called.append(future.result()))
        wait_until(lambda: called == [36], what="the callback was called")


def test_one_thread_sends_and_one_listens_for_any_number_of_futures(case: LiveCase) -> None:
    before = threading.active_count()
    with executor_on(case) as executor:
        futures = [executor.submit(jobs.square, n) for n in range(2000)]
        assert threading.active_count() == before + 2
        case.request(nworkers=2)
        assert [future.result(60) for future in futures] == [n * n for n in range(2000)]
    wait_until(lambda: threading.active_count() == before, what="its threads ended")


def test_what_nobody_has_begun_can_be_cancelled(case: LiveCase) -> None:
    with executor_on(case) as executor:
        first, second = executor.submit(jobs.square, 1), executor.submit(jobs.square, 2)
        assert not first.running()
        assert first.cancel()
        assert first.cancelled()
        with pytest.raises(CancelledError):
            first.result(1)
        case.request(nworkers=1)
        assert second.result(20) == 4
        assert not second.cancel()


def test_what_runs_cannot_be_cancelled(case: LiveCase, tmp_path: Path) -> None:
    case.request(nworkers=1)
    with executor_on(case) as executor:
        future = executor.submit(calls.wait_for, str(tmp_path / "go"))
        wait_until(future.running, what="it runs")
        assert not future.cancel()
        (tmp_path / "go").touch()
        assert future.result(20) == "seen"


def test_a_shut_down_executor_takes_no_more_and_finishes_what_it_has(case: LiveCase) -> None:
    case.request(nworkers=2)
    with executor_on(case) as executor:
        futures = [executor.submit(jobs.square, n) for n in range(20)]
        executor.shutdown(wait=True)
        assert all(future.done() for future in futures)
        with pytest.raises(RuntimeError, match="after shutdown"):
            executor.submit(jobs.square, 1)
    assert keys_of_executors(case) == []


def test_a_shutdown_that_cancels_takes_back_everything_that_waits(case: LiveCase) -> None:
    with executor_on(case) as executor:
        futures = [executor.submit(jobs.square, n) for n in range(1500)]
        executor.shutdown(wait=True, cancel_futures=True)
        assert all(future.cancelled() for future in futures)
    assert keys_of_executors(case) == []


def test_a_with_block_ends_when_all_is_done(case: LiveCase) -> None:
    case.request(nworkers=2)
    with executor_on(case) as executor:
        with executor:
            futures = [executor.submit(jobs.square, n) for n in range(10)]
        assert [future.result(0) for future in futures] == [n * n for n in range(10)]


# -- options ------------------------------------------------------------------------------------------------


def test_a_call_that_raises_is_run_again_as_often_as_asked(case: LiveCase, tmp_path: Path) -> None:
    case.request(nworkers=1)
    with executor_on(case) as executor:
        again = executor.options(retries=2)
        assert again.submit(calls.fail_first, str(tmp_path / "a"), 2).result(30) == 3
        error = again.submit(calls.fail_first, str(tmp_path / "b"), 9).exception(30)
        assert isinstance(error, ValueError)
        assert str(error) == "run 3"


def test_a_call_beyond_its_timeout_is_ended(case: LiveCase) -> None:
    case.request(nworkers=1)
    with executor_on(case) as executor:
        error = executor.options(timeout=1).submit(jobs.sleep, 60.0).exception(30)
        assert isinstance(error, TaskTimeoutError)
        assert isinstance(error, TimeoutError)


def test_the_first_queue_goes_first(case: LiveCase, tmp_path: Path) -> None:
    file = str(tmp_path / "order")
    with executor_on(case, queues=("urgent", "tasks"), queue="tasks") as executor:
        low = [executor.submit(calls.leave_a_line, file, f"low {n}") for n in range(3)]
        high = executor.options(queue="urgent").submit(calls.leave_a_line, file, "high")
        wait_until(lambda: case.store.client.llen("rq:queue:test:urgent") == 1, what="all are queued")
        case.request(nworkers=1, queues=["test:urgent", "test:tasks"], batch=1)
        wait([high, *low], 20)
    assert (tmp_path / "order").read_text().split("\n")[0] == "high"


def test_a_call_waits_for_what_it_depends_on(case: LiveCase, tmp_path: Path) -> None:
    case.request(nworkers=2)
    file = str(tmp_path / "order")
    with executor_on(case) as executor:
        first = executor.submit(calls.wait_for, str(tmp_path / "go"))
        then = executor.options(depends_on=[first]).submit(calls.leave_a_line, file, "then")
        never = executor.options(depends_on=[first]).submit(calls.leave_a_line, file, "never")
        assert never.cancel()
        # For longer than it takes until calls that nobody hears of are looked for in Redis.
        holds_for(lambda: not then.done(), 5.0, what="it waits")
        (tmp_path / "go").touch()
        assert then.result(20) == "then"
        assert (tmp_path / "order").read_text() == "then\n"
        bad = executor.submit(jobs.fail)
        error = executor.options(depends_on=bad).submit(jobs.square, 1).exception(20)
        assert isinstance(error, DependencyError)
        assert isinstance(error.__cause__, ValueError)


def test_options_that_cannot_be_are_refused(case: LiveCase) -> None:
    with executor_on(case) as executor:
        for wrong in ({"retries": -1}, {"timeout": 0}, {"queue": "no"}, {"prioritty": 1}, {"time_request": "x"}):
            with pytest.raises(ConfigError):
                executor.options(**wrong)


# -- the dead, and time -------------------------------------------------------------------------------------


def test_a_lost_worker_fails_its_call_by_name_and_no_other(case: LiveCase) -> None:
    case.request(nworkers=1)
    with executor_on(case) as executor:
        others = [executor.submit(jobs.square, n) for n in range(20)]
        lost = executor.submit(jobs.kill_myself)
        more = [executor.submit(jobs.square, n) for n in range(20)]
        error = lost.exception(30)
        assert isinstance(error, WorkerLostError)
        assert "SIGKILL" in str(error)
        assert f"on {case.host}" in str(error)
        assert "pid" in str(error)
        assert [future.result(30) for future in others + more] == [n * n for n in range(20)] * 2


def test_a_lost_workers_call_is_run_again_within_its_retries(case: LiveCase, tmp_path: Path) -> None:
    case.request(nworkers=1)
    with executor_on(case) as executor:
        assert executor.options(retries=2).submit(calls.die_first, str(tmp_path / "a"), 2).result(60) == 3
        error = executor.options(retries=1).submit(calls.die_first, str(tmp_path / "b"), 9).exception(60)
        assert isinstance(error, WorkerLostError)


def test_a_call_that_no_set_has_time_for_fails_early(case: LiveCase) -> None:
    case.request(nworkers=1, runtime=60)
    with executor_on(case) as executor:
        error = executor.options(time_request="1:00:00").submit(jobs.square, 1).exception(20)
        assert isinstance(error, WalltimeError)
        assert "s left" in str(error)
        assert executor.options(time_request=5).submit(jobs.square, 3).result(20) == 9


def test_without_any_worker_to_come_the_executor_breaks(case: LiveCase) -> None:
    with executor_on(case, worker_wait=1.0) as executor:
        future = executor.submit(jobs.square, 1)
        error = future.exception(20)
        assert isinstance(error, ExecutorBrokenError)
        assert isinstance(error, BrokenExecutor)
        assert "no resource set was requested" in str(error)
        with pytest.raises(BrokenExecutor):
            executor.submit(jobs.square, 1)


def test_a_set_that_ends_breaks_what_it_leaves_behind(case: LiveCase) -> None:
    case.request(nworkers=1)
    with executor_on(case, worker_wait=1.0) as executor:
        assert executor.submit(jobs.square, 2).result(20) == 4
        case.operations.release(0)
        error = executor.submit(jobs.square, 1).exception(20)
        assert isinstance(error, ExecutorBrokenError)
        assert "set 0 is released" in str(error)


# -- Redis, and who writes into it --------------------------------------------------------------------------


def test_an_outage_of_redis_costs_no_call(case: LiveCase) -> None:
    case.request(nworkers=2)
    with executor_on(case) as executor:
        futures = [executor.submit(jobs.sleep, 0.02) for n in range(100)]
        wait_until(lambda: any(future.done() for future in futures), 20, what="some are done")
        case.server.kill()
        case.server.start()
        assert [future.result(60) for future in futures] == ["slept"] * 100


def test_a_forged_call_is_not_run(case: LiveCase, tmp_path: Path) -> None:
    with executor_on(case) as executor:
        future = executor.submit(jobs.square, 1)
        other = executor.submit(calls.leave_a_line, str(tmp_path / "file"), "x")
        client = case.store.client
        wait_until(lambda: client.llen("rq:queue:test:tasks") == 2, what="both are queued")
        # A call that was signed for another job.
        client.hset(f"rq:job:{future.job_id}", "data", client.hget(f"rq:job:{other.job_id}", "data"))
        client.hset(f"rq:job:{other.job_id}", "data", b"garbage")
        case.request(nworkers=1)
        for one in (future, other):
            assert "not signed" in str(one.exception(20)) or "no sealed call" in str(one.exception(20))
    assert not (tmp_path / "file").exists()


def test_a_forged_result_is_not_decoded(case: LiveCase) -> None:
    with executor_on(case) as executor:
        future = executor.submit(jobs.square, 1)
        client = case.store.client
        wait_until(lambda: client.llen("rq:queue:test:tasks") == 1, what="it is queued")
        (reply,) = client.hmget(f"rq:job:{future.job_id}", "gs_reply")
        client.xadd(reply, {future.job_id: b"c" * 100})
        assert "not signed" in str(future.exception(20))

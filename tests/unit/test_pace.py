"""How many jobs a worker takes at once follows how long they last."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gutscore_rs_workers.pace import LARGEST_BATCH, TARGET_SECONDS, Pace


def test_it_begins_with_one_and_doubles_while_jobs_are_short() -> None:
    pace, sizes = Pace(), []
    for _ in range(9):
        sizes.append(pace.size)
        pace.learn(pace.size, pace.size * 1e-5, 1e-5)
    assert sizes == [1, 2, 4, 8, 16, 32, 64, 64, 64]


def test_one_job_that_lasts_brings_it_back_to_one() -> None:
    pace = Pace()
    for _ in range(9):
        pace.learn(pace.size, 1e-4, 1e-5)
    pace.learn(64, 0.2, 0.1)
    assert pace.size == 1


def test_a_batch_is_of_fifty_milliseconds_of_work() -> None:
    pace = Pace()
    for _ in range(9):
        pace.learn(pace.size, pace.size * 0.01, 0.01)
    assert pace.size == 5


def test_whoever_wants_one_at_a_time_gets_one() -> None:
    pace = Pace(1)
    for _ in range(5):
        pace.learn(1, 1e-6, 1e-6)
    assert pace.size == 1


@given(st.lists(st.tuples(st.integers(0, 100), st.floats(0, 10), st.floats(0, 10))), st.integers(1, 100))
def test_it_is_never_less_than_one_nor_more_than_allowed(batches: list[tuple[int, float, float]], largest: int) -> None:
    pace = Pace(largest)
    for jobs, seconds, longest in batches:
        before = pace.size
        pace.learn(jobs, seconds, longest)
        assert 1 <= pace.size <= min(largest, max(2 * before, 1))
        assert longest <= TARGET_SECONDS or pace.size == 1 or jobs == 0
    assert LARGEST_BATCH > 1

"""Ids of jobs are texts: arrays, heterogeneous jobs, ranges that Slurm has not split yet (fact 24)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gutscore_rs.errors import ConfigError
from gutscore_rs.slurm import JobView
from gutscore_rs.slurm.job_ids import check_job_ids, parse_reply, task_holds


@pytest.mark.parametrize(
    ("task", "within", "outside"),
    [
        ("4", [4], [0, 3, 5, 40]),
        ("[1-9%2]", [1, 5, 9], [0, 10, 2_000]),
        ("[1,3-5]", [1, 3, 4, 5], [0, 2, 6]),
        ("[0-30:10]", [0, 10, 30], [5, 31, 40]),
        ("[1-999:2%7]", [1, 999], [2, 998, 7_000]),
        ("[7]", [7], [6, 8]),
        ("", [], [0, 1]),
        # squeue cuts at 64 characters unless SLURM_BITSTR_LEN is set; nothing of the rest is known to be gone.
        ("[1,3,5,...]", [1, 3, 900], []),
        ("[1-2,4,...%3]", [1, 900], []),
        ("[x]", [], [0]),
    ],
)
def test_a_task_field_speaks_for_its_indices(task, within, outside):
    view = JobView("9", "5", task, "t", "PENDING")
    assert [index for index in within + outside if view.is_task(index)] == within


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 20), st.integers(1, 4)), min_size=1, max_size=5))
def test_a_list_holds_what_its_ranges_hold(ranges):
    text = ",".join(f"{first}-{first + more}:{step}" for first, more, step in ranges)
    expected = {index for first, more, step in ranges for index in range(first, first + more + 1, step)}
    assert {index for index in range(330) if task_holds(f"[{text}%4]", index)} == expected


@pytest.mark.parametrize(
    ("view", "name"),
    [
        (JobView("123", "123", "", "t", "RUNNING"), "123"),
        (JobView("130", "123", "4", "t", "RUNNING"), "123_4"),
        (JobView("123", "123", "4", "t", "RUNNING"), "123_4"),
        (JobView("123", "123", "[1-9%2]", "t", "PENDING"), "123_[1-9]"),
        (JobView("123", "123", "[1-9:2]", "t", "PENDING"), "123_[1-9:2]"),
    ],
)
def test_a_job_is_called_what_scancel_calls_it(view, name):
    assert view.name_of_job == name
    assert check_job_ids([name]) == [name]


@pytest.mark.parametrize(
    "job_id", ["", "x", "-9", "1 2", "1;c", "123_", "123_[1-9%2]", "--me", "1,2", "1\n", "\u0661", "1_*"]
)
def test_what_is_no_id_is_refused(job_id):
    """dask-jobqueue#44 and #56 cancelled what they had misparsed."""
    with pytest.raises(ConfigError, match="no id"):
        check_job_ids(["1", job_id])


def test_a_text_is_no_list_of_ids():
    with pytest.raises(ConfigError, match="list"):
        check_job_ids("123")


def test_ids_of_heterogeneous_jobs_are_ids_and_each_is_asked_for_once():
    assert check_job_ids(["123+0", "123_4", "123", "123_4"]) == ["123+0", "123_4", "123"]


@given(st.text())
def test_any_reply_has_an_id_of_digits_or_none(text):
    found = parse_reply(text)
    assert found is None or (found[0].isascii() and found[0].isdigit())

"""Cancelling: many at once, only what was named, and a clear word when Slurm does not answer."""

from __future__ import annotations

import pytest

from gutscore_rs.errors import ConfigError, SlurmRefusedError, SlurmUnavailableError
from gutscore_rs.slurm import SlurmClient

CLIENT = SlurmClient(timeout=20)


def test_many_jobs_are_cancelled_a_hundred_at_a_time(fake_slurm):
    fake_slurm.program("scancel")
    ids = [str(number) for number in range(1, 251)] + ["300_[5-9]"]
    CLIENT.cancel(ids)
    calls = fake_slurm.calls("scancel")
    assert [len(call) for call in calls] == [100, 100, 51]
    assert [word for call in calls for word in call] == ids


def test_tasks_of_one_array_are_cancelled_in_one_word(fake_slurm):
    # One request of Slurm's instead of one for each task.
    fake_slurm.program("scancel")
    CLIENT.cancel(["7_3", "7_1", "7_2", "9", "7_8", "8_4"])
    assert fake_slurm.calls("scancel") == [["9", "7_[1-3,8]", "8_4"]]


def test_nothing_to_cancel_calls_nothing(fake_slurm):
    fake_slurm.program("scancel")
    CLIENT.cancel([])
    assert fake_slurm.calls("scancel") == []


@pytest.mark.parametrize(
    "err",
    [
        "",
        "scancel: error: Kill job error on job id 5: Invalid job id specified\n",
        (
            "scancel: error: Kill job error on job id 5: Job/step already completing or completed\n"
            "scancel: error: Kill job error on job id 6: Invalid job id specified\n"
        ),
    ],
)
def test_a_job_that_is_gone_is_no_error(fake_slurm, err):
    fake_slurm.program("scancel", err=err, code=1 if err else 0)
    CLIENT.cancel(["5", "6"])


@pytest.mark.parametrize(
    "err",
    [
        "",
        (
            "scancel: error: Kill job error on job id 4: Invalid job id specified\n"
            "scancel: error: Kill job error on job id 5: Socket timed out on send/recv operation\n"
        ),
        "slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n",
    ],
)
def test_a_cancel_that_may_not_have_happened_is_told(fake_slurm, err):
    """dask-jobqueue swallows the error, and the jobs live on; none of ten systems verifies a cancel."""
    fake_slurm.program("scancel", err=err, code=1)
    for call in (lambda: CLIENT.cancel(["4", "5"]), lambda: CLIENT.cancel_named("tok")):
        with pytest.raises(SlurmUnavailableError, match="may live on"):
            call()


def test_a_foreign_job_keeps_none_of_ours_alive(fake_slurm):
    fake_slurm.program("scancel", err="scancel: error: Kill job error on job id 7: Access/permission denied\n", code=1)
    with pytest.raises(SlurmRefusedError, match="permission denied"):
        CLIENT.cancel([str(number) for number in range(1, 251)])
    assert len(fake_slurm.calls("scancel")) == 3


def test_bad_ids_are_refused_before_anything_is_cancelled(fake_slurm):
    """dask-jobqueue#44, #56: ids misparsed, others' jobs or none cancelled."""
    fake_slurm.program("scancel")
    with pytest.raises(ConfigError):
        CLIENT.cancel([*map(str, range(1, 201)), "--user=root"])
    with pytest.raises(ConfigError):
        CLIENT.cancel("123")
    assert fake_slurm.calls("scancel") == []


def test_a_name_is_cancelled_among_our_own_jobs_only(fake_slurm):
    fake_slurm.program("scancel")
    CLIENT.cancel_named("tok")
    assert fake_slurm.calls("scancel") == [["--me", "--name=tok"]]

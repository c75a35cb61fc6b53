"""What squeue prints, also between others' jobs with names of any kind."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gutscore_rs.errors import ConfigError, SlurmUnavailableError
from gutscore_rs.slurm import JobView, SlurmClient, Verdict
from gutscore_rs.slurm.queue import parse_queue

CLIENT = SlurmClient(timeout=20)


USUAL = {
    "job": "5", "array": "5", "task": "N/A", "state": "RUNNING", "start": "100", "end": "400", "restarts": "0",
    "code": "0", "nodes": "n1", "reason": "None", "name": "tok",
}  # fmt: skip


def record(**changes):
    """A record of squeue: the usual fields, some of them changed."""
    return "\x1f".join((USUAL | changes).values()) + "\x1e\n"


def test_a_job_is_read_with_all_that_is_known_of_it():
    (view,), odd = parse_queue(record(restarts="2", nodes="n[1-2]"))
    assert view == JobView("5", "5", "", "tok", "RUNNING", "", 100.0, 400.0, "n[1-2]", 2, "")
    assert odd == 0
    assert view.verdict is Verdict.UP


def test_an_array_is_its_running_tasks_and_one_line_for_the_rest():
    text = record(task="3-999:2%7", state="PENDING", start="N/A", end="N/A", nodes="", reason="JobArrayTaskLimit")
    text += record(job="6", task="1")
    (rest, first), _ = parse_queue(text)
    assert (rest.task, rest.name_of_job, rest.start, rest.end) == ("[3-999:2%7]", "5_[3-999:2]", 0.0, 0.0)
    assert (first.task, first.name_of_job, first.array_id, first.job_id) == ("1", "5_1", "5", "6")
    assert rest.is_task(999)
    assert not rest.is_task(1)
    assert first.is_task(1)


def test_the_last_task_that_waits_is_one_index():
    (view,), _ = parse_queue(record(task="30%3", state="PENDING"))
    assert view.is_task(30)
    assert view.name_of_job == "5_[30]"


def test_what_is_left_of_cancelled_tasks_speaks_for_no_other_task():
    (view,), _ = parse_queue(record(task="N/A", state="CANCELLED"))
    assert view.is_gone
    assert not view.is_task(0)


@pytest.mark.parametrize(
    "name", ["na me|x\ty", "nl\nname", "a\x1fb", "\x1e", "123", "", "a\x1e\nb", "\u00fc" * 60, "\x1f\x1e\n\x1f" * 5]
)
def test_the_names_of_other_jobs_hide_none_of_ours(name):
    """Names hold any bytes; a name over several lines was split into jobs that were none."""
    views, _ = parse_queue(record() + record(name=name, job="6") + record(job="7"))
    assert {view.job_id for view in views if view.name == "tok"} == {"5", "7"}
    assert {view.job_id for view in views} <= {"5", "6", "7"}


@given(st.text())
def test_no_name_makes_the_list_unreadable(name):
    views, _ = parse_queue(record() + record(name=name, job="6") + record(job="7"))
    assert {"5", "7"} <= {view.job_id for view in views}


def test_bytes_that_are_no_text_are_read_past(fake_slurm):
    fake_slurm.program("squeue", out=record().encode() + record(name="X", job="6").encode().replace(b"X", b"\xff\xfe"))
    assert [view.job_id for view in CLIENT.queue()] == ["5", "6"]


def test_a_banner_before_the_list_is_no_job():
    views, odd = parse_queue("Maintenance on Friday!\n5 minutes\n" + record())
    assert [view.job_id for view in views] == ["5"]
    assert odd == 0


@pytest.mark.parametrize("text", ["Maintenance!\n", "JOBID PARTITION\n  5 debug\n", "\x00\x00", "5\x1f5\x1e\n"])
def test_what_is_no_list_is_not_an_empty_queue(fake_slurm, text):
    """An answer that cannot be read is no proof that a job is gone: Parsl took missing jobs for completed ones."""
    fake_slurm.program("squeue", out=text)
    with pytest.raises(SlurmUnavailableError, match="no list of jobs"):
        CLIENT.queue()


def test_an_empty_queue_is_empty(fake_slurm):
    fake_slurm.program("squeue")
    assert CLIENT.queue() == ()


@pytest.mark.parametrize(
    "words",
    [
        "slurm_load_jobs error: Unable to contact slurm controller (connect failure)",
        "slurm_load_jobs error: Socket timed out on send/recv operation",
        "slurm_load_jobs error: Invalid job id specified",
    ],
)
def test_a_queue_that_does_not_answer_is_not_empty(fake_slurm, words):
    fake_slurm.program("squeue", err=words, code=1)
    with pytest.raises(SlurmUnavailableError, match="slurm_load_jobs") as caught:
        CLIENT.queue()
    assert caught.value.transient


def test_the_whole_queue_is_one_call(fake_slurm):
    """Per-job calls bring complaints of administrators: sisyphus#108, Snakemake-Profiles/slurm#74."""
    fake_slurm.program("squeue", out="".join(record(job=str(number)) for number in range(1, 3001)))
    assert len(CLIENT.queue()) == 3000
    (call,) = fake_slurm.calls("squeue")
    assert {"--me", "--states=all", "--all", "--noheader"} <= set(call)
    assert not any(word.startswith(("--array", "-r", "--json", "--only-job-state", "--job")) for word in call)


def test_a_name_is_asked_for_and_compared(fake_slurm):
    fake_slurm.program("squeue", out=record() + record(name="tok2", job="6"))
    assert [view.job_id for view in CLIENT.named("tok")] == ["5"]
    assert "--name=tok" in fake_slurm.calls("squeue")[0]


@pytest.mark.parametrize(("end", "expected"), [("400", 400.0), ("NONE", None), ("N/A", None), ("Unknown", None)])
def test_the_end_of_a_job_is_asked_for_with_two_ids(fake_slurm, end, expected):
    """squeue fails for one id that is forgotten, not for two: Parsl#1588, HQ#764 hung on it for ever (fact 18)."""
    fake_slurm.program("squeue", out=record(end=end))
    assert CLIENT.end_time("5") == expected
    assert "--jobs=5,5" in fake_slurm.calls("squeue")[0]


def test_the_end_of_a_job_that_slurm_forgot_is_unknown(fake_slurm):
    fake_slurm.program("squeue")
    assert CLIENT.end_time("5_1") is None
    with pytest.raises(ConfigError):
        CLIENT.end_time("")


@pytest.mark.parametrize(("status", "expected"), [("768", "3:0"), ("9", "0:9"), ("0", "0:0"), ("x", "")])
def test_an_exit_code_is_that_of_the_ended_job_alone(status, expected):
    assert parse_queue(record(state="FAILED", code=status))[0][0].exit_code == expected
    assert not parse_queue(record(state="RUNNING", code=status))[0][0].exit_code

"""What accounting says, or does not: it may be absent, slow, late, and is never an error (fact 20)."""

from __future__ import annotations

import time

import pytest

from gutscore_rs.errors import ConfigError
from gutscore_rs.slurm import SlurmClient, Verdict

CLIENT = SlurmClient(timeout=20)


FIELDS = ("shown", "raw", "state", "start", "end", "code", "nodes", "name")
USUAL = ("12", "12", "COMPLETED", "100", "200", "0:0", "n1", "tok")


def line(*first, **changes):
    """A line of sacct: the usual fields, the first of them given in order, others by name."""
    fields = dict(zip(FIELDS, (*first, *USUAL[len(first) :]), strict=True)) | changes
    return "\x1f".join(fields.values()) + "\n"


def test_a_job_that_the_queue_forgot_has_its_end(fake_slurm):
    fake_slurm.program("sacct", out=line(state="TIMEOUT", code="0:15"))
    found = CLIENT.history(["tok"], time.time())
    view = found["12"]
    assert (view.state, view.exit_code, view.start, view.end, view.nodes) == ("TIMEOUT", "0:15", 100.0, 200.0, "n1")
    assert view.restarts == -1


def test_the_words_of_a_cancelled_job_and_the_ids_of_arrays_and_het_jobs(fake_slurm):
    """The predecessor crashed on "CANCELLED by 1000", and read 123_4 as 1234 (facts 17, 24)."""
    fake_slurm.program(
        "sacct",
        out=line("12_4", "19", "CANCELLED by 1000")
        + line("12_[5-9%2]", "12", "PENDING", "Unknown", "Unknown", "0:0", "None assigned")
        + line("30+0", "30")
        + line("30+1", "31"),
    )
    found = CLIENT.history(["tok"], time.time())
    assert set(found) == {"12_4", "12_[5-9]", "30", "31"}
    assert found["12_4"].verdict is Verdict.GONE
    assert (found["12_4"].array_id, found["12_4"].job_id) == ("12", "19")
    assert found["12_[5-9]"].is_task(7)
    assert (found["12_[5-9]"].start, found["12_[5-9]"].nodes) == (0.0, "")


def test_lines_that_cannot_be_read_are_left_out(fake_slurm):
    fake_slurm.program("sacct", out="Banner!\n" + line() + "\x1f" * 7 + "\n" + line("x", "y"))
    assert set(CLIENT.history(["tok"], 0)) == {"12"}


@pytest.mark.parametrize(
    ("err", "code"),
    [
        ("Slurm accounting storage is disabled\n", 1),
        (
            "sacct: error: slurm_persist_conn_open: Something happened\nsacct: error: Problem talking to the database\n",
            1,
        ),
    ],
)
def test_without_accounting_there_is_no_history_and_no_error(fake_slurm, err, code):
    fake_slurm.program("sacct", err=err, code=code)
    assert CLIENT.history(["tok"], 0) is None


def test_no_sacct_at_all_is_no_error(fake_slurm):
    assert CLIENT.history(["tok"], 0) is None


def test_a_sacct_that_hangs_is_given_up(fake_slurm):
    """Parsl#3814: sacct hung with more than 200 jobs."""
    fake_slurm.program("sacct", then="exec sleep 300")
    assert SlurmClient(timeout=0.3).history(["tok"], 0) is None


def test_sacct_is_told_since_when_whose_and_which_fields(fake_slurm):
    """Without -S it begins at midnight; its default columns are cut (fact 21)."""
    fake_slurm.program("sacct")
    since = time.time() - 90_000
    assert CLIENT.history(["tok", "12", "12_3", "other"], since) == {}
    by_id, by_name = fake_slurm.calls("sacct")
    assert "--jobs=12,12_3" in by_id
    assert "--name=tok,other" in by_name
    for call in (by_id, by_name):
        words = dict(word.partition("=")[::2] for word in call)
        asked = time.mktime(time.strptime(words["--starttime"], "%Y-%m-%dT%H:%M:%S"))
        assert since - 3 * 3600 < asked < since - 3600
        assert {"--allocations", "--parsable2", "--noheader"} <= set(words)
        assert words["--uid"].isdigit()
        assert "JobIDRaw" in words["--format"].split(",")


def test_nothing_asked_is_nothing_called(fake_slurm):
    fake_slurm.program("sacct")
    assert CLIENT.history([], 0) == {}
    assert fake_slurm.calls("sacct") == []


def test_what_is_neither_token_nor_id_is_refused(fake_slurm):
    with pytest.raises(ConfigError):
        CLIENT.history(["a b"], 0)

"""Submissions: written before sbatch, found by whoever comes after a crash, and no trouble when they are garbage."""

from __future__ import annotations

from dataclasses import replace

from gutscore_rs.store import Store
from gutscore_rs.store.submissions import SubmissionRecord

RECORD = SubmissionRecord(
    "tok", "slurm-alps", job_id="12", created_at=5.0, submitted_at=6.0, limit=90, sets=((0, 1), (7, 2))
)


def test_a_submission_is_read_as_it_was_written(store: Store) -> None:
    store.submissions.write(RECORD)
    assert store.submissions.get("tok") == RECORD
    assert store.submissions.open() == [RECORD]
    assert store.submissions.get("other") is None


def test_each_set_of_an_array_has_the_task_of_its_index() -> None:
    assert (RECORD.job_of(0), RECORD.job_of(1)) == ("12_0", "12_1")
    assert SubmissionRecord("t", "s", job_id="12", sets=((0, 1),)).job_of(0) == "12"
    assert SubmissionRecord("t", "s", sets=((0, 1), (1, 1))).job_of(1) == ""


def test_what_is_learnt_later_is_added(store: Store) -> None:
    store.submissions.write(RECORD)
    store.submissions.record_job("tok", "13")
    found = store.submissions.get("tok")
    assert found is not None
    assert (found.job_id, found.settled) == ("13", False)


def test_a_settled_one_is_open_no_more_but_can_be_looked_up(store: Store) -> None:
    store.submissions.write(RECORD)
    store.submissions.settle("tok")
    assert store.submissions.open() == []
    assert store.submissions.get("tok") == replace(RECORD, settled=True)
    assert 0 < store.client.ttl(store.keys.submission("tok")) <= 7 * 86400


def test_garbage_names_no_set_and_hides_no_other(store: Store) -> None:
    store.submissions.write(RECORD)
    client, keys = store.client, store.keys
    client.zadd(keys.submissions, {b"\xff\xfe": 1, "text": 2, "noise": 3})
    client.set(keys.submission("text"), "x")
    client.hset(
        keys.submission("noise"),
        mapping={"size": "40000000", "limit": "-4", "created_at": "nan", "set:0": "a/b", "job_id": b"\xff"},
    )
    *others, last = store.submissions.open()
    assert RECORD in [*others, last]
    noise = store.submissions.get("noise")
    assert noise is not None
    assert noise.sets[0] == (-1, -1)
    assert (noise.limit, noise.created_at) == (0, 0.0)

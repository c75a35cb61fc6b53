"""A launcher in a Slurm job: of two jobs of a submission one wins, of a requeued job the newest start (rulings 17-19)."""

from __future__ import annotations

import pytest
from support.records import NODE, current, launched, me, requested, worker

from gutscore_rs.store import Store
from gutscore_rs.store.records import SlurmJob, State
from gutscore_rs.store.resource_sets import Attachment

TOKEN = "gsrs-aa-bb"


def attach(store: Store, job: SlurmJob, node: str = NODE, nonce: str = "n", token: str = TOKEN) -> Attachment | str:
    return store.sets.attach(0, generation=1, token=token, node=node, nonce=nonce, identity=me(node), job=job)


def owner(job: SlurmJob, nonce: str = "n") -> str:
    return f"{TOKEN}.{job.name}r{job.restarts}:{nonce}:"


def test_the_first_launcher_names_the_launch_after_its_job(store: Store) -> None:
    launched(store, token=TOKEN)
    got = attach(store, SlurmJob("12_3"))
    assert isinstance(got, Attachment)
    assert (got.record.token, got.record.slurm_job) == (f"{TOKEN}.12_3r0", "12_3")
    assert got.record.state is State.STARTING


def test_launchers_on_other_nodes_of_the_job_join(store: Store) -> None:
    launched(store, token=TOKEN)
    assert isinstance(attach(store, SlurmJob("12"), "n1"), Attachment)
    assert isinstance(attach(store, SlurmJob("12"), "n2"), Attachment)
    assert {one.node for one in store.sets.launchers(0)} == {"n1", "n2"}
    assert isinstance(attach(store, SlurmJob("12"), "n2", nonce="other"), str)


def test_a_second_job_of_the_same_submission_must_go(store: Store) -> None:
    launched(store, token=TOKEN)
    assert isinstance(attach(store, SlurmJob("12")), Attachment)
    assert "another job of the same submission" in str(attach(store, SlurmJob("13"), "n2"))
    # Not a job whose number begins like the other's.
    assert "another job of the same submission" in str(attach(store, SlurmJob("1"), "n2"))


@pytest.mark.parametrize("token", ["gsrs-aa-cc", "gsrs-aa", f"{TOKEN}-"])
def test_a_job_of_an_older_submission_must_go(store: Store, token: str) -> None:
    launched(store, token=TOKEN)
    assert isinstance(attach(store, SlurmJob("12")), Attachment)
    assert isinstance(attach(store, SlurmJob("12"), "n2", token=token), str)


def test_a_launcher_that_lost_the_reply_attaches_again(store: Store) -> None:
    launched(store, token=TOKEN)
    assert isinstance(attach(store, SlurmJob("12")), Attachment)
    assert isinstance(attach(store, SlurmJob("12")), Attachment)


def test_a_requeued_job_fences_its_former_start_and_ends_its_leases(store: Store) -> None:
    launched(store, token=TOKEN)
    first, second = SlurmJob("12"), SlurmJob("12", restarts=1)
    attach(store, first, "n1")
    store.workers.register(0, 1, "n1", owner(first), [worker(0, node="n1"), worker(1, node="n1")])
    assert store.workers.count(0) == 2
    assert isinstance(attach(store, second, "n2"), Attachment)
    assert store.workers.count(0) == 0
    assert [one.node for one in store.sets.launchers(0)] == ["n2"]
    assert store.workers.beat(0, 1, "n1", owner(first), [worker(0, node="n1").member])[0] == "fenced"
    assert store.workers.register(0, 1, "n1", owner(first), [worker(2, node="n1")]) == "fenced"
    assert store.workers.count(0) == 0
    assert current(store).state is State.STARTING
    assert "requeued" in store.history.events()[-1].fields["why"]


def test_a_start_that_was_overtaken_by_a_later_one_must_go(store: Store) -> None:
    launched(store, token=TOKEN)
    assert isinstance(attach(store, SlurmJob("12", restarts=2)), Attachment)
    assert "start number 2" in str(attach(store, SlurmJob("12", restarts=1), "n2"))
    assert "start number 2" in str(attach(store, SlurmJob("12"), "n2"))


def test_the_deadline_is_the_end_of_the_job(store: Store) -> None:
    launched(store, token=TOKEN)
    end = store.time() + 1000
    attach(store, SlurmJob("12", end=end), "n1")
    assert current(store).deadline == pytest.approx(end, abs=1e-5)
    attach(store, SlurmJob("12", end=end + 50), "n2")
    assert current(store).deadline == pytest.approx(end, abs=1e-5)


def test_the_deadline_moves_with_a_requeued_job(store: Store) -> None:
    launched(store, token=TOKEN)
    attach(store, SlurmJob("12", end=store.time() + 10))
    later = store.time() + 2000
    attach(store, SlurmJob("12", restarts=1, end=later))
    assert current(store).deadline == pytest.approx(later, abs=1e-5)


def test_without_slurms_word_the_runtime_begins_at_the_attach(store: Store) -> None:
    launched(store, token=TOKEN, runtime=60)
    attach(store, SlurmJob("12"))
    assert current(store).deadline == pytest.approx(store.time() + 60, abs=2)


def test_a_set_that_waits_to_be_submitted_again_takes_no_late_job(store: Store) -> None:
    launched(store, token=TOKEN)
    store.sets.transition(current(store), State.REQUESTED, "given up", token="")
    assert "requested" in str(attach(store, SlurmJob("12")))
    store.sets.transition(current(store), State.SUBMITTING, "again", token="gsrs-aa-zz")
    assert "newer launch" in str(attach(store, SlurmJob("12")))


def test_a_launch_without_a_job_is_none_of_a_job(store: Store) -> None:
    requested(store)
    store.sets.transition(current(store), State.SUBMITTING, "x", token=TOKEN)
    assert isinstance(attach(store, SlurmJob("12")), Attachment)
    got = store.sets.attach(0, generation=1, token=TOKEN, node="n3", nonce="n", identity=me("n3"))
    assert "newer launch" in str(got)

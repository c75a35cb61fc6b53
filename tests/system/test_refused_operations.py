"""Garbage and forgeries on the queue of operations: refused, logged, and never carried out."""

from __future__ import annotations

import os
import pickle
import signal
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rq import Callback, Queue
from rq.job import Job, JobStatus
from support import jobs
from support.cases import LiveCase
from support.waiting import holds_for, wait_until

from gutscore_rs.access import Access
from gutscore_rs.identity import is_alive
from gutscore_rs.operations.doorbell import CARRY_OUT, MsgpackSerializer
from gutscore_rs.operations.envelope import Operation, seal
from gutscore_rs.store import operations_queue
from gutscore_rs.store.records import State, pack


def queue_of(case: LiveCase) -> Queue:
    return Queue(operations_queue(case.name, case.host), connection=case.store.client, serializer=MsgpackSerializer)


def release_of(live: LiveCase, job_id: str, **changes: Any) -> Operation:
    """An operation on set 0 that would be carried out if nothing were wrong with it."""
    record, now = live.store.sets.get(0), live.store.time()
    assert record is not None
    operation = Operation(
        kind="release",
        case=live.name,
        queue=queue_of(live).name,
        job_id=job_id,
        wgroup_id=0,
        generation=record.generation,
        version=record.version,
        issued=now,
        expires=now + 60,
    )
    return replace(operation, **changes)


def send(case: LiveCase, sealed: bytes, job_id: str, **options: Any) -> Job:
    return queue_of(case).enqueue_call(CARRY_OUT, args=(sealed,), job_id=job_id, **options)


def refused(case: LiveCase, job: Job) -> str:
    """Why a job was refused, once it was."""
    wait_until(lambda: job.get_status() is JobStatus.FAILED, 5, what=f"job {job.id} is refused")
    result = job.latest_result()
    assert result is not None
    text = str(result.exc_string)
    assert text in case.log_text("provisioner")
    return text


def still_serves(case: LiveCase, wgroup_id: int = 7) -> None:
    (provisioner,) = case.provisioners
    assert is_alive(provisioner)
    case.request(wgroup_id, nworkers=1)
    case.operations.release(wgroup_id, timeout=20)


def test_envelopes_that_are_not_ours_to_carry_out_are_refused_one_and_all(case: LiveCase) -> None:
    case.request(nworkers=1)
    stranger, other_case = Access.new(case.name, url=case.server.url), Access.new("other", url=case.server.url)
    good, key = case.access, case.access.signing_key
    forgeries: dict[str, tuple[Callable[[str], bytes], str]] = {
        "random": (lambda _: os.urandom(300), "carries no operation of ours"),
        "empty": (lambda _: b"", "carries no operation of ours"),
        "huge": (lambda _: b"GS1" + bytes(200_000), "no operation of"),
        "unsigned": (lambda j: (s := seal(release_of(case, j), good))[:19] + bytes(32) + s[51:], "not signed with"),
        "changed": (lambda j: seal(release_of(case, j), good)[:-1] + b"\x00", "not signed with the key"),
        "wrong-key": (lambda j: seal(release_of(case, j), replace(stranger, key_id=good.key_id)), "not signed with"),
        "other-case": (
            lambda j: seal(release_of(case, j, case="other"), replace(other_case, signing_key=key, key_id=good.key_id)),
            "signed for case 'other'",
        ),
        "other-queue": (lambda j: seal(release_of(case, j, queue="test:ops:elsewhere"), good), "signed for queue"),
        "other-job": (lambda _: seal(release_of(case, "another-job"), good), "signed for job 'another-job'"),
        "expired": (lambda j: seal(release_of(case, j, expires=case.store.time() - 5), good), "expired 5 s ago"),
        "unknown": (lambda j: seal(release_of(case, j, kind="os.system"), good), "unknown operation 'os.system'"),
    }
    for job_id, (make, why) in forgeries.items():
        assert why in refused(case, send(case, make(job_id), job_id)), job_id
    assert case.state_of() is State.ACTIVE
    still_serves(case)


def test_a_nonce_works_for_one_job_only(case: LiveCase) -> None:
    case.request(nworkers=1)
    first = release_of(case, "first", version=999)
    done = send(case, seal(first, case.access), "first")
    wait_until(lambda: done.get_status() is JobStatus.FINISHED, 5, what="the first is carried out")
    assert "the set has changed since" in str(done.return_value())
    replayed = send(case, seal(replace(first, job_id="second"), case.access), "second")
    assert "was seen before under another job id" in refused(case, replayed)


def test_pickles_and_callbacks_of_forged_jobs_are_never_run(
    case: LiveCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Even a provisioner that could import them does not.
    monkeypatch.setenv("PYTHONPATH", f"{Path(jobs.__file__).parent.parent}:{os.environ.get('PYTHONPATH', '')}")
    proof = tmp_path / "proof"
    monkeypatch.setenv("GUTSCORE_TEST_PROOF", str(proof))
    case.kill_provisioners()
    case.provisioners.clear()
    case.start_provisioner()
    pickled = Queue(queue_of(case).name, connection=case.store.client)
    plain = pickled.enqueue(
        os.system,
        f"touch {proof}",
        on_failure=Callback(jobs.leave_proof),
        on_success=Callback(jobs.leave_proof),
        retry=None,
    )
    assert "is no operation of gutscore_rs" in refused(case, plain)
    meta = pickled.enqueue_call(CARRY_OUT, args=(b"x",), meta={"trap": Trap(str(proof))}, job_id="meta")
    assert "is no operation" in refused(case, meta)
    named = queue_of(case).enqueue_call("os.system", args=(f"touch {proof}",), job_id="named")
    assert "is no operation" in refused(case, named)
    nested = send(case, b"nothing", "nested", on_failure=Callback("support.jobs.leave_proof"), depends_on=None)
    assert "carries no operation" in refused(case, nested)
    assert not proof.exists()
    still_serves(case)
    assert not proof.exists()


class Trap:
    """Pickled, it runs a command when somebody reads it."""

    def __init__(self, file: str) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.file}",)


def test_raw_garbage_on_the_queue_is_survived(case: LiveCase) -> None:
    client, queue = case.store.client, queue_of(case)
    hashes: dict[bytes, dict[str, bytes | str]] = {
        b"\xff\xfe not text \x00": {"status": "queued", "data": b"\xff\x00"},
        b"with space": {"status": "queued", "data": b""},
        b"nothing-but-status": {"status": "queued"},
        b"bomb": {"status": "queued", "data": zlib.compress(bytes(100_000_000))},
        b"timeout": {"status": "queued", "data": b"x", "timeout": "soon"},
        b"endless": {"status": "queued", "data": b"x", "timeout": "inf"},
        b"nan": {"status": "queued", "data": b"x", "timeout": "nan"},
        b"pickle": {"status": "queued", "data": pickle.dumps(("os.system", None, ["true"], {}))},
        b"finished": {"status": "finished", "data": b"x"},
    }
    for job_id, fields in hashes.items():
        client.hset(b"rq:job:" + job_id, mapping=fields)
    client.set("rq:job:a-string", b"no hash at all")
    client.rpush(queue.key, *hashes, b"missing", b"", b"a-string", os.urandom(40))
    wait_until(lambda: client.llen(queue.key) == 0, 10, what="the queue is empty")
    still_serves(case)


def test_a_queue_of_another_type_is_logged_now_and_then_and_harms_nothing_else(case: LiveCase) -> None:
    case.request(0, nworkers=1)
    client, key = case.store.client, queue_of(case).key
    case.kill_provisioners()
    case.provisioners.clear()
    client.delete(key)
    client.set(key, b"garbage")
    case.start_provisioner()
    os.kill(case.launcher().pid, signal.SIGKILL)
    wait_until(lambda: case.state_of() is State.REQUESTED, 10, what="the periodic work goes on")
    began = case.log_text("provisioner").count("WRONGTYPE")
    assert began
    holds_for(
        lambda: case.log_text("provisioner").count("WRONGTYPE") < began + 12, 2.0, what="it is not logged in a loop"
    )
    client.delete(key)
    case.wait_active(0, 1)
    still_serves(case)


@pytest.mark.parametrize("change", ["env", "path", "nworkers"])
def test_a_description_that_somebody_without_the_key_has_changed_starts_nothing(case: LiveCase, change: str) -> None:
    os.kill(case.provisioners[0].pid, signal.SIGSTOP)
    record = case.request(nworkers=1, wait=False)
    key = case.store.keys.resource_set(0)
    if change == "nworkers":
        case.store.client.hset(key, "nworkers", 50)
    else:
        evil = {"env": {"PYTHONSTARTUP": "x"}, "path": ["/elsewhere"]}
        case.store.client.hset(key, "spec", pack(record.spec | {change: evil[change]}))
    os.kill(case.provisioners[0].pid, signal.SIGCONT)
    wait_until(lambda: case.state_of() is State.FAILED, 15, what="the set is refused")
    assert "is not signed with the key of case 'test'" in case.error_of(0)
    assert not case.store.sets.launchers(0)
    still_serves(case)


def test_a_description_that_is_changed_before_a_relaunch_starts_nothing(case: LiveCase) -> None:
    record = case.request(nworkers=1)
    spec = pack(record.spec | {"env": {"PYTHONSTARTUP": "x"}})
    case.store.client.hset(case.store.keys.resource_set(0), "spec", spec)
    os.kill(case.launcher().pid, signal.SIGKILL)
    wait_until(lambda: case.state_of() is State.FAILED, 15, what="the second launch is refused")
    assert case.store.workers.count(0) == 0

"""The data model in the docstring is the truth: exactly these keys, under the case's tag, and all with an end."""

from __future__ import annotations

import inspect
import re

from rq import Queue
from support import jobs as tasks
from support.records import NODE, current, expire, registered, worker

from gutscore_rs.access import Access
from gutscore_rs.operations.doorbell import ring
from gutscore_rs.store import CallRecord, CaseKeys, Store, keys, operations_queue, task_queue
from gutscore_rs.store.jobs import rq_time
from gutscore_rs.store.records import ProvisionerRecord, State
from gutscore_rs.store.submissions import SubmissionRecord
from gutscore_rs.store.workers import Departure

# These live as long as their case: an index that is trimmed, streams that are capped, leases that the next beat tidies
# up, and RQ's own indices of queues and jobs, which RQ cleans by score.
ENDLESS = {":resource_sets", ":lost", ":events", ":provisioners", ":provisioner_info"}
ARGUMENTS = {"lease": "name", "nonce": "nonce", "submission": "token"}
RQ_ENDLESS = re.compile(r"rq:(queues|finished:.*|failed:.*|wip:.*)")


def documented() -> dict[str, str]:
    """Suffix -> type, as the table of the module's docstring has them."""
    assert keys.__doc__
    return dict(re.findall(r"^``(:[^`]+)``\s+(ZSET|HASH|STRING|STREAM)", keys.__doc__, re.MULTILINE))


def made(case: CaseKeys) -> dict[str, str]:
    """Suffix -> method's name, of every key that CaseKeys makes."""
    found = {}
    for name, value in inspect.getmembers(CaseKeys):
        if name.startswith("_") or name in ("case", "root"):
            continue
        if isinstance(value, property):
            key = getattr(case, name)
        else:
            [parameter] = list(inspect.signature(value).parameters)[1:]
            key = getattr(case, name)(
                {"wgroup_id": "<id>", "duty": "<name>", "executor_id": "<id>"}.get(parameter, f"<{parameter}>")
            )
        found[key.removeprefix(case.root)] = name
    return found


def suffix(key: str, case: CaseKeys) -> str:
    short = key.removeprefix(case.root)
    short = re.sub(r"^:(resource_set|tombstone|executor):\w+", r":\1:<id>", short)
    return re.sub(r"^:(lease|nonce|submission):.*", lambda match: f":{match[1]}:<{ARGUMENTS[match[1]]}>", short)


def test_the_docstring_names_exactly_the_keys_that_are_made() -> None:
    assert set(documented()) == set(made(CaseKeys("c")))


def test_every_key_holds_the_hash_tag_of_its_case() -> None:
    case = CaseKeys("my-case")
    assert case.root == "gutscore:{my-case}"
    assert all(key.startswith(":") for key in made(case))


def test_no_two_keys_of_any_sets_and_cases_are_the_same() -> None:
    one, other = CaseKeys("a"), CaseKeys("a1")
    all_keys = [
        make(n)
        for case in (one, other)
        for n in (1, 11, 111)
        for make in (case.resource_set, case.live, case.workers, case.states, case.launchers, case.lock, case.tombstone)
    ]
    assert len(set(all_keys)) == len(all_keys)


def test_queues_of_operations_and_of_tasks_cannot_meet() -> None:
    assert operations_queue("c", "host") == "c:ops:host"
    assert task_queue("c", "tasks") == "c:tasks"
    assert operations_queue("a", "h") != operations_queue("b", "h")


def a_whole_life(store: Store) -> None:
    """A set that is requested, launched, works, loses workers, fails at one job, and is released."""
    access = Access.new(store.case, socket="/s")
    store.provisioners.beat(ProvisionerRecord("p", NODE, 1, (NODE,), 1.0, "1"))
    queue = Queue(task_queue(store.case, "tasks"), connection=store.client)
    for number in range(3):
        queue.enqueue(tasks.square, number)
    workers = registered(store, 4, nworkers=4, queues=[queue.name])
    store.jobs.register_workers({one.rq_name: {"birth": rq_time()} for one in workers}, [queue.name])
    store.workers.set_states(0, {workers[0].member: "stopped"})
    names = [one.rq_name for one in workers]
    claims = [claim for name in names[:3] if (claim := store.jobs.claim([queue.name], name))]
    assert store.jobs.claim([queue.name], names[3]) is None
    store.jobs.put_back(claims[2].job_id, claims[2].execution, queue.name, names[2])
    again = store.jobs.claim([queue.name], "a worker that RQ never knew")
    assert again is not None
    for claim in (claims[0], again):
        assert store.jobs.finish(claim, result=b"", result_ttl=500, worked=0.1) == "ok"
    assert store.jobs.fail(claims[1], text="x", ttl=500) == "ok"
    store.workers.leave(0, [Departure(workers[1].member, NODE, 1, "killed")])
    assert store.provisioners.lock(0, "me", 30.0)
    assert store.provisioners.burn("n", "job", 60.0)
    assert store.provisioners.take_duty("reaper", "me", 30.0)
    store.submissions.write(SubmissionRecord("s", "slurm-x", sets=((0, 1),)))
    store.submissions.write(SubmissionRecord("t", "slurm-x", sets=((0, 1),)))
    store.submissions.settle("t")
    calls = store.calls.submission("e", 1, queue.name, [CallRecord("x-1", b"sealed")])
    calls.finish(store.calls.open_line())
    assert store.calls.cancel(queue.name, ["x-1"]) == [True]
    store.calls.nudge("e")
    operation = ring(store, access, "release", current(store))
    claim = store.jobs.claim([operations_queue(store.case, NODE)], "provisioner")
    assert claim is not None
    assert claim.job_id == operation
    store.sets.transition(current(store), State.RELEASING, "x")
    store.jobs.finish(claim, result=b"", result_ttl=500, worked=0.1)
    # Two workers and the launcher are lost with their host and nobody tidies up after them.
    store.jobs.unregister_workers(names, [queue.name])
    expire(store, [one.member for one in workers[2:]])
    store.sets.transition(current(store), State.RELEASED, "x")


def test_after_a_whole_life_every_key_has_an_end_but_those_that_are_named(store: Store) -> None:
    a_whole_life(store)
    of_case = [key.decode() for key in store.client.keys("*")]
    types = {"zset": "ZSET", "hash": "HASH", "string": "STRING", "stream": "STREAM"}
    endless = []
    for key in of_case:
        if key.startswith("gutscore:"):
            short = suffix(key, store.keys)
            assert types[store.client.type(key).decode()] == documented()[short], key
            named = short in ENDLESS
        else:
            named = RQ_ENDLESS.fullmatch(key) is not None
        if store.client.ttl(key) == -1 and not named:
            endless.append(key)
    assert endless == []


def test_every_kind_of_key_was_met(store: Store) -> None:
    a_whole_life(store)
    met = {suffix(key.decode(), store.keys) for key in store.client.keys("gutscore:*")}
    assert set(documented()) - met == {":tombstone:<id>"}


def test_every_documented_field_of_a_set_is_written_and_every_written_one_is_documented(store: Store) -> None:
    a_whole_life(store)
    assert keys.__doc__
    text = keys.__doc__[keys.__doc__.index("Fields of") : keys.__doc__.index("A worker *member*")]
    named = set(re.findall(r"``(\w+)``", text)) - {"local", "slurm"}
    written = {field.decode() for field in store.client.hgetall(store.keys.resource_set(0))}
    assert written <= named
    assert named - written <= {
        "cluster",
        "next_try_at",
        "path",
        "slurm_job",
        "slurm_restarts",
        "slurm_task",
        "missing_since",
    }


def test_a_worker_member_is_what_the_docstring_says() -> None:
    assert re.fullmatch(r"[^/]+/\d+/\d+/\d+/\d+/[0-9a-f]{8}/[0-9a-f]{8}", worker(3).member)

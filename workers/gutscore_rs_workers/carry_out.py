"""Carrying out one operation, in a process of its own: a slow one never holds up the others."""

from __future__ import annotations

import logging
from collections.abc import Callable

from gutscore_rs.errors import GutscoreError, OperationRefusedError
from gutscore_rs.identity import this_process
from gutscore_rs.operations.doorbell import FAILURE_TTL, RESULT_TTL, MsgpackSerializer, sealed_operation
from gutscore_rs.operations.envelope import Operation, unseal
from gutscore_rs.store import Claim, Store
from gutscore_rs.store.provisioners import lock_owner
from gutscore_rs.store.records import ResourceSetRecord
from gutscore_rs_workers import local_backend
from gutscore_rs_workers.reconcile import reconcile_set
from gutscore_rs_workers.site import Site
from gutscore_rs_workers.slurm import release as slurm_release
from gutscore_rs_workers.slurm import steps, submit

log = logging.getLogger(__name__)

# The lock of a set outlives the longest silence of an operation; a dead one's ends by itself.
LOCK_SECONDS = 30.0

# The third argument renews the lock of the set: an action calls it after each long step.
Action = Callable[[Site, ResourceSetRecord, Callable[[], object]], str]

# The only operations that there are: a name from Redis is looked up here and nowhere else.
ACTIONS: dict[tuple[str, str], Action] = {
    ("local", "request"): lambda site, record, _renew: local_backend.start(site, record),
    ("local", "release"): local_backend.release,
    ("slurm", "request"): lambda site, record, _renew: submit.start(site, record),
    ("slurm", "release"): slurm_release.release,
}


def _action(site: Site, record: ResourceSetRecord, kind: str) -> Action | None:
    """What carries out an operation; None: nothing does, or not from here."""
    allocation = site.allocation
    if record.type == "slurm" and allocation is not None and record.server == allocation.server:
        steps_of: dict[str, Action] = {
            "request": lambda site, record, _renew: steps.start(site, allocation, record),
            "release": steps.release,
        }
        return steps_of.get(kind)
    if record.type == "slurm" and record.server not in site.clusters:
        return None
    return ACTIONS.get((record.type, kind))


def admit(store: Store, site: Site, claim: Claim) -> Operation:
    """Check the operation that a job carries, and burn its nonce.

    Raises:
        OperationRefusedError: It is not to be carried out; the message says why.
    """
    sealed = sealed_operation(claim.fields.get(b"data", b""), claim.job_id)
    now = store.time()
    operation = unseal(sealed, site.access, job_id=claim.job_id, queue=claim.queue, now=now)
    if not store.provisioners.burn(operation.nonce, claim.job_id, operation.expires - now):
        raise OperationRefusedError(
            f"The operation in job {claim.job_id} was seen before under another job id; it is refused."
        )
    return operation


def carry_out(site: Site, operation: Operation) -> str:
    """Do what the operation says, alone on its set.

    Returns:
        What happened, for the job's result.

    Raises:
        GutscoreError: It failed; the set's hash says so too, and reconcile tries again what can be.
    """
    store, owner = site.store, lock_owner(this_process(site.host))
    record = store.sets.get(operation.wgroup_id)
    if record is None or (record.generation, record.version) != (operation.generation, operation.version):
        return f"{operation.kind}: the set has changed since; nothing to do"
    if operation.kind == "reconcile":
        # No lock: it rings for what is to be done, and leaves alone what is being done.
        return reconcile_set(site, record)
    action = _action(site, record, operation.kind)
    if action is None:
        raise OperationRefusedError(f"{operation.kind} of {record.type} sets is not carried out by this provisioner.")
    if not store.provisioners.lock(record.wgroup_id, owner, LOCK_SECONDS):
        return f"{operation.kind}: another operation works on the set; reconcile will come back to it"
    try:
        return action(site, record, lambda: store.provisioners.lock(record.wgroup_id, owner, LOCK_SECONDS))
    finally:
        store.provisioners.unlock(record.wgroup_id, owner)


def run_claim(site: Site, claim: Claim) -> int:
    """Admit, carry out, book: the whole life of one operation job. The exit code of its process."""
    try:
        operation = admit(site.store, site, claim)
        outcome = carry_out(site, operation)
    except OperationRefusedError as error:
        log.error("%s", error)  # noqa: TRY400 - a refusal is no accident
        site.store.jobs.fail(claim, text=str(error), ttl=FAILURE_TTL)
        return 0
    except GutscoreError as error:
        log.exception("operation %s failed", claim.job_id)
        site.store.jobs.fail(claim, text=str(error), ttl=FAILURE_TTL)
        return 1
    log.info("%s: %s", claim.job_id, outcome)
    site.store.jobs.finish(claim, result=MsgpackSerializer.dumps(outcome), result_ttl=RESULT_TTL, worked=0.0)
    return 0

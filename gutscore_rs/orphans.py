"""Slurm jobs of ours that no resource set knows: what a crash or a lost Redis left in a queue."""

from __future__ import annotations

from collections.abc import Iterable

from gutscore_rs.access import read_access
from gutscore_rs.case import Case
from gutscore_rs.errors import AccessError
from gutscore_rs.paths import StateFolder
from gutscore_rs.slurm import JobView, SlurmClient
from gutscore_rs.slurm.tokens import PREFIX, job_prefix
from gutscore_rs.store.records import OPEN


def orphans_of(case: Case, client: SlurmClient) -> list[JobView]:
    """Jobs that carry the case's name and belong to none of its sets.

    Raises:
        SlurmError: Slurm does not answer, or is not here.
    """
    prefix = job_prefix(case.name, case.access.key_id)
    known = {record.token.partition(".")[0] for record in case.store.sets.readable()[0] if record.state in OPEN}
    return [view for view in _ours(client) if view.name.startswith(prefix) and view.name not in known]


def strangers(state: StateFolder, client: SlurmClient) -> list[JobView]:
    """Jobs of ours whose case is not known in this state folder: it was taken down, or is another state folder's.

    Raises:
        SlurmError: Slurm does not answer, or is not here.
    """
    prefixes = tuple(_prefixes(state))
    return [view for view in _ours(client) if not view.name.startswith(prefixes)]


def _prefixes(state: StateFolder) -> Iterable[str]:
    for name in state.case_names():
        try:
            access = read_access(state.case(name).access_file)
        except AccessError:
            continue
        yield job_prefix(access.case, access.key_id)


def _ours(client: SlurmClient) -> list[JobView]:
    return [view for view in client.queue() if view.name.startswith(PREFIX) and not view.is_gone]

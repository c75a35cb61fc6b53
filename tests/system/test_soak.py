"""Sets come and go, workers are killed, jobs run: nothing grows. One minute; ``--soak-minutes 15`` for the long one."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
from support.cases import LiveCase
from support.ledger import Ledger, check_accounts
from support.soak import COMING_AND_GOING, JOBS_PER_SECOND, STAYING, Soak
from support.waiting import wait_until

# The first third of the time is warm-up.
WARM_UP = 1 / 3
# By how much a column may rise after that: MB, descriptors, keys, kB of logs per minute. Left out are keys that
# end by themselves, and later than this test: of operations (an hour), burnt nonces (ten minutes), dead workers (eight);
# and what jobs started: it lives as long as its worker, and one worker is spared.
ALLOWED = {
    r"server (rss|pss|uss|used)": 4.0,
    r".* rss": 1.0,
    # Pages that are shared are divided by those who share them just then, and become one's own once they are written: with
    # its fork server a provisioner shares most at its start. All that they can become is in rss, which stays.
    r".* (pss|uss)": 10.0,
    r".* fds": 3,
    r"processes without helpers": 6,
    r"keys (jobs|registries|sets|other)": 150,
    r"entries of queues and registries": 150,
}
LOGS_PER_MINUTE = {"log provisioner": 60, "log launcher": 30}


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_nothing_grows_while_sets_come_and_go_and_workers_die(
    case: LiveCase, tmp_path: Path, soak_minutes: float
) -> None:
    case.start_provisioner()
    soak = Soak(case, Ledger(tmp_path / "runs", keep=10), random.Random(20261124))
    soak.run(soak_minutes * 60)
    wait_until(soak.ledger.collect, 60, what="every job ended", interval=0.5)
    table = tmp_path / "soak.tsv"
    table.write_text(soak.table.text())
    print(f"{soak.table.text()}\n{len(soak.ledger.kinds)} jobs, {soak.requests} requests, {soak.killed} workers killed")
    lost = {int(event.fields["pid"]) for event in case.store.history.lost(10_000)}
    check_accounts(soak.ledger, soak.queues, lost | soak.ended_by_release)
    assert len(soak.ledger.kinds) > 0.9 * soak_minutes * 60 * JOBS_PER_SECOND
    assert too_much(soak, soak_minutes) == []
    for wgroup_id in (STAYING, *COMING_AND_GOING):
        case.operations.release(wgroup_id, timeout=30)


def too_much(soak: Soak, minutes: float) -> list[str]:
    """What grew by more than is allowed, with the figures."""
    found = []
    for name in soak.table.rows[-1]:
        limit = next((limit for pattern, limit in ALLOWED.items() if re.fullmatch(pattern, name)), None)
        if limit is None and name in LOGS_PER_MINUTE:
            limit = LOGS_PER_MINUTE[name] * minutes
        if limit is not None:
            growth = soak.table.growth(name, warm_up=WARM_UP)
            print(f"{name}: {growth:+.2f} of {limit:g}")
            if growth > limit:
                found.append(f"{name} grew by {growth:.2f}, allowed is {limit:g}")
    return found

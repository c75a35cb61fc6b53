"""Tasks that say how long they take are begun only where they fit."""

from __future__ import annotations

from rq.job import JobStatus
from support import jobs
from support.cases import LiveCase
from support.waiting import holds_for, wait_until


def test_a_task_that_does_not_fit_waits_for_a_set_that_lives_longer(case: LiveCase) -> None:
    case.request(0, nworkers=1, runtime=60)
    long = case.tasks.enqueue(jobs.square, 3, time_request=300)
    short = case.tasks.enqueue(jobs.square, 4, time_request=20)
    wait_until(lambda: short.get_status() is JobStatus.FINISHED, 15, what="the short one is done, though behind")
    holds_for(lambda: long.get_status() is JobStatus.QUEUED, 2.0, what="the long one waits", interval=0.2)
    case.request(1, nworkers=1, runtime=600)
    wait_until(lambda: long.get_status() is JobStatus.FINISHED, 15, what="the long one is done by the other set")
    assert long.return_value() == 9

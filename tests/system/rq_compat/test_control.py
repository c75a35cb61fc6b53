"""What users tell workers: stop, end, pause; and what workers tell users."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from rq import Callback
from rq.command import send_shutdown_command, send_stop_job_command
from rq.cron import CronScheduler
from rq.group import Group
from rq.job import JobStatus
from rq.rate_limit import RateLimit
from rq.suspension import resume, suspend
from rq.webhook import Webhook
from support import jobs
from support import rq_workers as tasks
from support.rq_workers import OURS, STOCK, RqSite
from support.waiting import holds_for, wait_until


def begun(mark: Path) -> bool:
    return mark.exists() and "begin" in mark.read_text()


def test_rq_knows_the_worker_while_it_lives(site: RqSite) -> None:
    with site.worker("q", "other", name="the-worker") as process:
        (worker,) = site.workers()
        assert (worker.name, worker.pid, worker.queue_names()) == ("the-worker", process.pid, ["q", "other"])
        wait_until(lambda: site.workers()[0].get_state() == "idle", what="it is idle")
        shown = subprocess.run(
            [sys.executable, "-m", "rq.cli", "info", "-u", site.server.url], capture_output=True, text=True, check=True
        ).stdout
        assert "the-worker" in shown
        assert "1 workers" in shown
    assert site.workers() == []


def test_a_busy_worker_says_so_and_counts_its_jobs(site: RqSite, tmp_path: Path) -> None:
    job = site.queue().enqueue(jobs.sleep, 1, str(tmp_path / "mark"))
    with site.worker():
        wait_until(lambda: begun(tmp_path / "mark"), what="the job runs")
        assert site.workers()[0].get_state() == "busy"
        assert site.fetch(job).get_status() is JobStatus.STARTED
        assert site.queue().started_job_registry.get_job_ids() == [job.id]
        wait_until(
            lambda: [one.job_id for one in site.workers()[0].get_current_executions()] == [job.id],
            what="its execution is on record",
        )
        wait_until(lambda: site.workers()[0].successful_job_count == 1, what="it is counted")


def test_a_warm_stop_lets_the_job_end(site: RqSite, tmp_path: Path) -> None:
    job, other = site.queue().enqueue(jobs.sleep, 1, str(tmp_path / "mark")), site.queue().enqueue(jobs.square, 2)
    with site.worker() as process:
        wait_until(lambda: begun(tmp_path / "mark"), what="the job runs")
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert site.fetch(job).get_status() is JobStatus.FINISHED
    assert site.fetch(other).get_status() is JobStatus.QUEUED
    assert site.workers() == []


def test_a_worker_that_is_told_to_ends(site: RqSite) -> None:
    with site.worker(name="told") as process:
        wait_until(lambda: site.workers()[0].get_state() == "idle", what="it is idle")
        send_shutdown_command(site.connection, "told")
        assert process.wait(20) == 0


def test_a_suspended_rq_runs_nothing_until_it_is_resumed(site: RqSite) -> None:
    if site.worker_class == STOCK:
        pytest.skip("RQ's own worker looks before it waits for a job, not when it takes one")
    with site.worker():
        suspend(site.connection)
        job = site.queue().enqueue(jobs.square, 2)
        holds_for(lambda: site.fetch(job).get_status() is JobStatus.QUEUED, 1.0, what="it waits")
        resume(site.connection)
        wait_until(lambda: site.fetch(job).get_status() is JobStatus.FINISHED, 20, what="it runs")


def test_a_job_that_is_stopped_is_stopped_and_the_next_one_runs(site: RqSite, tmp_path: Path) -> None:
    if site.worker_class == STOCK:
        # A SimpleWorker has no process that it could kill.
        site.worker_class = "rq.worker.Worker"
    job = site.queue().enqueue(jobs.sleep, 60, str(tmp_path / "mark"), on_stopped=Callback(tasks.note))
    after = site.queue().enqueue(jobs.square, 2)
    with site.worker():
        wait_until(lambda: begun(tmp_path / "mark"), what="the job runs")
        send_stop_job_command(site.connection, job.id)
        wait_until(lambda: site.fetch(job).get_status() is JobStatus.STOPPED, 20, what="it is stopped")
        wait_until(lambda: site.fetch(after).get_status() is JobStatus.FINISHED, 20, what="the next one runs")
    assert site.connection.exists(f"noted:{job.id}")


def test_a_worker_ends_after_so_many_jobs(site: RqSite) -> None:
    made = [site.queue().enqueue(jobs.square, n) for n in range(4)]
    with site.worker(max_jobs=3) as process:
        assert process.wait(20) == 0
    assert [site.fetch(job).get_status() for job in made] == [JobStatus.FINISHED] * 3 + [JobStatus.QUEUED]


def test_a_worker_ends_when_it_is_idle_for_so_long(site: RqSite) -> None:
    with site.worker(max_idle_time=1) as process:
        assert process.wait(20) == 0


def test_scheduled_jobs_run_when_they_are_due(site: RqSite) -> None:
    job = site.queue().enqueue_in(timedelta(seconds=1), jobs.square, 3)
    with site.worker(with_scheduler=True):
        wait_until(lambda: site.fetch(job).get_status() is JobStatus.FINISHED, 20, what="it ran")


def test_no_more_jobs_of_a_kind_run_at_once_than_allowed(site: RqSite) -> None:
    limit = RateLimit(key="two", concurrency=1)
    made = [site.queue().enqueue(jobs.square, n, rate_limit=limit) for n in range(3)]
    site.burst()
    assert [site.fetch(job).return_value() for job in made] == [0, 1, 4]


def test_the_jobs_of_a_group_are_found_by_it(site: RqSite) -> None:
    queue = site.queue()
    group = Group.create(connection=site.connection)
    made = group.enqueue_many(queue, [queue.prepare_data(jobs.square, (n,)) for n in range(3)])
    site.burst()
    assert {job.id for job in group.get_jobs()} == {job.id for job in made}
    assert sorted(job.return_value() for job in group.get_jobs()) == [0, 1, 4]


def test_a_cron_job_runs(site: RqSite) -> None:
    cron = CronScheduler(connection=site.connection)
    cron.register(jobs.square, queue_name="q", args=(3,), interval=3600)
    cron.enqueue_jobs()
    site.burst()
    assert len(site.queue().finished_job_registry.get_job_ids()) == 1


def test_stock_workers_and_ours_share_a_queue(site: RqSite) -> None:
    made = [site.queue().enqueue(tasks.count, f"n{n}") for n in range(200)]
    other = RqSite(site.server, site.connection, OURS if site.worker_class == STOCK else STOCK)
    with site.worker(), other.worker():
        wait_until(lambda: site.queue().finished_job_registry.count == 200, 60, what="all ran")
        assert all(worker.successful_job_count for worker in site.workers())
    assert {site.connection.get(f"n{n}") for n in range(200)} == {b"1"}
    assert len(made) == 200


def test_webhooks_are_told_of_good_ends_and_bad_ones(site: RqSite) -> None:
    told: list[str] = []

    class Ear(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    server = HTTPServer(("127.0.0.1", 0), Ear)
    listener = threading.Thread(target=server.serve_forever)
    listener.start()
    try:
        hooks = [Webhook(f"http://127.0.0.1:{server.server_port}/{kind}", kind) for kind in ("finished", "failed")]
        site.queue().enqueue(jobs.square, 2, webhooks=hooks)
        site.queue().enqueue(jobs.fail, webhooks=hooks)
        site.burst()
    finally:
        server.shutdown()
        listener.join()
        server.server_close()
    assert [path.partition("?")[0] for path in told] == ["/finished", "/failed"]

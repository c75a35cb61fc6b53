"""A provisioner: carries out operations on resource sets for the host it runs on.

It listens on the case's queues for this host and for the Slurm clusters that the host can submit to, refuses whatever
is not signed, and carries out each operation in a process of its own, side by side. Timers do the periodic work. Any
number may run, anywhere; each may be killed at any time: what it had begun, another (or the same, started again) finds
in Redis. Launchers outlive it.

Signals: SIGTERM, SIGINT: finish what is under way (10 s), deregister, exit 0. Exit codes: 0 in order; 69 Redis could
not be reached at the start; 78 the configuration is bad.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import secrets
import selectors
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from redis.exceptions import RedisError

from gutscore_rs import __version__, embedded
from gutscore_rs.access import read_access
from gutscore_rs.errors import GutscoreError, StoreError, StoreUnavailableError
from gutscore_rs.identity import ProcessIdentity, is_alive, this_host, this_process
from gutscore_rs.log_files import LOOK_SECONDS, cap_logs
from gutscore_rs.operations.client import OperationsClient
from gutscore_rs.operations.doorbell import FAILURE_TTL
from gutscore_rs.paths import CaseFolder, StateFolder, write_private
from gutscore_rs.processes import become_subreaper
from gutscore_rs.settings import Settings
from gutscore_rs.store import Claim, Store, load_scripts, operations_queue
from gutscore_rs.store.jobs import rq_time
from gutscore_rs.store.provisioners import PROVISIONER_BEAT
from gutscore_rs.store.records import ProvisionerRecord
from gutscore_rs_workers import workergroup
from gutscore_rs_workers.carry_out import run_claim
from gutscore_rs_workers.children import fork_process
from gutscore_rs_workers.fork_server import start_fork_server
from gutscore_rs_workers.peek import QueuePeek
from gutscore_rs_workers.reconcile import Contact, Reaper, global_round, local_round
from gutscore_rs_workers.recovery import MOST_DELIVERIES, recover_lost
from gutscore_rs_workers.site import Site
from gutscore_rs_workers.slurm.clusters import SlurmOptions, find_clusters
from gutscore_rs_workers.slurm.steps import find_allocation
from gutscore_rs_workers.slurm.watch import Watch
from gutscore_rs_workers.visible import retitle
from gutscore_rs_workers.wakeup import wake_on

log = logging.getLogger(__name__)

EXIT_UNAVAILABLE, EXIT_CONFIG = 69, 78
LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s[%(process)d] %(message)s"
MOST_OPERATIONS = 8
ROUND = 0.5
GLOBAL_ROUND = 1.0
DUTY = 4.0
RQ_BEAT = 60.0
COLLECT = 60.0
# How often a host's clusters and their limits are asked for, and how often while there are none.
PROBE_AGAIN, PROBE_SOON = 600.0, 60.0
LAST_OPERATIONS = 10.0
COMPLAIN_AGAIN, MOST_COMPLAINTS = 60.0, 1000
# How long a case lives on after the `run` that owned it died (rulings 29).
ORPHAN_GRACE = 60.0


class Provisioner:
    """One provisioner process.

    Args:
        site: The case and host it serves.
        owner: The process that the case belongs to, or None.
        guard_server: Whether the embedded server is to be stopped after an owner's death.
        slurm: Which clusters it serves, and how.
    """

    def __init__(
        self,
        site: Site,
        *,
        owner: ProcessIdentity | None = None,
        guard_server: bool = False,
        slurm: SlurmOptions | None = None,
    ) -> None:
        self._site = site
        self._slurm = slurm or SlurmOptions()
        self._store = site.store
        self._owner = owner
        self._guard_server = guard_server
        self._owner_gone_since = 0.0
        self._me = ProvisionerRecord(
            f"{site.host}/{os.getpid()}/{secrets.token_hex(4)}",
            site.host,
            os.getpid(),
            (),
            time.time(),
            __version__,
        )
        self._rq_name = site.store.provisioners.rq_name(self._me.member)
        self._selector = selectors.DefaultSelector()
        self._queues: list[str] = []
        self._peeks: list[QueuePeek] = []
        self._watch = Watch(self._me.member, self._fork_look)
        self._operations: dict[int, Claim] = {}
        self._unbooked: list[Claim] = []
        self._reaper = Reaper()
        self._contact = Contact()
        timers = ("clusters", "beat", "rq", "settle", "local", "slurm", "global", "logs", "garbage", "work")
        self._next: dict[str, float] = dict.fromkeys(timers, 0.0)
        self._work_waits = True
        self._complained: dict[str, float] = {}
        self._stopping = False

    def run(self) -> int:
        """Serve until told to stop; the exit code."""
        wakeup = wake_on((signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
        self._selector.register(wakeup, selectors.EVENT_READ, None)
        allocation = self._site.allocation
        self._serve([self._site.host, *([allocation.server] if allocation else [])])
        while not self._stopping:
            for key, _ in self._selector.select(self._sleep()):
                if key.data is None:
                    self._on_signals(os.read(wakeup, 4096))
                else:
                    self._on_peek(key.data)
            self._bury_children()
            self._periodic()
            self._attempt("work", self._take_work)
        self._finish()
        return 0

    def _on_signals(self, numbers: bytes) -> None:
        if any(number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP) for number in numbers):
            self._stopping = True

    def _sleep(self) -> float:
        moments = (moment for name, moment in self._next.items() if name != "work" or self._may_take_work())
        return max(0.0, min(moments) - time.monotonic())

    def _may_take_work(self) -> bool:
        return self._work_waits and len(self._operations) < MOST_OPERATIONS

    def _attempt(self, name: str, step: Callable[[], None]) -> bool:
        """Run a step; an outage of Redis, or garbage in it, is logged and never ends a provisioner."""
        try:
            step()
        except (StoreUnavailableError, RedisError, OSError) as error:
            log.warning("%s", error)
            self._lost_contact()
            # All steps need Redis: try again together, not one after the other.
            self._postpone(*self._next)
        except GutscoreError as error:
            self._complain([str(error)])
            self._postpone(name)
        else:
            return True
        return False

    def _lost_contact(self) -> None:
        """Redis did not answer; what waits on another connection need not know that: it waits on a fresh one after."""
        self._contact.lost()
        for peek in self._peeks:
            peek.close()

    def _complain(self, complaints: list[str]) -> None:
        """Log what is wrong in Redis, once a minute each."""
        now = time.monotonic()
        for text in complaints:
            if now >= self._complained.get(text, 0.0):
                log.error("%s", text)
                self._complained[text] = now + COMPLAIN_AGAIN
        if len(self._complained) > MOST_COMPLAINTS:
            self._complained.clear()

    def _postpone(self, *names: str) -> None:
        later = time.monotonic() + ROUND
        for name in names:
            self._next[name] = max(self._next[name], later)

    # -- operations -----------------------------------------------------------------------------------------

    def _take_work(self) -> None:
        if time.monotonic() < self._next["work"]:
            return
        while self._may_take_work():
            claim = self._store.jobs.claim(self._queues, self._rq_name)
            if claim is None:
                self._work_waits = False
            else:
                self._begin(claim)
        if not self._work_waits:
            for peek in self._peeks:
                peek.arm()

    def _begin(self, claim: Claim) -> None:
        server = self._site.fork_server
        pid = fork_process(
            lambda: self._carry_out(claim),
            keep=[server.control.fileno()] if server else [],
            title=f"gutscore_rs: operation {claim.job_id}",
        )
        self._operations[pid] = claim

    def _on_peek(self, peek: QueuePeek) -> None:
        try:
            self._work_waits = peek.ready() or self._work_waits
        except (RedisError, OSError) as error:
            log.warning("lost the connection that watches the queue: %s", error)
            self._lost_contact()
            self._postpone(*self._next)

    def _carry_out(self, claim: Claim) -> int:
        # As the parent's subreaper role is not inherited, launchers started here become children of the provisioner.
        return run_claim(replace(self._site, store=Store.open(self._site.access, name="operation")), claim)

    def _bury_children(self) -> None:
        """Wait for operations, and for launchers that we inherited as their subreaper."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if self._site.fork_server is not None and pid == self._site.fork_server.pid:
                log.warning("the fork server %d was killed: launchers are started as programs from now on", pid)
                self._site.fork_server.control.close()
                self._site = replace(self._site, fork_server=None)
            if self._watch.ended(pid):
                continue
            claim = self._operations.pop(pid, None)
            if claim is None:
                # It may have been a launcher: look at once.
                self._next["local"] = 0.0
            elif os.waitstatus_to_exitcode(status) not in (0, 1):
                log.warning("the operation %s was killed, or Redis was gone: its job goes back", claim.job_id)
                self._unbooked.append(claim)

    def _settle(self) -> None:
        """Operations whose process ended without booking anything: who carries them out again finds what is left."""
        while self._unbooked:
            claim = self._unbooked[-1]
            again = self._store.jobs.put_back(
                claim.job_id, claim.execution, claim.queue, claim.worker, most_deliveries=MOST_DELIVERIES
            )
            if again == "exhausted":
                text = f"Its process was killed {MOST_DELIVERIES} times; reconcile comes back to the set."
                self._store.jobs.fail(claim, text=text, ttl=FAILURE_TTL)
            self._unbooked.pop()

    # -- periodic work --------------------------------------------------------------------------------------

    def _periodic(self) -> None:
        self._every("clusters", self._probe_again, self._find_clusters)
        self._every("beat", PROVISIONER_BEAT, self._beat)
        self._every("rq", RQ_BEAT, self._beat_rq)
        self._every("settle", ROUND, self._settle)
        self._every("local", ROUND, self._local_round)
        self._every("slurm", GLOBAL_ROUND, self._slurm_round)
        self._every("global", GLOBAL_ROUND, self._global_round)
        self._every("logs", LOOK_SECONDS, self._cap_logs)
        # RQ's objects are in cycles. By itself Python would look at them after an hour, when they are many megabytes.
        self._every("garbage", COLLECT, self._collect)

    def _every(self, name: str, seconds: float, work: Callable[[], None]) -> None:
        if time.monotonic() >= self._next[name] and self._attempt(name, work):
            self._next[name] = time.monotonic() + seconds

    def _beat(self) -> None:
        self._store.provisioners.beat(self._me)

    def _beat_rq(self) -> None:
        if self._store.jobs.beat_workers({self._rq_name: None}):
            self._store.jobs.register_workers(
                {
                    self._rq_name: {
                        "birth": rq_time(),
                        "pid": os.getpid(),
                        "hostname": self._site.host,
                        "ip_address": "unknown",
                        "version": __version__,
                        "state": "idle",
                    }
                },
                self._queues,
            )

    def _local_round(self) -> None:
        self._complain(local_round(self._site))
        self._watch_owner()

    # -- Slurm ----------------------------------------------------------------------------------------------

    def _serve(self, servers: list[str]) -> None:
        """Take orders for a host or cluster, from the next beat on."""
        for server in servers:
            queue = operations_queue(self._store.case, server)
            self._queues.append(queue)
            self._peeks.append(QueuePeek(self._store.client, self._store.rq_keys.queue(queue), self._selector))
            log.info("serving %s for case %s", server, self._store.case)
        self._me = replace(self._me, serves=(*self._me.serves, *servers))
        self._work_waits = True
        self._next["beat"] = self._next["rq"] = 0.0

    @property
    def _probe_again(self) -> float:
        return PROBE_AGAIN if self._site.clusters else PROBE_SOON

    def _find_clusters(self) -> None:
        """What this host can submit to; a cluster whose controller is down stays what it was."""
        found, problems = find_clusters(self._slurm)
        self._complain(problems)
        fresh = [server for server in found if server not in self._me.serves]
        self._site = replace(self._site, clusters={**self._site.clusters, **found})
        if fresh:
            self._serve(fresh)

    def _slurm_round(self) -> None:
        self._complain(self._watch.round(self._site))

    def _fork_look(self, run: Callable[[], int], title: str) -> int:
        return fork_process(run, title=title)

    @staticmethod
    def _collect() -> None:
        gc.collect()

    def _cap_logs(self) -> None:
        for folder in (self._site.folder.logs, self._site.folder.server_dir):
            for file in cap_logs(folder):
                log.warning("%s was full: what it held is in %s.1", file, file.name)

    def _global_round(self) -> None:
        duties = self._store.provisioners
        # Whoever has the duty: one that takes it from a lost host must not have to wait for a lease first.
        is_steady = self._contact.is_steady(self._site)
        if duties.take_duty("reaper", self._me.member, DUTY) and is_steady:
            removed = self._reaper.round(self._site)
            if removed:
                log.warning("%d workers left the registry: their leases ended", removed)
            self._complain(self._reaper.complaints)
        if duties.take_duty("reconciler", self._me.member, DUTY):
            global_round(self._site, is_steady=is_steady)

    def _watch_owner(self) -> None:
        """The `run` that owns this case died: end what is bound to it, then the embedded server and ourselves."""
        if self._owner is None or is_alive(self._owner):
            return
        self._owner_gone_since = self._owner_gone_since or time.monotonic()
        waited = time.monotonic() - self._owner_gone_since
        records = [record for record in self._store.sets.readable()[0] if not record.state.ended]
        if waited < ORPHAN_GRACE or any(record.daemonize for record in records):
            return
        client = OperationsClient(self._store, self._site.access, self._site.host)
        if records:
            for record in records:
                client.begin_release(record.wgroup_id, "the process that ran this case died")
            return
        log.warning("the process that ran this case died %.0f s ago: nothing is left to do", waited)
        self._stopping = True

    # -- the end --------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        until = time.monotonic() + LAST_OPERATIONS
        while self._operations and time.monotonic() < until:
            self._selector.select(0.1)
            self._bury_children()
        for peek in self._peeks:
            peek.close()
        for pid in self._operations:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        try:
            recover_lost(self._store, self._rq_name, reason="its provisioner was ended")
            for duty in ("reaper", "reconciler"):
                self._store.provisioners.drop_duty(duty, self._me.member)
            self._store.provisioners.leave(self._me.member)
            self._store.jobs.unregister_workers([self._rq_name], self._queues)
        except StoreError as error:
            log.warning("cannot deregister: %s", error)
        if self._owner_gone_since and self._guard_server:
            self._site.folder.access_file.unlink(missing_ok=True)
            embedded.stop(self._site.folder, self._site.host)
        log.info("ended")


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="gutscore-rs provisioner")
    parser.add_argument("--access", type=Path, required=True, help="access file of the case (mode 0600)")
    parser.add_argument("--owner", type=json.loads, default=None, help="identity of the process that owns the case")
    parser.add_argument("--guard-server", action="store_true", help="stop the embedded server after the owner's death")
    known = SlurmOptions()
    parser.add_argument("--cluster", action="append", default=[], help="a further Slurm cluster to serve (repeatable)")
    parser.add_argument("--poll-interval", type=float, default=known.poll_interval, help="seconds between squeue calls")
    parser.add_argument("--lookup-time", type=float, default=known.lookup_time, help="seconds to look for a lost job")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run a provisioner; see the module's docstring for signals and exit codes."""
    arguments = _arguments(argv)
    become_subreaper()
    load_scripts()
    # Before there is anything that a launcher must not inherit.
    fork_server = start_fork_server(workergroup.main, arguments.access)
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT, stream=sys.stderr)
    try:
        settings = Settings.from_environment()
        state = StateFolder.open(settings)
        access = read_access(arguments.access)
        folder: CaseFolder = state.case(access.case)
        folder.create()
        host = this_host(settings, state.root)
        owner = ProcessIdentity.from_dict(arguments.owner) if arguments.owner else None
        store = Store.open(access, name="provisioner", timeout=5.0, retries=1, patience=5.0)
        for warning in store.inspect().warnings:
            log.warning("%s", warning)
        retitle(f"gutscore_rs: provisioner of case {access.case} on {host}")
        record = folder.provisioners / f"{host}-{os.getpid()}.json"
        write_private(record, json.dumps(this_process(host).to_dict()).encode())
    except StoreError as error:
        log.error("%s", error)  # noqa: TRY400
        return EXIT_UNAVAILABLE
    except GutscoreError as error:
        log.error("%s", error)  # noqa: TRY400
        return EXIT_CONFIG
    try:
        site = Site(store, access, host, folder, fork_server, allocation=find_allocation())
        slurm = SlurmOptions(tuple(arguments.cluster), arguments.poll_interval, arguments.lookup_time)
        return Provisioner(site, owner=owner, guard_server=arguments.guard_server, slurm=slurm).run()
    finally:
        record.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())

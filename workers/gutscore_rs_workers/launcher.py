"""The launcher: one process per host and launch that forks workers, watches them, beats for them and ends them.

One thread, one selector: signals arrive by a wakeup descriptor, workers talk over socket pairs, queues are peeked at on
connections of their own, and everything periodic is a timer. Its life is *running, draining, stopping, killing*:

- running: workers claim jobs; the dead are replaced.
- draining: nobody claims any more; running jobs may end. Begun by an order, SIGTERM, SIGUSR1 (Slurm's early
  signal), the deadline, or the end of the requester.
- stopping: SIGTERM cuts what still runs; the jobs go back to their queues.
- killing: SIGKILL to whatever is left.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import time
from dataclasses import dataclass
from enum import IntEnum

from gutscore_rs.capacity import check_room
from gutscore_rs.errors import CapacityError, StoreError
from gutscore_rs.identity import is_alive, is_here
from gutscore_rs.log_files import LOOK_SECONDS, cap_logs
from gutscore_rs.processes import kill_children, kill_marked
from gutscore_rs.store import Store
from gutscore_rs.store.records import OPEN, State
from gutscore_rs_workers.affinity import available_cpus, available_gpus
from gutscore_rs_workers.allocation import Grant, Wish, allocate
from gutscore_rs_workers.children import Child
from gutscore_rs_workers.crew import Crew, Death
from gutscore_rs_workers.handing_on import HandingOn, Legacy
from gutscore_rs_workers.launch import Launch
from gutscore_rs_workers.lease_keeper import LeaseKeeper
from gutscore_rs_workers.peek import Lookout, QueuePeek
from gutscore_rs_workers.recovery import Remains, take_over
from gutscore_rs_workers.shared_memory import SharedMemory
from gutscore_rs_workers.wakeup import wake_on

__all__ = ["Launch", "Launcher"]

log = logging.getLogger(__name__)

TICK = 1.0
# A job that lasts longer than this is not one of those that are taken several at once.
GLANCE = 0.1
# A worker that was sent to look has begun a job by then, or is about to say that there is none.
WAKE_SECONDS = 0.005
STOP_GRACE = 3.0
# Workers that are ready wait so long for the others: one call registers them all.
PATIENCE_FOR_ALL = 0.25
# After Redis is gone for this long at the end, the launcher leaves all the same: its leases end by themselves.
SIGN_OFF_PATIENCE = 15.0


class Phase(IntEnum):
    """Where in its life a launcher is."""

    RUNNING = 0
    DRAINING = 1
    STOPPING = 2
    KILLING = 3


@dataclass(slots=True)
class Ending:
    """Why it ends, and how the set shall stand in Redis afterwards."""

    why: str = ""
    final: State | None = None
    fenced: bool = False


class Launcher:
    """Runs one launch to its end.

    Args:
        launch: What to run.
        store: A store of this process.
    """

    def __init__(self, launch: Launch, store: Store) -> None:
        self._launch = launch
        self._store = store
        self._memory = SharedMemory(launch.indices.stop)
        self._keeper = LeaseKeeper(launch, store, self._memory)
        self._crew = Crew(launch, self._memory, Grant())
        self._selector = selectors.DefaultSelector()
        self._lookout = Lookout(store.client, [store.rq_keys.queue(name) for name in launch.queues], self._selector)
        self._reachable = True
        self._phase = Phase.RUNNING
        self._phase_ends = float("inf")
        self._ending = Ending()
        self._legacies = HandingOn(launch, self._keeper.settle)
        self._restore_wanted = False
        self._children_changed = False
        self._next_look = 0.0
        self._next_cap = 0.0
        self._next_glance = 0.0
        self._look_again = 0.0
        self._drain_before = min(launch.drain_timeout, 0.1 * launch.record.runtime)

    @property
    def _drain_at(self) -> float:
        return self._keeper.deadline - self._drain_before

    def run(self) -> int:
        """Fork the workers and serve until the set ends; the exit code."""
        wakeup = wake_on((signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP))
        self._selector.register(wakeup, selectors.EVENT_READ, None)
        try:
            grant = self._allocate()
        except CapacityError as error:
            log.error("%s", error)  # noqa: TRY400 - the message says it all
            self._keeper.detach(State.FAILED, str(error))
            return 0
        self._crew = Crew(self._launch, self._memory, grant)
        log.info(
            "%s: %d workers until the deadline in %.0f s",
            self._launch.label,
            self._launch.nworkers,
            self._launch.deadline - time.monotonic(),
        )
        self._crew.start_all()
        for child in self._crew.children.values():
            self._watch(child)
        while self._crew.children or self._phase is Phase.RUNNING:
            self._turn(wakeup)
        self._finish()
        return 0

    def _allocate(self) -> Grant:
        spec, launch = self._launch.spec, self._launch
        check_room(launch.label, launch.nworkers, oversubscribe=bool(spec.get("oversubscribe")))
        wish = Wish(
            launch.label,
            cpus=int(spec.get("cpus_per_worker") or 0) * launch.nworkers,
            gpus=int(spec.get("gpus_per_worker") or 0) * launch.nworkers,
            oversubscribe=bool(spec.get("oversubscribe")),
        )
        return allocate(
            launch.state_root, launch.identity, wish, cpus=available_cpus(), gpus=available_gpus(os.environ)
        )

    # -- one turn of the loop -------------------------------------------------------------------------------

    def _turn(self, wakeup: int) -> None:
        for key, _ in self._selector.select(self._sleep()):
            if key.data is None:
                self._on_signals(os.read(wakeup, 4096))
            elif isinstance(key.data, Child):
                self._crew.read(key.data)
            elif isinstance(key.data, QueuePeek):
                self._on_peek(key.data)
        now = time.monotonic()
        if self._children_changed or now >= self._next_look:
            self._children_changed = False
            self._next_look = now + TICK
            self._reap()
            self._crew.kill_overdue()
            self._watch_requester()
            self._cap_logs(now)
        self._note_what_lasts(now)
        self._register_ready()
        self._restart()
        self._beat()
        self._check_time()
        self._legacies.advance()
        self._look_for_work()

    def _cap_logs(self, now: float) -> None:
        if now >= self._next_cap:
            self._next_cap = now + LOOK_SECONDS
            for file in cap_logs(self._launch.logs):
                log.warning("%s was full: what it held is in %s.1", file, file.name)

    def _sleep(self) -> float:
        now = time.monotonic()
        moments = [self._next_look, self._keeper.next_beat, self._phase_ends]
        if self._phase is Phase.RUNNING:
            moments.append(self._drain_at)
        if self._crew.idle() and self._lookout.again_at > now:
            moments.append(self._lookout.again_at)
        if any(child.registered and not child.idle for child in self._crew.children.values()):
            moments.append(self._next_glance)
        if self._crew.looking and self._crew.idle():
            moments.append(self._look_again)
        return max(0.0, min(moments) - now)

    def _on_signals(self, numbers: bytes) -> None:
        for number in numbers:
            if number == signal.SIGCHLD:
                self._children_changed = True
            if number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP):
                self._end_from_outside(signal.Signals(number).name)

    def _end_from_outside(self, name: str) -> None:
        """Somebody wants us gone; why, in a Slurm job, only Slurm can tell: cancelled, preempted, its time is over."""
        why = f"the launcher on {self._launch.node} got {name} from outside"
        self._end(why, State.FAILED if self._launch.place is None else None)

    def _watch(self, child: Child) -> None:
        self._selector.register(child.control, selectors.EVENT_READ, child)

    # -- workers --------------------------------------------------------------------------------------------

    def _reap(self) -> None:
        states = {pid: child.state for pid, child in self._crew.children.items()}
        for death in self._crew.reap():
            self._bury(death)
        self._legacies.reap()
        self._reap_adopted()
        changed = {
            child.member: child.state
            for pid, child in self._crew.children.items()
            if child.registered and states.get(pid, child.state) != child.state
        }
        if changed:
            self._keeper.note_states(changed)

    def _reap_adopted(self) -> None:
        """As a subreaper we inherit what tasks left behind: bury those, and only those, that ended."""
        ours = set(self._crew.children) | self._legacies.pids
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if found is None or found.si_pid in ours:
                return
            os.waitpid(found.si_pid, 0)

    def _bury(self, death: Death) -> None:
        child = death.child
        self._selector.unregister(child.control)
        child.control.close()
        reason = "" if death.in_order else death.reason
        if reason:
            log.warning("%s", reason)
        cut = self._phase >= Phase.DRAINING and child.told_to_stop
        self._keeper.farewell(child, reason)
        if death.clean:
            self._keeper.settle(child.member)
        elif child.ready and not self._ending.fenced:
            remains = Remains(death.cursor.execution, death.reason, death.ends, self._launch.queues, cut)
            self._legacies.add(Legacy(child.member, child.rq_name, remains))
        if self._crew.crashes_in_window > int(self._launch.spec.get("max_restarts", 5)):
            self._end(
                f"workers die as soon as they start: {self._crew.last_crash}; see their logs "
                f"(`gutscore-rs logs {self._launch.access.case}`)",
                State.FAILED,
            )

    def _register_ready(self) -> None:
        fresh = [child for child in self._crew.children.values() if child.ready and not child.registered]
        # Until all are ready, wait a moment for the others: one call registers them all.
        if fresh and (
            len(fresh) == len([c for c in self._crew.children.values() if not c.registered])
            or time.monotonic() - fresh[0].forked_at > PATIENCE_FOR_ALL
        ):
            self._obey(self._keeper.register(fresh))

    def _restart(self) -> None:
        if self._phase is not Phase.RUNNING:
            self._crew.forget_restarts()
            return
        for index in self._crew.due_restarts():
            self._watch(self._crew.start(index))

    def _note_what_lasts(self, now: float) -> None:
        """A job lasts: those that were taken with it shall not wait for it, and RQ's readers see it."""
        if now < self._next_glance:
            return
        self._next_glance = now + GLANCE
        lasting = self._crew.lasting(GLANCE)
        if not lasting or not self._reachable:
            return
        try:
            take_over(self._store, self._memory, lasting, self._launch.queues)
        except StoreError as error:
            log.warning("cannot note which jobs last: %s", error)

    # -- Redis ----------------------------------------------------------------------------------------------

    def _beat(self) -> None:
        children = list(self._crew.children.values())
        if self._keeper.due():
            order = self._keeper.restore(children) if self._restore_wanted else self._keeper.beat(children)
            self._restore_wanted = order == "vanished" or (self._restore_wanted and order == "unreachable")
            if order == "vanished":
                self._keeper.hurry()
            self._note_contact(order != "unreachable")
            self._obey(order)
        self._keeper.beat_rq(lambda: self._crew.endless_jobs(self._keeper.held), children)

    def _note_contact(self, reachable: bool) -> None:
        """What waits on other connections need not know that the way to Redis is cut; it waits on fresh ones after."""
        if not reachable:
            self._lookout.close()
        self._reachable = reachable

    def _obey(self, order: str) -> None:
        if order == "release":
            self._end("released", None)
        elif order == "drain":
            self._end("drained on order", State.EXPIRED)
        elif order == "fenced":
            log.warning("a newer launch took the place of this one: its workers end now")
            self._ending.fenced = True
            self._end("fenced", None)
            self._enter(Phase.KILLING)

    # -- the end --------------------------------------------------------------------------------------------

    def _end(self, why: str, final: State | None) -> None:
        if self._phase is not Phase.RUNNING:
            return
        log.info("%s: %s", self._launch.label, why)
        self._ending.why, self._ending.final = why, final
        self._enter(Phase.DRAINING)

    def _enter(self, phase: Phase) -> None:
        self._phase = phase
        now = time.monotonic()
        if phase is Phase.DRAINING:
            self._memory.set_draining()
            self._crew.forget_restarts()
            self._crew.quit_idle()
            self._phase_ends = now + self._launch.drain_timeout
        elif phase is Phase.STOPPING:
            self._crew.signal_all(signal.SIGTERM)
            self._phase_ends = now + STOP_GRACE
        else:
            reason = "" if self._ending.fenced else "did not stop in time and was killed"
            self._crew.signal_all(signal.SIGKILL, reason=reason)
            self._phase_ends = now + STOP_GRACE

    def _check_time(self) -> None:
        now = time.monotonic()
        if self._phase is Phase.RUNNING:
            if now >= self._drain_at:
                self._end("its runtime is over", State.EXPIRED)
        elif now >= self._phase_ends:
            self._enter(Phase(min(self._phase + 1, Phase.KILLING)))

    def _watch_requester(self) -> None:
        """``daemonize = false``: the set ends with the process that asked for it (rulings 25)."""
        requester = self._launch.record.requester
        if (
            self._phase is not Phase.RUNNING
            or requester is None
            or self._launch.record.daemonize
            or not is_here(requester, self._launch.node)
            or is_alive(requester)
        ):
            return
        why = "the requester's process ended (daemonize = false)"
        try:
            self._store.sets.transition(self._launch.record, State.RELEASING, why, expected=OPEN, check_version=False)
        except StoreError as error:
            log.warning("cannot tell Redis: %s", error)
        self._end(why, State.RELEASED)

    def _finish(self) -> None:
        """All workers are reaped: hand on their jobs, sweep what they started, sign off."""
        self._lookout.close()
        patience = time.monotonic() + SIGN_OFF_PATIENCE
        while self._legacies and time.monotonic() < patience:
            self._legacies.advance()
            self._selector.select(0.05)
            self._legacies.reap()
        # Whoever cleared its environment and left its session lost its parent, too, when its worker ended.
        survivors = kill_marked(self._launch.mark, prefix=True) + kill_children()
        if survivors:
            log.error("these processes of tasks could not be killed: %s", survivors)
        while not self._ending.fenced and not self._keeper.detach(self._ending.final, self._ending.why):
            if time.monotonic() > patience:
                log.error("Redis does not answer: leaving without signing off, the leases end by themselves")
                break
            self._selector.select(0.5)
        log.info("%s: all workers ended", self._launch.label)

    # -- work --------------------------------------------------------------------------------------------------

    def _look_for_work(self) -> None:
        """Watch the queues while somebody is idle."""
        if self._phase is not Phase.RUNNING or not self._crew.idle():
            return
        if self._crew.looking and time.monotonic() >= self._look_again:
            self._crew.note_begun()
            self._look_again = time.monotonic() + WAKE_SECONDS
        if not self._crew.looking:
            # While beats do not get through, an attempt would only hold up this loop for its timeout.
            self._lookout.look(lambda: self._reachable)

    def _on_peek(self, peek: QueuePeek) -> None:
        """There may be a job: wake one idle worker."""
        found, idle = self._lookout.answered(peek), self._crew.idle()
        if found and idle:
            self._lookout.woke(fruitless=idle[0].fruitless > 1)
            self._crew.wake(idle[0])
            self._look_again = time.monotonic() + WAKE_SECONDS

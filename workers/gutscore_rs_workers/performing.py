"""Running a claimed job in this process, with as little around it as RQ's meaning of a job allows.

Stock RQ builds a ``Job`` of some 40 attributes, looks its function up anew and swaps signal handlers for each job: a
multiple of what a short task takes. Here a job object is filled only when somebody looks at it, functions stay known
while their module has them, and one handler serves all timeouts. Whatever is out of the ordinary goes RQ's way.
"""

from __future__ import annotations

import asyncio
import pickle
import signal
import sys
import zlib
from collections.abc import Callable
from types import FrameType, ModuleType
from typing import Any

from gutscore_rs.calls import Call, open_call
from gutscore_rs.store import Claim
from gutscore_rs_workers.rq_bridge import CURRENT_JOB, DEFAULT_TIMEOUT, JobTimeoutException, import_attribute

# What `signal` puts around it, to name handlers, takes longer than all else of a timeout.
_handler_of = getattr(signal.getsignal, "__wrapped__", signal.getsignal)


class TimeLimit:
    """The timeout of the job that runs: SIGALRM raises ``JobTimeoutException`` in it, as in RQ."""

    def __init__(self) -> None:
        self._seconds = 0.0

    def begin(self, seconds: float) -> None:
        """A job begins; negative: it may run for ever."""
        if seconds < 0:
            return
        self._seconds = seconds
        # Tasks may have put a handler of their own there.
        if _handler_of(signal.SIGALRM) != self._over:
            signal.signal(signal.SIGALRM, self._over)
        signal.setitimer(signal.ITIMER_REAL, seconds or DEFAULT_TIMEOUT)

    @staticmethod
    def end() -> None:
        """The job is over."""
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _over(self, _signum: int, _frame: FrameType | None) -> None:
        raise JobTimeoutException(f"Task exceeded maximum timeout value ({self._seconds:g} seconds)")


class Functions:
    """Functions by their dotted names."""

    def __init__(self) -> None:
        self._homes: dict[str, tuple[ModuleType, str]] = {}

    def find(self, name: str) -> Callable[..., Any]:
        """As ``rq.utils.import_attribute``, faster from the second time on.

        Raises:
            ValueError: There is none of that name.
        """
        home = self._homes.get(name)
        # Looked up each time: a module that was loaded anew has new ones.
        if home is not None and sys.modules.get(home[0].__name__) is home[0]:
            known: Callable[..., Any] | None = home[0].__dict__.get(home[1])
            if known is not None:
                return known
        function: Callable[..., Any] = import_attribute(name)
        module_name, _, attribute = name.rpartition(".")
        module = sys.modules.get(module_name)
        if module is not None and module.__dict__.get(attribute) is function:
            self._homes[name] = (module, attribute)
        return function


class Performer:
    """Runs jobs.

    Args:
        plain: Whether jobs are written with RQ's own serializer and class: else all of them go RQ's way.
        key: The case's signing key, to open the calls of its executors; None: this worker is of no case.
    """

    def __init__(self, *, plain: bool, key: bytes | None = None) -> None:
        self._plain = plain
        self._key = key
        self._functions = Functions()
        self._limit = TimeLimit()

    def perform(self, claim: Claim, job: Any) -> Any:
        """Run a job within its timeout; what it returns, or raises.

        Args:
            claim: What was taken.
            job: The same as RQ's object, for the task that asks for it.
        """
        self._limit.begin(claim.timeout)
        try:
            call = self._call_of(claim)
            if call is None:
                return job.perform()
            function, args, kwargs = call
            token = CURRENT_JOB.set(job)
            try:
                result = function(*args, **kwargs)
                return asyncio.run(result) if asyncio.iscoroutine(result) else result
            finally:
                CURRENT_JOB.reset(token)
        finally:
            self._limit.end()

    def _call_of(self, claim: Claim) -> Call | None:
        """What is to be called; None: RQ shall find out, or say why it cannot.

        Raises:
            CallRefusedError: Its result is awaited by an executor, but none of the case's has sent it.
        """
        if claim.reply and self._key is not None:
            return open_call(self._key, claim.job_id, claim.data)
        if not self._plain:
            return None
        try:
            name, instance, args, kwargs = pickle.loads(_unpacked(claim.data))  # noqa: S301 - RQ's format
            if instance is not None:
                return None
            return self._functions.find(name), args, kwargs
        except Exception:  # noqa: BLE001 - it is tried again by RQ's code, which raises what its users know
            return None


def _unpacked(data: bytes) -> bytes:
    try:
        return zlib.decompress(data)
    except zlib.error:
        return data

"""Our executor, measured as the peers are (``task_peers/common.py``)."""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout

from support.calls import executor_on
from support.cases import LiveCase

from harness import ROOT

sys.path.insert(0, str(ROOT / "benchmarks" / "task_peers"))
import common


def measure(case: LiveCase, tasks: int, round_trips: int, *, wgroup_id: int) -> Mapping[str, float]:
    """Figures of an executor on a set of two workers."""
    folder = str(ROOT / "benchmarks" / "task_peers")
    case.request(wgroup_id, nworkers=2, runtime=600, path=[folder])
    options = argparse.Namespace(tasks=tasks, round_trips=round_trips)
    printed = io.StringIO()
    try:
        with executor_on(case) as executor, redirect_stdout(printed):

            def many(name: str, argument: float, count: int) -> None:
                for future in [executor.submit(getattr(common, name), argument) for _ in range(count)]:
                    future.result()

            common.measure(many, lambda: executor.submit(common.noop, 0).result(), options)
    finally:
        case.operations.release(wgroup_id)
    found: Mapping[str, float] = json.loads(printed.getvalue().removeprefix("RESULT "))
    return found

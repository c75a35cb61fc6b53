"""``concurrent.futures`` for the workers of a case."""

from __future__ import annotations

from gutscore_rs.executor.executor import Executor
from gutscore_rs.executor.futures import CallFuture

__all__ = ["CallFuture", "Executor"]

"""What the benchmarks share: servers of their own, tables with versions, JSON."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent

# Servers and cases are those of the tests: one place starts them, and one ends them.
sys.path.insert(0, str(ROOT / "tests"))

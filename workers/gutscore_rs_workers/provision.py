"""The provisioner's command: starts a spare launcher first, then imports and runs the provisioner.

So the imports of both run side by side, and the first request of a case does not wait for a second Python start.
"""

from __future__ import annotations

import sys
from pathlib import Path

from gutscore_rs.entrypoints import WORKERGROUP
from gutscore_rs.settings import MARK
from gutscore_rs_workers.spare import Spare, start_spare


def main(argv: list[str] | None = None) -> int:
    """Run a provisioner; arguments, signals and exit codes are those of :mod:`gutscore_rs_workers.provisioner`."""
    argv = sys.argv[1:] if argv is None else argv
    spare = _first_spare(argv)
    # Late, for the reason that this module exists.
    from gutscore_rs_workers.provisioner import main as run

    return run(argv, spare)


def _first_spare(argv: list[str]) -> Spare | None:
    if "--access" not in argv[:-1]:
        return None
    # The access file lies in the case's folder; should this be a copy, only the mark of this one spare is wrong.
    access = Path(argv[argv.index("--access") + 1]).resolve()
    return start_spare(WORKERGROUP, MARK, access.parent) if access.is_file() else None


if __name__ == "__main__":
    sys.exit(main())

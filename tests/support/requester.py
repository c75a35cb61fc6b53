"""A user's program: requests a set of one worker and waits to be ended. Run as a script by tests of ``daemonize``."""

from __future__ import annotations

import sys
from pathlib import Path

from gutscore_rs.access import read_access
from gutscore_rs.identity import this_process
from gutscore_rs.operations.client import OperationsClient
from gutscore_rs.store import Store


def main(access_file: str, host: str, *sets: str) -> None:
    """Request each set, given as ``<id>=<daemonize>``."""
    access = read_access(Path(access_file))
    client = OperationsClient(Store.open(access), access, host, requester=this_process(host))
    for text in sets:
        wgroup_id, daemonize = text.split("=")
        client.request(
            int(wgroup_id),
            {"backend": "local", "nworkers": 1, "runtime": 60, "drain_timeout": 1.0, "daemonize": daemonize == "true"},
        )
    sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])

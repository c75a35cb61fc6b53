"""What the environment says; the only reader of ``os.environ`` in the library.

===========================  ==========================================================
variable                     meaning
===========================  ==========================================================
``GUTSCORE_RS_STATE_DIR``    state folder (default: platformdirs' user state folder)
``GUTSCORE_RS_RUNTIME_DIR``  where sockets live (default: XDG_RUNTIME_DIR or the temp folder)
``GUTSCORE_RS_HOST``         this host's name in Redis
``GUTSCORE_RS_REDIS_URL``    a Redis to use instead of the embedded server
``GUTSCORE_RS_REDIS_PASSWORD_FILE``  file (mode 0600) that holds its password
``SLURMD_NODENAME``          set by Slurm inside a job: the node's name
===========================  ==========================================================
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# Set by us: whatever a launch starts inherits it; so its offspring is found wherever it went.
MARK = "GUTSCORE_RS_MARK"
STATE_DIR = "GUTSCORE_RS_STATE_DIR"


@dataclass(frozen=True, slots=True)
class Settings:
    """Process-wide settings, read once and handed on."""

    state_dir: Path | None = None
    runtime_dir: Path | None = None
    host: str | None = None
    redis_url: str | None = None
    redis_password_file: Path | None = None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read the variables of the table above; empty values count as absent."""
        env = os.environ if environ is None else environ

        def path(name: str) -> Path | None:
            value = env.get(name)
            return Path(value) if value else None

        return cls(
            state_dir=path(STATE_DIR),
            runtime_dir=path("GUTSCORE_RS_RUNTIME_DIR") or path("XDG_RUNTIME_DIR"),
            host=env.get("SLURMD_NODENAME") or env.get("GUTSCORE_RS_HOST") or None,
            redis_url=env.get("GUTSCORE_RS_REDIS_URL") or None,
            redis_password_file=path("GUTSCORE_RS_REDIS_PASSWORD_FILE"),
        )


def environment_value(name: str) -> str | None:
    """One variable of this process's environment."""
    return os.environ.get(name)


def environment() -> dict[str, str]:
    """A copy of this process's environment, to start others with."""
    return dict(os.environ)

"""The command line as a user runs it, with a state folder of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TOML = """
[case]
name = "cli"
[resource]
nwgroups = 2
[resource.config]
nworkers = 2
runtime = "10"
drain_timeout = 1
"""


@dataclass
class Shell:
    """Runs ``gutscore-rs`` with a state folder of its own."""

    state: Path
    folder: Path

    @property
    def env(self) -> dict[str, str]:
        return dict(os.environ) | {
            "GUTSCORE_RS_STATE_DIR": str(self.state),
            "GUTSCORE_RS_RUNTIME_DIR": str(self.state),
            "GUTSCORE_RS_HOST": "cli-host",
        }

    def __call__(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "gutscore_rs", *arguments],
            capture_output=True,
            text=True,
            env=self.env,
            cwd=self.folder,
            timeout=90,
        )
        assert done.returncode == code, f"{arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "--json").stdout)

    def toml(self, text: str = TOML, name: str = "case.toml") -> str:
        (self.folder / name).write_text(text)
        return str(self.folder / name)

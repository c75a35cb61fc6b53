"""Peers from PyPI, each in a virtual environment of its own, made at its first use and kept in the cache folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def default_folder() -> Path:
    """Where the environments are kept, unless the user says another place."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "gutscore_rs" / "peers"


def peer_python(folder: Path, name: str, packages: Sequence[str]) -> Path:
    """The interpreter of a peer's environment.

    Raises:
        subprocess.CalledProcessError: It cannot be installed; its message is what pip said.
    """
    python = folder / name / "bin" / "python"
    if not (folder / name / "ready").exists():
        print(f"installing {', '.join(packages)} into {folder / name} ...", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(folder / name)], check=True, capture_output=True)
        subprocess.run(
            [str(python), "-m", "pip", "install", "-q", *packages], check=True, capture_output=True, text=True
        )
        (folder / name / "ready").touch()
    return python


def peer_versions(python: Path, packages: Sequence[str]) -> dict[str, str]:
    """What is installed there."""
    code = "import importlib.metadata as m, json, sys; print(json.dumps({n: m.version(n) for n in sys.argv[1:]}))"
    names = [package.partition("[")[0] for package in packages]
    done = subprocess.run([str(python), "-c", code, *names], check=True, capture_output=True, text=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found

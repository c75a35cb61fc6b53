"""Slurm programs of the test's own making, first in PATH, for what a real Slurm cannot be made to say."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass
class FakeSlurm:
    """A folder of programs; each writes down how it was called."""

    folder: Path

    def program(self, name: str, *, out: str | bytes = "", err: str = "", code: int = 0, then: str = "") -> None:
        """Write a program that says this and ends so; ``then``: lines of sh that it runs before it ends."""
        data = out if isinstance(out, bytes) else out.encode()
        (self.folder / f"{name}.out").write_bytes(data)
        here = shlex.quote(str(self.folder))
        lines = [
            "#!/bin/sh",
            f"cd {here}",
            f'for word in "$@"; do printf "%s\\n" "$word"; done >> {name}.argv; echo . >> {name}.argv',
            f"env > {name}.env",
            f"cat > {name}.stdin",
            f"cat {name}.out",
            f"printf '%s' {shlex.quote(err)} >&2",
            then,
            f"exit {code}",
        ]
        path = self.folder / name
        path.write_text("\n".join(lines))
        path.chmod(0o755)

    def calls(self, name: str) -> list[list[str]]:
        """The arguments of each call."""
        path, found = self.folder / f"{name}.argv", [[]]
        for word in path.read_text().splitlines() if path.exists() else ():
            if word == ".":
                found.append([])
            else:
                found[-1].append(word)
        return found[:-1]

    def environment(self, name: str) -> dict[str, str]:
        """Its environment when it was called last."""
        return dict(line.partition("=")[::2] for line in (self.folder / f"{name}.env").read_text().splitlines())

    def stdin(self, name: str) -> str:
        return (self.folder / f"{name}.stdin").read_text()


@pytest.fixture
def fake_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    """Slurm's programs are those that the test writes, and no others."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in ("cat", "env", "sleep", "sh", "setsid"):
        found = next(Path(place, tool) for place in os.environ["PATH"].split(os.pathsep) if Path(place, tool).exists())
        (folder / tool).symlink_to(found)
    monkeypatch.setenv("PATH", str(folder))
    return FakeSlurm(folder)

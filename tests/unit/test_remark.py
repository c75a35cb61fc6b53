"""A process can be found by a mark that it got after its start (proc(5))."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")

CODE = """
import sys
from gutscore_rs_workers.spare import remark
done = remark("MARKED", sys.argv[1])
sys.stdout.buffer.write(f"{done}\\n".encode() + open("/proc/self/environ", "rb").read())
"""


def remarked(value: str, env: dict[str, str]) -> tuple[str, list[str]]:
    path = ":".join(entry for entry in sys.path if Path(entry).is_dir())
    done = subprocess.run(
        [sys.executable, "-c", CODE, value], env=env | {"PYTHONPATH": path}, capture_output=True, text=True, check=True
    )
    outcome, _, block = done.stdout.partition("\n")
    return outcome, sorted(entry for entry in block.split("\0") if entry and not entry.startswith("PYTHONPATH="))


@pytest.mark.parametrize(
    "env",
    [
        {"MARKED": "a" * 20, "OTHER": "1"},
        {"OTHER": "1", "MARKED": "a" * 20},
        {"NOTMARKED": "2", "OTHER": "MARKED=3", "MARKED": "a" * 20},
    ],
    ids=["first", "last", "among look-alikes"],
)
def test_the_new_mark_is_seen_and_nothing_else_changes(env: dict[str, str]) -> None:
    outcome, entries = remarked("/a/b:1/2/c", env)
    assert outcome == "True"
    assert entries == sorted(f"{name}={value}" for name, value in (env | {"MARKED": "/a/b:1/2/c"}).items())


@pytest.mark.parametrize("value", ["", "b" * 20])
def test_from_empty_to_as_long_as_before(value: str) -> None:
    assert remarked(value, {"MARKED": "a" * 20}) == ("True", [f"MARKED={value}"])


@pytest.mark.parametrize(("value", "env"), [("b" * 21, {"MARKED": "a" * 20}), ("b", {"OTHER": "1"})])
def test_without_room_nothing_is_touched(value: str, env: dict[str, str]) -> None:
    assert remarked(value, env) == ("False", [f"{name}={text}" for name, text in env.items()])

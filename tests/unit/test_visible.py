"""What others see of a process in /proc can be overwritten by it (proc(5))."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")

TAKE = """
import os, sys
from gutscore_rs_workers.visible import take_environment
done = take_environment({"LATER": "2", "MARK": sys.argv[1], "PYTHONPATH": os.environ["PYTHONPATH"]}, "MARK")
print(done, os.environ["MARK"], sorted(set(os.environ) - {"LC_CTYPE"}))
sys.stdout.flush()
sys.stdout.buffer.write(open("/proc/self/environ", "rb").read())
"""
RETITLE = """
import sys
from gutscore_rs_workers.visible import retitle
retitle(sys.argv[1])
sys.stdout.buffer.write(open("/proc/self/cmdline", "rb").read())
"""
PATH = os.pathsep.join(entry for entry in sys.path if Path(entry).is_dir())


def run(code: str, argument: str, **env: str) -> bytes:
    done = subprocess.run(
        [sys.executable, "-c", code, argument], env=env | {"PYTHONPATH": PATH}, capture_output=True, check=True
    )
    return done.stdout


def test_the_first_variable_is_shown_first_and_others_as_far_as_there_is_room() -> None:
    outcome, _, block = run(TAKE, "/a/b:1/2/c", OLD="x" * 100).partition(b"\n")
    assert outcome == b"True /a/b:1/2/c ['LATER', 'MARK', 'PYTHONPATH']"
    shown = block.rstrip(b"\0").split(b"\0")
    assert shown == [b"MARK=/a/b:1/2/c", b"LATER=2", f"PYTHONPATH={PATH}".encode()]


def test_what_has_no_room_is_not_shown_but_holds() -> None:
    outcome, _, block = run(TAKE, "m" * (len(PATH) - 10)).partition(b"\n")
    assert outcome.startswith(b"True m")
    assert block.rstrip(b"\0").split(b"\0")[0] == b"MARK=" + b"m" * (len(PATH) - 10)
    assert b"PYTHONPATH" not in block


def test_a_mark_without_room_is_told() -> None:
    outcome, _, block = run(TAKE, "m" * (len(PATH) + 100)).partition(b"\n")
    assert outcome.startswith(b"False m")
    assert b"PYTHONPATH" not in block


def test_a_title_takes_the_place_of_the_command_line() -> None:
    assert run(RETITLE, "gutscore_rs: worker 3").rstrip(b"\0") == b"gutscore_rs: worker 3"


def test_a_title_is_cut_to_the_room_there_is() -> None:
    shown = run(RETITLE.replace("sys.argv[1]", "'t' * 30_000"), "room")
    assert shown == b"t" * (len(shown) - 1) + b"\0"
    assert 100 < len(shown) < 1000

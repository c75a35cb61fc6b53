"""Each script says what it takes, takes no more, and makes no key of ours by itself."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
from support.records import registered

import gutscore_rs.store.scripts as module
from gutscore_rs.store import Store
from gutscore_rs.store.scripts import ScriptName, source

FOLDER = Path(module.__file__).parent / "lua"
NAMES: list[ScriptName] = list(get_args(ScriptName))
# Scripts on RQ's keys derive those of jobs and executions from RQ's prefix, which is an argument (rulings 8).
ON_RQ = {
    "fail_job": "ARGV[7]",
    "return_job": "ARGV[4]",
    "exchange": "prefix",
    "submit_calls": "ARGV[3]",
    "enqueue_jobs": "ARGV[2]",
    "cancel_calls": "ARGV[1]",
}
# Names of keys made from the prefix; a stream is where a job says that its result is awaited.
DERIVED = ("job", "results", "key", "unpack(keys", "unpack(gone", "stream")


def body(name: str) -> str:
    return (FOLDER / f"{name}.lua").read_text()


def code(name: str) -> str:
    """The script without its comments."""
    return re.sub(r"--.*", "", body(name))


def test_every_file_is_a_script_with_a_name_and_the_other_way_round() -> None:
    assert sorted(file.stem for file in FOLDER.glob("*.lua")) == sorted([*NAMES, "prelude"])


@pytest.mark.parametrize("name", NAMES)
def test_the_header_tells_keys_arguments_and_what_comes_back(name: str) -> None:
    lines = [line for line in body(name).splitlines() if not line.startswith("#!")]
    header = []
    for line in lines:
        if not line.startswith("--"):
            break
        header.append(line)
    text = "\n".join(header)
    assert re.search(r"^-- KEYS  1", text, re.MULTILINE)
    assert re.search(r"^-- ARGV  1", text, re.MULTILINE)
    assert re.search(r"^-- Returns ", text, re.MULTILINE)


def declared(name: str, kind: str) -> tuple[int, bool]:
    """The highest number in the header, and whether it goes on (``5..``)."""
    part = re.search(rf"^-- {kind}  (.*(?:\n--   .*)*)", body(name), re.MULTILINE)
    assert part
    numbers = re.findall(r"(?:^|\s\s+)(\d+)(\.\.)? ", part[1])
    return max(int(number) for number, _ in numbers), any(more for _, more in numbers)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["KEYS", "ARGV"])
def test_what_is_used_is_what_is_declared(name: str, kind: str) -> None:
    highest, _ = declared(name, kind)
    used = {int(number) for number in re.findall(rf"{kind}\[(\d+)", code(name))}
    assert max(used, default=0) <= highest


@pytest.mark.parametrize("name", NAMES)
def test_no_script_makes_a_key_but_those_that_come_from_rqs_prefix(name: str) -> None:
    calls = re.findall(r"redis\.call\('(\w+)',\s*([^,)]+)", code(name))
    assert calls
    for command, key in calls:
        if command == "TIME":
            continue
        ours = re.fullmatch(r"KEYS\[[^\]]+\]", key.strip())
        if ours or name not in ON_RQ:
            assert ours, f"{name}: {command} {key}"
        else:
            known = (
                key.strip() in DERIVED
                or key.strip().startswith("job .. ':")
                or key.strip().startswith(f"{ON_RQ[name]} .. ':")
            )
            assert known, f"{name}: {command} {key}"
    assert "gutscore" not in code(name)
    for loop_variable in set(re.findall(r"KEYS\[([a-z][^\]]*)\]", code(name))):
        assert loop_variable in ("i", "q", "q + 1", "q + 2", "q + 3")


@pytest.mark.parametrize("name", NAMES)
def test_time_is_the_servers(name: str) -> None:
    assert "os.time" not in code(name)
    assert "math.random" not in code(name)


def test_every_script_compiles(store: Store) -> None:
    for name in NAMES:
        assert len(store.client.script_load(source(name))) == 40
    store.client.script_flush()


def test_a_script_that_the_server_forgot_is_sent_again(store: Store) -> None:
    registered(store)
    store.client.script_flush()
    assert store.workers.count(0) == 2


def test_scripts_touch_only_keys_that_were_declared(store: Store) -> None:
    """A server shows with MONITOR what a script really did."""
    with store.client.monitor() as monitor:
        registered(store)
        store.client.echo("the end")
        declared_keys: set[str] = set()
        for entry in monitor.listen():
            words = entry["command"].split(" ")
            if words[0].upper() in ("EVALSHA", "EVAL") and entry["client_type"] != "lua":
                count = int(re.findall(r"\s(\d+) gutscore:", entry["command"])[0])
                declared_keys = set(re.findall(r"gutscore:\S+", entry["command"])[:count])
            elif entry["client_type"] == "lua" and words[0].upper() != "TIME":
                assert words[1] in declared_keys, entry["command"]
            elif words[0].upper() == "ECHO":
                break


def test_a_script_carries_only_what_it_uses_of_the_prelude() -> None:
    assert "local function now()" in source("count")
    assert "emit" not in source("count")
    assert "ENDED" in source("beat")
    for name in NAMES:
        for helper in ("now", "text", "emit", "one_of", "keep_for"):
            used = len(re.findall(rf"\b{helper}\(", source(name))) > 1
            assert (f"local function {helper}(" in source(name)) == used, f"{name}: {helper}"

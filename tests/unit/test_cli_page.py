"""docs/cli.md has every command, option, default and exit code of the command line, and the fields of its JSON."""

from __future__ import annotations

import json
import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from gutscore_rs import errors
from gutscore_rs.cli import COMMANDS, cli, exits
from gutscore_rs.overview import Overview
from gutscore_rs.store.records import Event, ProvisionerRecord, ResourceSetRecord, State, WorkerRecord

PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
INLINE_CODE = re.compile(r"`([^`\n]+)`")


def part(title: str, of: str = PAGE) -> str:
    """The text under a heading, down to the next one that is not deeper."""
    level = re.search(rf"^(#+) {title}$", of, re.MULTILINE)
    assert level, f"docs/cli.md has no part {title!r}"
    return re.split(rf"^#{{1,{len(level[1])}}} ", of[level.end() :], maxsplit=1, flags=re.MULTILINE)[0]


def command(name: str) -> click.Command:
    found = cli.get_command(click.Context(cli), name)
    assert found
    return found


def first_cells(text: str) -> list[str]:
    return [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]


def documented_fields(text: str) -> set[str]:
    return {name for cell in first_cells(text) for name in INLINE_CODE.findall(cell)}


def test_the_page_has_every_command_and_no_other() -> None:
    assert re.findall(r"^### (\w+)$", part("Commands"), re.MULTILINE) == list(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_page_has_every_option_of_a_command_and_no_other(name: str) -> None:
    text = part(name, part("Commands"))
    documented = {code.split()[0] for cell in first_cells(text) for code in INLINE_CODE.findall(cell)}
    options = [option for option in command(name).params if isinstance(option, click.Option)]
    assert documented == {spelling for option in options for spelling in option.opts}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_page_has_the_defaults_of_a_command(name: str) -> None:
    text = part(name, part("Commands"))
    for option in command(name).params:
        if isinstance(option, click.Option) and option.show_default:
            line = next(line for line in text.splitlines() if line.startswith("| `") and option.opts[-1] in line)
            assert f"default {option.default:g}" in line


@pytest.mark.parametrize("name", COMMANDS)
def test_the_page_says_which_commands_need_a_file(name: str) -> None:
    (case,) = (argument for argument in command(name).params if isinstance(argument, click.Argument))
    needs_file = isinstance(case.type, click.Path)
    assert needs_file == (name == "run")
    assert f"`{name} {'CASE' if case.required else '[CASE]'}`" in part(name, part("Commands"))


def test_the_page_has_every_exit_code_and_no_other() -> None:
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", part("Exit codes"), re.MULTILINE)}
    kinds = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.GutscoreError)
    ]
    codes = {exits.exit_code_of(kind("x")) for kind in kinds}
    assert documented == codes | {0, click.UsageError.exit_code, exits.EXIT_FAILED, exits.EXIT_INTERRUPTED}


def test_the_group_finds_no_command_that_it_does_not_list() -> None:
    assert cli.get_command(click.Context(cli), "nothing") is None


RECORD = ResourceSetRecord(0, "local", State.ACTIVE, 1, 1, 1, 1, False, "here", spec={"queues": ["case:tasks"]})
WORKER = WorkerRecord("here/1", 0, 0, "here", 1, 1, "boot", 1.0, "name", slurm={"job": "1"})


class FakeStore:
    """One of everything, without a server."""

    case = "case"

    def __init__(self) -> None:
        self.sets = self.workers = self.provisioners = self.jobs = self.history = self

    def time(self) -> float:
        return 1.0

    def all(self):
        return [RECORD]

    def ids(self):
        return [0]

    def counts(self, ids):
        return dict.fromkeys(ids, 1)

    def counts_by_host(self, _ids):
        return {"here": 1}

    def alive(self, ids=None):
        return [WORKER] if ids is not None else [ProvisionerRecord("here/1", "here", 1, ("here",), 1.0, "0")]

    def tallies(self, queues):
        return {queue: dict.fromkeys(("queued", "started", "finished", "failed"), 0) for queue in queues}

    def events(self, _count):
        return [Event("1-1", 1.0, 0, dict.fromkeys(("generation", "from", "state", "why"), "x"))]

    def lost(self, _count):
        return [Event("1-2", 1.0, 0, dict.fromkeys(("member", "host", "pid", "reason", "job"), "x"))]


def names_in(value: object) -> set[str]:
    """Every field name, at any depth; keys that are data (a host, an id, a queue) are left out."""
    if isinstance(value, dict):
        names = {name for name in value if name not in {"0", "here", "case:tasks"}}
        return names.union(*map(names_in, value.values()))
    if isinstance(value, list | tuple):
        return set().union(*map(names_in, value))
    return set()


@pytest.mark.parametrize("name", ["count", "workers", "status", "events"])
def test_the_page_has_every_field_of_the_json_of_a_reading_command(name: str) -> None:
    printed = names_in(getattr(Overview(FakeStore()), name)()) - {"events"}  # type: ignore[arg-type]
    text = part(name, part("JSON"))
    assert printed <= documented_fields(text) | set(INLINE_CODE.findall(text)) | {"schema"}
    assert documented_fields(text) <= printed


def other_fields(name: str) -> set[str]:
    """What the table of the smaller objects says: each field by its name, and what it consists of."""
    (row,) = (line for line in part("Others", part("JSON")).splitlines() if line.startswith(f"| `{name}` |"))
    # Values of a field stand in parentheses.
    return set(INLINE_CODE.findall(re.sub(r"\([^)]*\)", "", row.split("|")[2])))


@pytest.mark.parametrize(("name", "backend"), [("doctor", ""), ("script", "slurm")])
def test_the_page_has_every_field_of_the_json_of_doctor_and_script(
    name: str, backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GUTSCORE_RS_STATE_DIR", str(tmp_path))
    case = tmp_path / "case.toml"
    case.write_text(f'[resource]\nbackend = "{backend}"\n')
    done = CliRunner().invoke(command(name), [*([str(case)] if backend else []), "--json"])
    printed = json.loads(done.stdout)
    assert printed["schema"] == 1
    assert names_in(printed) - {"schema"} == other_fields(name)

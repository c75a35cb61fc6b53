"""docs/cli.md has every command and option, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from gutscore_rs.cli import COMMANDS, cli, exits

PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
ROWS = dict(re.findall(r"^\| `(\w+)[^`]*` \| (.*) \|$", PAGE, re.MULTILINE))


def options_of(name: str) -> set[str]:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    return {
        option
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for option in parameter.opts
        if option.startswith("--")
    }


def test_the_page_has_exactly_the_commands() -> None:
    assert set(ROWS) == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_page_has_exactly_the_options_of_each(name: str) -> None:
    assert set(re.findall(r"--[a-z]+", ROWS[name])) == options_of(name)


def test_the_page_has_every_exit_code() -> None:
    rows = set(map(int, re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)))
    codes = {value for name, value in vars(exits).items() if name.startswith("EXIT_")} | {0, 2}
    assert rows == codes


def test_the_group_finds_no_command_that_it_does_not_list() -> None:
    assert cli.get_command(click.Context(cli), "nothing") is None

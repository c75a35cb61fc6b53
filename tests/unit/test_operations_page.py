"""docs/operations.md has the times that the code has, and the settings that it reads."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from gutscore_rs import settings

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
TIMES = re.findall(r"^\| .* \| ([\d.]+) \| `([\w.]+)\.(\w+)` \|$", PAGE, re.MULTILINE)


@pytest.mark.parametrize(("seconds", "module", "name"), TIMES)
def test_the_page_has_the_times_of_the_code(seconds: str, module: str, name: str) -> None:
    assert float(seconds) == getattr(importlib.import_module(module), name)


def test_there_are_times_to_compare() -> None:
    assert len(TIMES) > 10


def test_the_page_has_every_variable_that_is_read_and_no_other() -> None:
    table = PAGE.split("## Settings of a host")[1].split("\n## ")[0]
    read = set(re.findall(r"``([A-Z_]+)``", settings.__doc__ or ""))
    assert set(re.findall(r"^\| `([A-Z_]+)` \|", table, re.MULTILINE)) == read

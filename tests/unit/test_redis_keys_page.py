"""docs/redis-keys.md and keys.py say the same."""

from __future__ import annotations

import re
from pathlib import Path

from gutscore_rs.store import keys

PAGE = (Path(__file__).parents[2] / "docs" / "redis-keys.md").read_text()
MODULE = keys.__doc__ or ""


def key_names(text: str, row: str) -> set[str]:
    """Keys of the table, each in the first cell of its row."""
    found = set(re.findall(row + r"(:[a-z_]+(?::[a-z_<>]+)*)`", text, re.MULTILINE))
    assert len(found) > 10
    return found


def test_the_page_has_exactly_the_keys_of_the_module() -> None:
    assert key_names(PAGE, r"^\| `") == key_names(MODULE[: MODULE.index("Fields of")], "^``")


def test_the_page_has_every_field_that_the_module_names() -> None:
    fields = MODULE[MODULE.index("Fields of") : MODULE.index("A worker *member*")]
    named = set(re.findall(r"``([a-z_]+)``", fields)) - {"local", "slurm"}
    assert named
    assert {name for name in named if f"`{name}`" not in PAGE} == set()


def test_the_page_names_what_is_added_to_the_hashes_of_rq() -> None:
    added = set(re.findall(r"``(gs_[a-z]+)``", MODULE))
    assert added
    assert {name for name in added if f"`{name}`" not in PAGE} == set()

"""The documentation: links that lead somewhere, examples that work, paths that exist."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from gutscore_rs.cli import COMMANDS
from gutscore_rs.config import from_mapping

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE_CODE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
PATH = re.compile(r"[\w.-]+(/[\w.-]+)+/?")


def pages() -> Iterator[Path]:
    """Every page of ours: hidden folders (.venv, .git) are not."""
    for entry in sorted(ROOT.iterdir()):
        if entry.suffix == ".md":
            yield entry
        elif entry.is_dir() and not entry.name.startswith("."):
            yield from sorted(entry.rglob("*.md"))


PAGES = list(pages())
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def blocks(page: Path, language: str) -> list[str]:
    return [text for name, text in FENCE.findall(page.read_text()) if name == language]


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text())


def anchors(page: Path) -> set[str]:
    """Headings as links name them: lower case, no punctuation, dashes for spaces."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def dead_links(page: Path) -> Iterator[str]:
    for target in LINK.findall(INLINE_CODE.sub("", prose(page))):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            yield target


def absent_paths(page: Path) -> Iterator[str]:
    """Paths in backticks: from the project's folder, from ``workers/`` or from the page's."""
    top = {entry.name for entry in ROOT.iterdir()}
    for code in INLINE_CODE.findall(prose(page)):
        for word in code.split():
            ours = PATH.fullmatch(word) and (word.split("/")[0] in top or (word == code and Path(word).suffix))
            if ours and not any((folder / word).exists() for folder in (ROOT, ROOT / "workers", page.parent)):
                yield word


@each_page
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    assert not list(dead_links(page))


@each_page
def test_every_path_in_backticks_exists(page: Path) -> None:
    assert not list(absent_paths(page))


def test_the_python_of_the_readme_compiles() -> None:
    examples = blocks(README, "python")
    assert examples
    for number, text in enumerate(examples):
        compile(text, f"README.md, Python example {number}", "exec")


def test_the_case_of_the_readme_is_a_case() -> None:
    (text,) = blocks(README, "toml")
    config = from_mapping(tomllib.loads(text))
    assert [group.nworkers for group in config.groups] == [2, 2]


@each_page
def test_every_case_file_in_a_page_is_a_case(page: Path) -> None:
    for text in blocks(page, "toml"):
        from_mapping(tomllib.loads(text))


def test_the_readme_lists_every_command_and_no_other() -> None:
    first_columns = [line.split("|")[1] for line in README.read_text().splitlines() if line.startswith("| `")]
    listed = [code.split()[0] for column in first_columns for code in INLINE_CODE.findall(column)]
    assert sorted(listed) == sorted(COMMANDS)


def test_the_checks_see_a_dead_link_and_an_absent_path(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A b\n[x](no.md) [y](page.md#a-b) [z](#c) ![p](no.svg) [w](https://w) `docs/no.md` `[q](r)`\n")
    assert list(dead_links(page)) == ["no.md", "#c", "no.svg"]
    assert list(absent_paths(page)) == ["docs/no.md"]

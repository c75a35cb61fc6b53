"""The argument CASE: a TOML file, or the name of a running case."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gutscore_rs.case import Case, open_case, open_config
from gutscore_rs.config import CaseConfig, from_mapping, load
from gutscore_rs.paths import StateFolder
from gutscore_rs.settings import Settings


def is_file(case: str) -> bool:
    """Whether CASE means a file: by its ending, a slash in it, or because it is one."""
    return case.endswith(".toml") or "/" in case or Path(case).is_file()


def config_of(case: str) -> CaseConfig:
    """The configuration of a TOML file; for a mere name the defaults."""
    return load(Path(case)) if is_file(case) else from_mapping({"case": {"name": case}})


@contextmanager
def opened(case: str, settings: Settings) -> Iterator[Case]:
    """The running case, closed at the end."""
    found = open_config(load(Path(case)), settings) if is_file(case) else open_case(case, settings)
    try:
        yield found
    finally:
        found.close()


def known(settings: Settings) -> list[str]:
    """Names of the cases that run here."""
    return StateFolder.open(settings).case_names()

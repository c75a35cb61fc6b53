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


def config_of(case: str, settings: Settings) -> CaseConfig:
    """The configuration of a TOML file; for a mere name the one that it was brought up with, else the defaults."""
    if is_file(case):
        return load(Path(case))
    source = StateFolder.open(settings).case(case).source
    return load(Path(source.read_text())) if source.is_file() else from_mapping({"case": {"name": case}})


@contextmanager
def opened(case: str, settings: Settings) -> Iterator[Case]:
    """The running case, closed at the end."""
    found = open_config(load(Path(case)), settings) if is_file(case) else open_case(case, settings)
    try:
        yield found
    finally:
        found.close()

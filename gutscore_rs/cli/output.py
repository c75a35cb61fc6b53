"""Two ways to print: tables for people, one JSON object for programs."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

STATE_STYLES = {
    "active": "green",
    "failed": "red",
    "expired": "yellow",
    "released": "dim",
    "stopped": "yellow",
    "hung": "red",
}


def console(*, err: bool = False) -> Console:
    """A console that is wide enough for our tables when nobody looks at it (a pipe, a log)."""
    stream = sys.stderr if err else sys.stdout
    return Console(stderr=err, width=None if stream.isatty() else 140, highlight=False, soft_wrap=not stream.isatty())


def print_json(value: Any) -> None:
    """One object, one line."""
    sys.stdout.write(json.dumps(value, separators=(",", ":"), default=str) + "\n")
    sys.stdout.flush()


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    """A table; states are coloured, None is a dash."""
    grid = Table(
        title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, show_header=any(columns)
    )
    for name in columns:
        numeric = bool(rows) and all(isinstance(row[columns.index(name)], (int, float)) for row in rows)
        grid.add_column(name, justify="right" if numeric else "left", header_style="dim", overflow="fold")
    for row in rows:
        grid.add_row(*[_cell(value) for value in row])
    return grid


def _cell(value: Any) -> str:
    if value is None or value == "":
        return "-"
    text = str(value).replace("[", "\\[")
    style = STATE_STYLES.get(text)
    return f"[{style}]{text}[/{style}]" if style else text


def clock(seconds: float | None) -> str | None:
    """A moment of the server's clock, as local time of day (with the date when it is not today)."""
    if not seconds:
        return None
    moment = time.localtime(seconds)
    same_day = moment[:3] == time.localtime()[:3]
    return time.strftime("%H:%M:%S" if same_day else "%Y-%m-%d %H:%M:%S", moment)

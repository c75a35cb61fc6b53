"""Live progress of a run on stderr: a bar and a status line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from gutscore_rs.cli.output import console
from gutscore_rs.errors import GutscoreError

if TYPE_CHECKING:
    from gutscore_rs.manager import ResourceManager

REFRESH = 0.25


class Progress:
    """Steps with a tick each, a bar of living workers, and the driver's own line."""

    def __init__(self) -> None:
        self._console = console(err=True)
        self._live: Live | None = None
        self._began = time.monotonic()
        self._step = ""
        self._driver = ""
        self._active = self._expected = 0
        self._watching: threading.Event | None = None
        self._thread: threading.Thread | None = None
        self._last_line = ""

    def step(self, text: str) -> None:
        """A new step begins."""
        self._step = text
        if self._console.is_terminal:
            if self._live is None:
                self._live = Live(
                    console=self._console, get_renderable=self._render, refresh_per_second=8, transient=True
                )
                self._live.start()
        else:
            self.say(f"{text} ...")

    def done(self, text: str) -> None:
        """The step is over."""
        self._console.print(f"[green]✓[/green] {text}" if self._console.is_terminal else f"  {text}")

    def failed(self, text: str) -> None:
        """The step failed."""
        self._console.print(Text(text, style="red"))

    def say(self, text: str) -> None:
        """A line of its own."""
        self._console.print(Text(text))

    def workers(self, active: int, expected: int) -> None:
        """How many workers are alive."""
        if (active, expected) != (self._active, self._expected) and not self._console.is_terminal:
            self.say(f"  workers {active}/{expected}")
        self._active, self._expected = active, expected

    def driver(self, text: str) -> None:
        """The driver's word on how far it is."""
        if not self._console.is_terminal and text != self._last_line:
            self.say(f"  {text}")
        self._driver = self._last_line = text

    def watch(self, manager: ResourceManager) -> None:
        """Keep the count of workers fresh while the driver has this thread."""
        self._watching = threading.Event()
        self._thread = threading.Thread(target=self._watch, args=(manager, self._watching), daemon=True)
        self._thread.start()

    def _watch(self, manager: ResourceManager, over: threading.Event) -> None:
        while not over.wait(REFRESH):
            try:
                self._active = manager.count()
            except GutscoreError:
                continue

    def unwatch(self) -> None:
        """The driver is done."""
        if self._watching is not None and self._thread is not None:
            self._watching.set()
            self._thread.join()
        self._watching = self._thread = None

    def close(self) -> None:
        """Take the live display off the terminal."""
        self.unwatch()
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _render(self) -> Table:
        grid = Table.grid(padding=(0, 1))
        seconds = time.monotonic() - self._began
        grid.add_row(Text(f"{seconds:6.1f} s", style="dim"), Text(self._step))
        if self._expected:
            bar = ProgressBar(total=self._expected, completed=min(self._active, self._expected), width=24)
            line = Table.grid(padding=(0, 1))
            line.add_row(bar, Text(f"{self._active}/{self._expected} workers alive"))
            grid.add_row("", line)
        if self._driver:
            grid.add_row("", Text(self._driver, style="cyan"))
        return grid

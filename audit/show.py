"""What `audit.leakage` prints: a line a step while it runs, and the tables at the end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from compiler.commandline import WIDTH, make_console, plain_table, progress_bar
from compiler.report_parts import leakage

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_TITLE_WIDTH = 66


class QuietScreen:
    """Shows nothing."""

    def begin(self, title: str) -> None:
        """Nothing."""

    def progress(self, done: int, total: int) -> None:
        """Nothing."""

    def end(self, seconds: float, note: str = "") -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class Screen:
    """A line a step on any output; a progress bar with the time left besides on a terminal."""

    def __init__(self, stderr: bool = False) -> None:
        self.console = make_console(stderr)
        self.title = ""
        self.bar: Progress | None = None
        self.task: TaskID | None = None

    def begin(self, title: str) -> None:
        """A bar on a terminal; elsewhere the line comes when the step has ended."""
        self.close()
        self.title = title
        if self.console.is_terminal:
            self.bar = progress_bar(self.console)
            self.bar.start()
            self.task = self.bar.add_task(title, total=None)

    def progress(self, done: int, total: int) -> None:
        """Move the bar."""
        if self.bar is not None and self.task is not None:
            self.bar.update(self.task, completed=done, total=total)

    def end(self, seconds: float, note: str = "") -> None:
        """The step's line with its seconds."""
        self.close()
        behind = f"  {note}" if note else ""
        self.console.print(f"{self.title:<{_TITLE_WIDTH}} {seconds:7.1f} s{behind}")

    def close(self) -> None:
        """Take the bar away."""
        if self.bar is not None:
            self.bar.stop()
        self.bar = self.task = None


def show(audit: Mapping[str, Any]) -> None:
    """Print the tables of an audit and the sentence to quote."""
    from rich.padding import Padding
    from rich.text import Text

    console = make_console()
    width = min(console.width, WIDTH)
    console.print()
    console.print(Text(f"Leakage: {leakage.heading(audit)}", style="bold"), width=width)
    for title, columns, rows, left in leakage.tables(audit):
        console.print()
        console.print(Text(title, style="bold cyan"))
        table = plain_table(columns, rows, left)
        console.print(Padding(table, (0, 0, 0, 2), expand=False), width=width)
    console.print()
    for note in leakage.notes(audit):
        console.print(Text(note, style="dim"), width=width)
    console.print()
    for line in (*leakage.verdicts(audit), "", leakage.quote(audit)):
        console.print(Text(line), width=width)

"""What a compile shows: a line a stage, a bar with time left on a terminal, the final table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from compiler.commandline import WIDTH, make_console, progress_bar

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from compiler.pipeline import Stage


class QuietScreen:
    """Shows nothing."""

    def begin(self, stage: Stage) -> None:
        """Nothing."""

    def end(self, stage: Stage, seconds: float) -> None:
        """Nothing."""

    def skip(self, stage: Stage) -> None:
        """Nothing."""

    def progress(self, done: int, total: int) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""

    def finish(self, folder: Path, complete: bool) -> None:
        """Nothing."""


class Screen:
    """Lines on any output; a progress bar besides on a terminal."""

    def __init__(self, stages: Sequence[str], stderr: bool = False) -> None:
        self.console = make_console(stderr)
        self.stages = stages
        self.bar: Progress | None = None
        self.task: TaskID | None = None

    def begin(self, stage: Stage) -> None:
        """A bar on a terminal; elsewhere the line comes when the stage has ended."""
        if not self.console.is_terminal:
            return
        self.bar = progress_bar(self.console)
        self.bar.start()
        roomy = self.console.width >= WIDTH + 10
        self.task = self.bar.add_task(self._label(stage, roomy).rstrip(), total=None)

    def end(self, stage: Stage, seconds: float) -> None:
        """The stage's line with its seconds."""
        self.close()
        self.console.print(f"{self._label(stage)}  {seconds:7.1f} s")

    def skip(self, stage: Stage) -> None:
        """The stage's line, with the word that it was done before."""
        self.console.print(f"{self._label(stage)}  already done")

    def progress(self, done: int, total: int) -> None:
        """Move the bar."""
        if self.bar is not None and self.task is not None:
            self.bar.update(self.task, completed=done, total=total)

    def note(self, text: str) -> None:
        """A line below the stage's."""
        self.console.print(f"        {text}")

    def close(self) -> None:
        """Take the bar away."""
        if self.bar is not None:
            self.bar.stop()
        self.bar = self.task = None

    def finish(self, folder: Path, complete: bool) -> None:
        """The final table, or where the files of a partial run are."""
        from compiler.report import render_table

        if not complete:
            self.console.print(f"stopped as asked; files so far are in {folder}")
            return
        render_table(json.loads((folder / "report.json").read_text()), self.console)

    def _label(self, stage: Stage, titled: bool = True) -> str:
        number = self.stages.index(stage.name) + 1
        title = f" {stage.title:<46}" if titled else ""
        return f"{number:2d}/{len(self.stages)}  {stage.name:<11}{title}"

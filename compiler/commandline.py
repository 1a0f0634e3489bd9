"""What the command lines share: exit statuses, one kind of console and table, results as JSON."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from compiler.allocator import keep_freed_memory
from compiler.distributed import is_main_process
from compiler.errors import (
    EXIT_CANNOT_COMPILE,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_USAGE,
    CompilerError,
    EnvironmentProblem,
    machine_problem,
    one_problem,
)
from compiler.files import written_whole

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

SCRIPTS = "private-snn-"
"""How the names of the installed scripts begin (pyproject.toml, [project.scripts])."""
WIDTH = 100
"""Columns of a table, and of all output that does not go to a terminal."""

STDOUT = Path("-")
"""Stands for the standard output where a file's name is asked for."""

_SHARE_THAT_TELLS = 0.05
"""Below this share of the work the time left is not guessed from the time passed."""

_Command = TypeVar("_Command", bound=Callable[..., Any])


def run_command(
    command: click.Command,
    module: str,
    arguments: Sequence[str] | None = None,
    when_interrupted: str = "interrupted",
) -> int:
    """Run a click command as `python -m MODULE` and return its exit status: 0, 1, 2 or 130.

    arguments: None for those of the process. Errors go to the standard error as text;
    SIGTERM counts as an interrupt. Threads of OpenMP sleep while they wait unless the
    environment says otherwise: where other work shares the cores, waiting busily made
    small tensors ten times slower. Of several processes (compiler.distributed) one prints.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    keep_freed_memory()
    before = _take_signals()
    given = None if arguments is None else list(arguments)
    try:
        status = command.main(given, prog_name=_program(module), standalone_mode=False)
    except click.ClickException as problem:
        if is_main_process():
            problem.show()
        return EXIT_USAGE
    except CompilerError as problem:
        if is_main_process():
            click.echo(f"error: {problem}", err=True)
        return problem.exit_status
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_CANNOT_COMPILE
    except (click.Abort, KeyboardInterrupt):
        click.echo(when_interrupted, err=True)
        return EXIT_INTERRUPTED
    except (MemoryError, OSError, RuntimeError) as error:
        of_machine = machine_problem(error)
        if of_machine is None:
            raise
        click.echo(f"error: {of_machine}", err=True)
        return of_machine.exit_status
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return status if isinstance(status, int) else EXIT_OK


def _program(module: str) -> str:
    """How the command was called: by the script that was installed for it, or as a module."""
    name = Path(sys.argv[0]).name
    return name if name.startswith(SCRIPTS) else f"python -m {module}"


class _Interrupt(KeyboardInterrupt):
    """Raised by a signal; no plain KeyboardInterrupt.

    Where one of those passes through exec() of a string, as in the making of a dataclass,
    Python ends itself by SIGINT whatever exit status is given later (CPython 3.10,
    Python/pythonrun.c, run_eval_code_obj).
    """


def _take_signals() -> dict[int, Any]:
    """Let SIGTERM and, unless it is ignored, SIGINT interrupt; return the handlers before."""
    before: dict[int, Any] = {signal.SIGTERM: signal.signal(signal.SIGTERM, _interrupt)}
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        before[signal.SIGINT] = signal.signal(signal.SIGINT, _interrupt)
    return before


def _interrupt(number: int, frame: Any) -> None:
    raise _Interrupt


def make_console(stderr: bool = False) -> Console:
    """A console as wide as the terminal, and WIDTH columns wide where there is no terminal.

    Colours and bars only on a terminal; with NO_COLOR set no colours there either.
    """
    from rich.console import Console

    console = Console(highlight=False, stderr=stderr)
    if not console.is_terminal:
        console.width = WIDTH
    return console


def progress_bar(console: Console) -> Progress:
    """A bar with its share, the time passed and the time left, gone when it is done.

    A task without a total, or without progress yet, shows the time passed alone.
    """
    from rich.progress import (
        BarColumn,
        Progress,
        ProgressColumn,
        Task,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
    )
    from rich.text import Text

    class Left(ProgressColumn):
        """The time left if it goes on as it did on the whole; parts may differ in speed."""

        def render(self, task: Task) -> Text:
            share = task.completed / task.total if task.total else 0.0
            if share < _SHARE_THAT_TELLS or task.elapsed is None:
                return Text("")
            left = timedelta(seconds=round(task.elapsed * (1 - share) / share))
            return Text(f"{left} left")

    description, bar = TextColumn("{task.description}"), BarColumn(bar_width=12)
    columns = (description, bar, TaskProgressColumn(), TimeElapsedColumn(), Left())
    return Progress(*columns, console=console, transient=True)


def plain_table(columns: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> Table:
    """A table without a frame; the first `left` columns are text, the others numbers.

    Columns without any title make a table without a head.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        show_edge=False,
        show_header=any(columns),
        header_style="bold",
    )
    for index, column in enumerate(columns):
        justify: Any = "left" if index < left else "right"
        table.add_column(column, justify=justify, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def json_option(what: str = "the result") -> Callable[[_Command], _Command]:
    """The flag `--json FILE` of a command, passed to it as `json_file`."""
    words = f"Write {what} as JSON too; for `-` to the standard output, and nothing else there."
    kind = click.Path(path_type=Path)
    return click.option("--json", "json_file", type=kind, metavar="FILE", help=words)


def to_stdout(json_file: Path | None) -> bool:
    """Whether JSON was asked for on the standard output, which then holds nothing else."""
    return json_file == STDOUT


def write_json(path: Path, value: Any) -> None:
    """Write JSON under a temporary name, then rename it; to the standard output for `-`.

    Raises EnvironmentProblem where the file cannot be written.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    if to_stdout(path):
        click.echo(text, nl=False)
        return
    try:
        with written_whole(path) as beside:
            beside.write_text(text, encoding="utf-8")
    except OSError as problem:
        raise _unwritable(path, problem.strerror or str(problem)) from problem


def check_writable(path: Path) -> None:
    """EnvironmentProblem unless `path` can be written, before a long run rather than after it."""
    if to_stdout(path):
        return
    if path.is_dir():
        raise _unwritable(path, "a folder")
    if not os.access(path.parent, os.W_OK):
        raise _unwritable(path, f"a folder {path.parent} that cannot be written")


def _unwritable(path: Path, found: str) -> CompilerError:
    return one_problem(
        EnvironmentProblem,
        "the result cannot be written",
        str(path),
        found,
        "a file in a folder that exists and can be written",
        "choose another file",
    )

"""What command lines show while they run: bars on a terminal alone, colours unless NO_COLOR."""

from __future__ import annotations

import errno
import io
import json
import re
from pathlib import Path
from typing import Any

import click
import pytest
from rich.console import Console

from compiler import commandline, screen
from compiler.commandline import (
    check_writable,
    json_option,
    make_console,
    progress_bar,
    run_command,
    to_stdout,
    write_json,
)
from compiler.pipeline import STAGES

NAMES = tuple(stage.name for stage in STAGES)
CODES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


def terminal(width: int, **environment: str) -> Console:
    return Console(
        file=io.StringIO(),
        force_terminal=True,
        width=width,
        highlight=False,
        _environ={"TERM": "xterm-256color", **environment},
    )


def shown(console: Console) -> str:
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_bar_says_how_much_time_is_left_on_one_line(
    monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    clock = iter(range(10_000))
    console = terminal(width)
    console.get_time = lambda: float(next(clock))  # type: ignore[method-assign]
    monkeypatch.setattr(screen, "make_console", lambda stderr: console)
    watcher = screen.Screen(NAMES)
    for stage in STAGES:
        watcher.begin(stage)
        for done in range(4):
            watcher.progress(20 * done, 100)
        assert watcher.bar is not None
        watcher.bar.refresh()
        lines = [line for line in re.split(r"[\r\n]", CODES.sub("", shown(console))) if line]
        assert re.search(r"60% \d:\d\d:\d\d \d:\d\d:\d\d left$", lines[-1].rstrip())
        assert max(map(len, lines)) <= width
        watcher.end(stage, 1.0)


def test_without_progress_only_the_time_passed_is_shown() -> None:
    console = terminal(80)
    with progress_bar(console) as bar:
        bar.add_task("waiting", total=None)
        bar.refresh()
    assert "left" not in shown(console) and "-:--" not in shown(console)


def test_the_time_left_is_told_from_the_time_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    console, now = terminal(80), [0.0]
    console.get_time = lambda: now[0]  # type: ignore[method-assign]
    with progress_bar(console) as bar:
        task = bar.add_task("work", total=100)
        for seconds, done, left in ((10.0, 4, None), (30.0, 25, "0:01:30"), (90.0, 75, "0:00:30")):
            now[0] = seconds
            bar.update(task, completed=done)
            bar.refresh()
            last = CODES.sub("", shown(console)).rstrip().splitlines()[-1]
            assert last.endswith(f"{left} left") if left else "left" not in last


def test_no_terminal_no_codes(capsys: pytest.CaptureFixture[str]) -> None:
    watcher = screen.Screen(NAMES)
    watcher.begin(STAGES[0])
    watcher.progress(1, 2)
    watcher.end(STAGES[0], 1.5)
    watcher.note("a word")
    out = capsys.readouterr().out
    assert "\x1b" not in out and "\r" not in out
    assert out.splitlines()[0].endswith("1.5 s")


@pytest.mark.parametrize(("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_no_color(environment: dict[str, str], coloured: bool) -> None:
    console = terminal(80, **environment)
    console.print("[red]word[/red]")
    assert ("\x1b[31m" in shown(console)) == coloured


def test_the_consoles_of_the_command_lines_obey_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert make_console().no_color


def test_a_quiet_screen_says_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    watcher = screen.QuietScreen()
    watcher.begin(STAGES[0])
    watcher.progress(1, 2)
    watcher.note("a word")
    watcher.skip(STAGES[1])
    watcher.end(STAGES[0], 1.0)
    watcher.finish(tmp_path, complete=False)
    watcher.close()
    assert capsys.readouterr() == ("", "")


@click.command()
@json_option()
def command(json_file: Path | None) -> None:
    """Something with a result."""
    if json_file is not None:
        check_writable(json_file)
        write_json(json_file, {"stdout": to_stdout(json_file)})


@pytest.mark.parametrize("where", ["-", "result.json"])
def test_json_to_a_file_or_to_the_standard_output(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_command(command, "thing", ["--json", where]) == 0
    said = capsys.readouterr().out
    text = said if where == "-" else Path(where).read_text()
    assert json.loads(text) == {"stdout": where == "-"}
    assert (said == "") == (where != "-")
    assert [path.name for path in tmp_path.iterdir()] == ([] if where == "-" else [where])


def test_json_that_cannot_be_written_is_refused_first(tmp_path: Path, capsys: Any) -> None:
    assert run_command(command, "thing", ["--json", str(tmp_path)]) == 1
    assert "choose another file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError("Unable to allocate 3 TiB"), "not enough memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "can't allocate"),
        (OSError(errno.ENOSPC, "No space left on device", "model.net"), "model.net"),
        (PermissionError(errno.EACCES, "Permission denied", "kept.json"), "kept.json"),
    ],
)
def test_what_the_machine_lacks_is_told_in_words(error: Exception, words: str, capsys: Any) -> None:
    assert run_command(raising(error), "thing", []) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and words in said and "What to do" in said


@pytest.mark.parametrize("error", [RuntimeError("a bug"), FileNotFoundError(2, "none", "x")])
def test_a_fault_of_ours_is_not_blamed_on_the_machine(error: Exception) -> None:
    with pytest.raises(type(error)):
        run_command(raising(error), "thing", [])


def raising(error: Exception) -> click.Command:
    @click.command()
    def failing() -> None:
        raise error

    return failing


def test_every_stage_has_a_short_line(capsys: pytest.CaptureFixture[str]) -> None:
    watcher = screen.Screen(NAMES)
    for stage in STAGES:
        watcher.skip(stage)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(STAGES) and max(map(len, lines)) <= commandline.WIDTH

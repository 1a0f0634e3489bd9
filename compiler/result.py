"""What a finished compile found, as values of Python."""

from __future__ import annotations

import html
import io
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compiler.errors import DataError, one_problem
from compiler.report import lean, read_report, render_table, report_page

PAGE_PIXELS = 700
"""Height of the report in a notebook."""


class Record(Mapping[str, Any]):
    """A JSON object, read-only; what can be a Python name is an attribute as well.

    `layer.synops_per_sample` and `layer["synops_per_sample"]` are the same; names that are no
    Python names, such as layer "0", take brackets. Objects inside are Records, lists are tuples.
    """

    __slots__ = ("_content",)

    def __init__(self, content: Mapping[str, Any]) -> None:
        self._content = dict(content)

    def __getitem__(self, name: str) -> Any:
        return _read_only(self._content[name])

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._content:
            raise AttributeError(f"no entry {name!r}")
        return self[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._content)

    def __len__(self) -> int:
        return len(self._content)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *(name for name in self._content if name.isidentifier())]

    def __repr__(self) -> str:
        return f"Record({self._content!r})"


def _read_only(value: Any) -> Any:
    if isinstance(value, Mapping):
        return Record(value)
    return tuple(_read_only(item) for item in value) if isinstance(value, list) else value


@dataclass(frozen=True, eq=False)
class CompileResult:
    """A finished compile: the content of report.json by attribute, and where its files are.

    Every top-level field of report.json (docs/report.md) is an attribute: `model`, `stages`,
    `layers`, `energy`, `latency`, `resources`, `timing`, `health`, `warnings` and so on; objects
    are Records, lists tuples. What was not measured is None. `print(result)` shows the tables
    of the command line, and a notebook shows the page. folder: DIR of the compile.
    """

    folder: Path
    _shown: dict[str, Any] = field(repr=False)

    @property
    def model_net(self) -> Path:
        """model.net, which with model.nir, the same network, alone is made to leave the house."""
        return self.folder / "model.net"

    @property
    def report_html(self) -> Path:
        """report.html, for people; it stays in the house."""
        return self.folder / "report.html"

    @property
    def report(self) -> dict[str, Any]:
        """The content of report.json: dicts, lists, strings, numbers and None; a new copy."""
        return deepcopy(lean(self._shown))

    @property
    def accuracy(self) -> dict[str, float | None]:
        """Stage -> share of right answers, 0..1; None without labelled images.

        Stages: ann, converted, encrypted, integer, and lava where it was run (on few images).
        """
        return {stage["name"]: stage["accuracy"] for stage in self._shown["stages"]}

    @property
    def ann_agreement(self) -> dict[str, float]:
        """Stage -> share of answers that are the trained network's, 0..1."""
        return {stage["name"]: stage["ann_agreement"] for stage in self._shown["stages"]}

    @property
    def agreement(self) -> Record:
        """The proof: `slayer_vs_reference` and `reference_vs_lava`, each with samples, spikes
        and mismatches (0 in every finished compile), None where nothing was compared.
        """
        return Record(self._shown["agreement"])

    def to_html(self, path: str | Path | None = None) -> str:
        """The text of report.html, one page that loads nothing; written to `path` too if given."""
        text = report_page(self._shown)
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        return text

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._shown:
            raise AttributeError(f"neither a field of report.json nor of the result: {name!r}")
        return _read_only(lean(self._shown)[name] if name == "resources" else self._shown[name])

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._shown]

    def __str__(self) -> str:
        from rich.console import Console

        from compiler.commandline import WIDTH

        text = io.StringIO()
        console = Console(
            file=text,
            width=WIDTH,
            highlight=False,
            force_terminal=False,
            force_jupyter=False,  # rich would else display the tables beside, not return them
            color_system=None,
        )
        render_table(self._shown, console)
        return text.getvalue()

    def _repr_html_(self) -> str:
        """The page for a notebook, in a frame of its own so that its style stays inside."""
        page = html.escape(self.to_html(), quote=True)
        return (
            f'<iframe srcdoc="{page}" sandbox title="report" '
            f'style="width: 100%; height: {PAGE_PIXELS}px; border: 0"></iframe>'
        )


def read_result(folder: str | Path) -> CompileResult:
    """The result of a compile that has finished, by API or command line, in folder DIR.

    With an audit of its model.net there is a field `leakage` besides.
    Raises DataError where there is no complete report.
    """
    place = Path(folder)
    try:
        return CompileResult(place, read_report(place))
    except (OSError, ValueError, KeyError) as problem:
        raise one_problem(
            DataError,
            "no finished compile to read",
            str(place),
            f"{type(problem).__name__}: {problem}",
            "a folder with report.json and resources.json",
            "name the folder of a compile that ran to the stage `report`, or compile again",
        ) from problem

"""The table that ends a compile in the terminal, at most 100 columns wide."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from compiler.report_parts import cells, words
from compiler.report_parts.words import Report

WIDTH = 100

Row = Sequence[str]


def sections(report: Report) -> Iterable[tuple[str, RenderableType]]:
    """Titles and contents, in order; a section without content is left out."""
    makers: tuple[tuple[str, Callable[[Report], RenderableType | None]], ...] = (
        ("Accuracy", _accuracy),
        ("Every spike compared", _agreement),
        ("Operations a sample", _operations),
        ("Dynamic energy an inference", _energy),
        ("Cores", _cores),
        ("What the weights give away", _privacy),
        ("Health", _health),
        ("Files", _files),
    )
    for title, make in makers:
        content = make(report)
        if content is not None:
            yield title, content


def render(report: Report, console: Console) -> None:
    """Print the report; colours and lines are the console's business."""
    width = min(console.width, WIDTH)
    console.print(Text(words.heading(report), style="bold"), width=width)
    for title, content in sections(report):
        console.print()
        console.print(Text(title, style="bold cyan"))
        console.print(Padding(content, (0, 0, 0, 2), expand=False), width=width)
    console.print()
    console.print(words.summary(report), width=width, highlight=False)


def _table(columns: Sequence[str], rows: Iterable[Row], left: int = 1) -> Table:
    """A plain table; the first `left` columns are text, the others numbers."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i < left else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def _accuracy(report: Report) -> RenderableType | None:
    stages = report.get("stages")
    if not stages:
        return None
    why = words.why_no_accuracy(report)
    rows = [
        (
            words.stage_title(stage["name"]),
            words.percent(stage.get("accuracy")),
            words.percent(stage.get("ann_agreement")),
            words.count(stage.get("samples")),
            words.count(stage.get("timesteps")) if stage.get("timesteps") else "-",
        )
        for stage in stages
    ]
    parts: list[RenderableType] = [
        _table(("stage", "accuracy", "agrees with ANN", "samples", "T"), rows)
    ]
    if all(stage.get("accuracy") is None for stage in stages):
        parts.append(Text(f"Accuracy not measured: {why}."))
    parts.append(Text(f"Measured on {words.images_in_words(report)}."))
    return Group(*parts)


def _agreement(report: Report) -> RenderableType | None:
    rows = cells.agreement(report)
    return _table(cells.AGREEMENT, rows) if rows else None


def _operations(report: Report) -> RenderableType | None:
    if not report.get("layers"):
        return None
    keys = ["neurons", "macs", "spikes_per_sample", "synops_per_sample"]
    rows = cells.operations(report, [*keys, "synops_effective_per_sample"])
    columns = ("layer", "kind", "neurons", "MACs of ANN", "spikes", "synops on chip", "effective")
    return _table(columns, rows, left=2)


def _energy(report: Report) -> RenderableType | None:
    rows = cells.energy(report)
    if not rows:
        return None
    notes = cells.energy_notes(report, sources=False)
    return Group(
        _table(cells.ENERGY, rows, left=2),
        *(Text(note, style="dim") for note in notes),
        *(Text(line) for line in words.claim(report)),
    )


def _cores(report: Report) -> RenderableType | None:
    chips = report.get("resources")
    if not chips:
        return None
    rows = []
    for chip in chips:
        limit = chip.get("limits", {}).get("cores", {}).get("value")
        rows.append(
            (
                chip.get("title", chip["chip"]),
                words.count(chip["cores"]),
                words.count(limit) if limit else "-",
                "yes" if chip["fits"] else "no",
                words.fullest_core(chip),
            )
        )
    table = _table(("chip", "cores", "of a chip", "fits", "fullest core"), rows)
    broken = [Text(line) for line in words.broken_rules(report)]
    return Group(table, *broken)


def _privacy(report: Report) -> RenderableType | None:
    if not report.get("encryption"):
        return None
    why = words.why_no_accuracy(report)
    scores = [(name, words.percent(value, why)) for name, value in cells.read_out_again(report)]
    changes = cells.weight_changes(report)
    parts = [_table(("weights of", "changed by training"), changes)] if changes else []
    return Group(*parts, _table(("put back into an ordinary network", "accuracy"), scores))


def _health(report: Report) -> RenderableType | None:
    lines = words.health(report)
    warnings = report.get("warnings") or ()
    if not lines and not warnings:
        return None
    return Group(
        *(Text(line) for line in lines),
        *(Text(f"warning: {warning}", style="yellow") for warning in warnings),
    )


def _files(report: Report) -> RenderableType | None:
    files = report.get("files")
    if not files:
        return None
    rows = [(cells.leaves(entry), entry["path"], entry.get("what", "")) for entry in files]
    return _table(("", "file", "what it is"), rows, left=3)

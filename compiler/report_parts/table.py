"""The table that ends a compile in the terminal, at most 100 columns wide."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePath

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from compiler import quantities
from compiler.commandline import WIDTH, plain_table
from compiler.report_parts import cells, words
from compiler.report_parts.words import Report

Row = Sequence[str]


def sections(report: Report) -> Iterable[tuple[str, RenderableType]]:
    """Titles and contents, in order; a section without content is left out."""
    makers: tuple[tuple[str, Callable[[Report], RenderableType | None]], ...] = (
        ("Accuracy", _accuracy),
        ("Every spike compared", _agreement),
        ("What the weights give away", _privacy),
        ("Operations a sample", _operations),
        ("Dynamic energy an inference", _energy),
        ("Latency an inference", _latency),
        ("Cores", _cores),
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


def _accuracy(report: Report) -> RenderableType | None:
    stages = report.get("stages")
    if not stages:
        return None
    why = words.why_no_accuracy(report)
    rows = [
        (
            words.stage_title(stage["name"]),
            quantities.percent(stage.get("accuracy")),
            quantities.percent(stage.get("ann_agreement")),
            quantities.count(stage.get("samples")),
            quantities.count(stage.get("timesteps")) if stage.get("timesteps") else "-",
        )
        for stage in stages
    ]
    parts: list[RenderableType] = [
        plain_table(("stage", "accuracy", "agrees with ANN", "samples", "T"), rows)
    ]
    if all(stage.get("accuracy") is None for stage in stages):
        parts.append(Text(f"Accuracy not measured: {why}."))
    parts.append(Text(f"Measured on {words.images_in_words(report)}.", style="dim"))
    choice = (report.get("conversion") or {}).get("timestep_choice")
    if choice:
        parts.append(Text(words.timestep_choice(choice)))
    return Group(*parts)


def _agreement(report: Report) -> RenderableType | None:
    rows = cells.agreement(report)
    if not rows:
        return None
    return Group(plain_table(cells.AGREEMENT, rows), Text(words.COMPARED_NOTE, style="dim"))


def _operations(report: Report) -> RenderableType | None:
    if not report.get("layers"):
        return None
    keys = ["neurons", "macs", "spikes_per_sample", "synops_per_sample"]
    rows = cells.operations(report, [*keys, "synops_effective_per_sample"])
    columns = ("layer", "kind", "neurons", "MACs of ANN", "spikes", "synops on chip", "effective")
    return plain_table(columns, rows, left=2)


def _energy(report: Report) -> RenderableType | None:
    rows = cells.energy(report)
    if not rows:
        return None
    notes = cells.energy_notes(report, sources=False)
    return Group(
        plain_table(cells.ENERGY, rows, left=2),
        *(Text(note, style="dim") for note in notes),
        *(Text(line) for line in words.claim(report)),
    )


def _latency(report: Report) -> RenderableType | None:
    rows = cells.latency(report)
    if not rows:
        return None
    notes = cells.latency_notes(report, sources=False)
    return Group(plain_table(cells.LATENCY, rows), *(Text(note, style="dim") for note in notes))


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
                quantities.count(chip["cores"]),
                quantities.count(limit) if limit else "-",
                "yes" if chip["fits"] else "no",
                words.fullest_core(chip),
            )
        )
    table = plain_table(("chip", "cores", "of a chip", "fits", "fullest core"), rows)
    broken = [Text(line) for line in words.broken_rules(report)]
    return Group(table, *broken)


def _privacy(report: Report) -> RenderableType | None:
    if not report.get("encryption"):
        return None
    scores = [
        (name, quantities.percent(accuracy), quantities.percent(agreement))
        for name, accuracy, agreement in cells.read_out_again(report)
    ]
    changes = cells.weight_changes(report)
    parts: list[RenderableType] = [
        plain_table(("put back into an ordinary network", "accuracy", "agrees with ANN"), scores)
    ]
    if changes:
        parts += ["", plain_table(("weights of", "changed by training"), changes)]
    return Group(*parts, Text(words.OBFUSCATION, style="dim"))


def _health(report: Report) -> RenderableType | None:
    lines = words.health(report)
    warnings = words.other_warnings(report)
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
    paths = [PurePath(entry["path"]) for entry in files]
    folders = {path.parent for path in paths}
    shared = folders.pop() if len(folders) == 1 else None
    rows = [
        (cells.leaves(entry), str(path if shared is None else path.name), entry.get("what", ""))
        for entry, path in zip(files, paths, strict=True)
    ]
    title = "file" if shared is None else f"in {shared}"
    return plain_table(("", title, "what it is"), rows, left=3)

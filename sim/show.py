"""What `sim.run` prints."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compiler import commandline, quantities
from compiler.commandline import WIDTH, make_console, plain_table
from sim import tables

if TYPE_CHECKING:
    from rich.console import RenderableType

BACKENDS = {
    "reference": "the integer simulator",
    "lava": "Lava, fixed point on the CPU",
    "loihi2": "a Loihi 2",
}
_KEYS = (
    "neurons",
    "macs",
    "spikes_per_sample",
    "synops_per_sample",
    "synops_effective_per_sample",
)
_COLUMNS = ("layer", "kind", "neurons", "MACs as ANN", "spikes", "synops on chip", "effective")
_ANN = (
    "The ANN of this table has this file's own layers: pooling that was folded into a kernel "
    "counts as the larger kernel."
)


def show(figures: Mapping[str, Any]) -> None:
    """Print the result of sim.measure.measure on the standard output."""
    from rich.padding import Padding
    from rich.text import Text

    console = make_console()
    width = min(console.width, WIDTH)
    console.print(Text(_heading(figures), style="bold"), width=width)
    for title, parts in _sections(figures):
        console.print()
        console.print(Text(title, style="bold cyan"))
        for part in parts:
            console.print(Padding(part, (0, 0, 0, 2), expand=False), width=width)
    notes = figures["notes"]
    if notes:
        console.print()
    for note in notes:
        console.print(Text(f"note: {note}", style="yellow"), width=width)


def _heading(figures: Mapping[str, Any]) -> str:
    code = figures["encoding"]
    how = f"{code} code" if code in ("rate", "poisson", "latency") else code
    return (
        f"{Path(figures['network']).name} in {BACKENDS[figures['backend']]}: "
        f"{quantities.count(figures['samples'])} images of {figures['data']}, "
        f"T = {figures['timesteps']}, {how}"
    )


def _sections(
    figures: Mapping[str, Any],
) -> Iterator[tuple[str, list[RenderableType]]]:
    from rich.text import Text

    yield "Result", [plain_table(("", ""), _result(figures))]
    if "chip" in figures:
        yield "On the chip", [plain_table(("", ""), _on_chip(figures["chip"]))]
    rows = tables.operations(figures["layers"], _KEYS)
    yield "Operations a sample", [plain_table(_COLUMNS, rows, left=2)]
    notes = [*tables.energy_notes(figures["energy"], sources=False), _ANN]
    yield (
        "Dynamic energy an inference",
        [
            plain_table(tables.ENERGY_COLUMNS, tables.energy(figures["energy"]), left=2),
            *(Text(note, style="dim") for note in notes),
        ],
    )
    said = tables.latency_notes(figures["latency"], sources=False)
    yield (
        "Latency an inference",
        [
            plain_table(tables.LATENCY_COLUMNS, tables.latency(figures["latency"])),
            *(Text(note, style="dim") for note in said),
        ],
    )


def _result(figures: Mapping[str, Any]) -> list[tuple[str, str]]:
    count = quantities.count
    clips = figures["voltage_saturations"]
    why = "Lava does not report them"
    rows = [
        ("accuracy", quantities.percent(figures["accuracy"])),
        ("right answers", f"{count(figures['correct'])} of {count(figures['samples'])}"),
        ("spikes a sample", count(figures["spikes_per_sample"])),
        ("synaptic operations a sample", count(figures["synops_per_sample"])),
        ("samples a second", count(figures["samples_per_second"])),
        ("seconds", f"{figures['seconds']:.2f}"),
    ]
    if figures["read_out"] == "voltage":
        rows.append(("spikes of the read-out (must be 0)", count(figures["readout_spikes"])))
    return [*rows, ("clips of a voltage (must be 0)", count(clips, why))]


def _on_chip(chip: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What sim.loihi2.describe found."""
    same, delays = chip["agreement"], chip["latency"]
    found = chip["measured"] or {}
    rows = [
        ("samples with the simulator's logits", f"{same['same_logits']} of {same['samples']}"),
        ("with its class", f"{same['same_predictions']} of {same['samples']}"),
        (
            "steps of delay: input, spikes, states",
            ", ".join(str(steps) for steps in delays.values()),
        ),
        ("time a step", quantities.latency(found.get("seconds_per_step"))),
        ("time a sample", quantities.latency(found.get("seconds_per_sample"))),
        ("power of the board", _watts(found.get("total_watts"))),
        ("of it static", _watts(found.get("static_watts"))),
        ("energy a sample", quantities.joules(found.get("joules_per_sample"))),
        ("of it dynamic", quantities.joules(found.get("dynamic_joules_per_sample"))),
    ]
    return rows


def _watts(value: float | None) -> str:
    return quantities.missing() if value is None else f"{value:.3g} W"


@contextmanager
def progress_bar(wanted: bool) -> Iterator[Callable[[int, int], None] | None]:
    """A bar on the standard error while samples run; None where nobody would see it."""
    console = make_console(stderr=True)
    if not wanted or not console.is_terminal:
        yield None
        return
    with commandline.progress_bar(console) as bar:
        task = bar.add_task("running", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)

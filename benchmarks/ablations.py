"""`python -m benchmarks.ablations SUBJECT --out DIR`: accuracy against one setting at a time.

Every point is a whole compile with one setting changed from the defaults, measured on real test
images, which nothing before the measurement reads. Writes DIR/ablations.json, a table and
DIR/ablations.svg. An interrupted run goes on where it stopped.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from benchmarks.compiles import (
    accuracies,
    compile_like,
    report_of,
    spread,
    subject_flags,
    subject_name,
    synops,
    whole_numbers,
)

HELD_OUT = 512

Flags = tuple[str, ...]


@dataclass(frozen=True)
class Axis:
    """What is changed: flags of the compile by the name of each point; `()` are the defaults.

    numbers: the names are numbers in order.
    """

    title: str
    points: Mapping[str, Flags]
    numbers: bool = True


def _set(**settings: object) -> Flags:
    """`--set` flags; a__b stands for table a, setting b."""
    return tuple(
        part
        for name, value in settings.items()
        for part in ("--set", f"{name.replace('__', '.')}={value}")
    )


def _counts(*numbers: int) -> dict[str, Flags]:
    held_out = {"synthesize__held_out": HELD_OUT}
    return {str(n): _set(synthesize__count=n + HELD_OUT, **held_out) for n in numbers}


_SMOOTHED = {"synthesize__smoothness": 1.0, "synthesize__learning_rate": 0.04}

AXES: Mapping[str, Axis] = {
    "images": Axis(
        "synthetic images to train on", _counts(500, 1000, 2000, 5000, 10_000, 20_000),
    ),
    "synthesis": Axis(
        "how the images are made",
        {
            "defaults": (),
            "start images": _set(synthesize__steps=1, synthesize__learning_rate=1e-6),
            "temperatures 1 to 20": _set(
                synthesize__temperature_low=1.0, synthesize__temperature_high=20.0
            ),
            "published loss": _set(
                synthesize__temperature_low=20.0, synthesize__temperature_high=20.0,
                synthesize__concentrations="[1.0]", synthesize__steps=12,
                synthesize__learning_rate=0.2,
            ),
            "smoothed": _set(**_SMOOTHED),
            "smoothed with less contrast": _set(**_SMOOTHED, encrypt__lowest_contrast=0.3),
        },
        numbers=False,
    ),
    "percentile": Axis(
        "threshold at this percentile",
        {
            str(p): _set(convert__percentiles=f"[{p}]", convert__threshold_scales="[1.0]")
            for p in (90.0, 95.0, 99.0, 99.9, 100.0)
        },
    ),
    "learning_rate": Axis(
        "learning rate of the training",
        {str(rate): _set(encrypt__learning_rate=rate) for rate in (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)},
    ),
    "relative_rate": Axis(
        "learning rate in units of the layer's weights",
        {
            str(rate): _set(encrypt__learning_rate=rate, encrypt__learning_rate_unit="weights")
            for rate in (5e-4, 1e-3, 2e-3, 5e-3, 1e-2)
        },
    ),
    "epochs": Axis(
        "epochs of the training",
        {str(n): _set(encrypt__epochs=n, encrypt__patience=n) for n in (1, 2, 4, 8, 16)},
    ),
    "input_code": Axis(
        "input code", {code: ("--encoding", code) for code in ("rate", "poisson", "latency")},
        numbers=False,
    ),
}  # fmt: skip

MEASURED = ("converted", "integer")


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("subject", default="digits")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of all runs.")
@click.option("--only", help=f"Comma-separated, of {', '.join(AXES)} [all].")
@click.option("--seeds", default="0,1,2", show_default=True)
@click.option("--samples", type=click.IntRange(1), help="Test images of a compile [all].")
@click.option("--timesteps", type=int, default=32, show_default=True)
def ablations(subject: str, out: Path, **options: Any) -> None:
    """Compile SUBJECT, a preset or a configuration FILE.toml, with one setting changed at a time.

    Every seed has its own run of each.
    """
    from compiler.commandline import make_console, plain_table, write_json

    chosen = _chosen(options["only"])
    rows: list[dict[str, Any]] = []
    for seed in whole_numbers(options["seeds"]):
        flags: Flags = (*subject_flags(subject), "--seed", str(seed), "--lava-samples", "0",
                 "--timesteps", str(options["timesteps"]))  # fmt: skip
        if options["samples"]:
            flags += ("--samples", str(options["samples"]))
        first = out / f"{subject_name(subject)}-defaults-{seed}"
        compile_like(first, first, *flags)
        for name, axis in chosen.items():
            for point, changed in axis.points.items():
                folder = out / f"{subject_name(subject)}-{name}-{point.replace(' ', '-')}-{seed}"
                compile_like(folder, first, *flags, *changed)
                measured = _figures(report_of(folder))
                rows.append({"axis": name, "point": point, "seed": seed, **measured})
                click.echo(f"{axis.title}: {point}, seed {seed}: {_brief(rows[-1])}", err=True)
                write_json(out / "ablations.json", {"subject": subject, **options, "rows": rows})
    make_console().print(plain_table(_TITLES, _table(chosen, rows)))
    draw(subject_name(subject), chosen, rows, out / "ablations.svg")


def _chosen(only: str | None) -> dict[str, Axis]:
    names = only.split(",") if only else list(AXES)
    unknown = [name for name in names if name not in AXES]
    if unknown:
        raise click.UsageError(f"--only {', '.join(unknown)}: known are {', '.join(AXES)}")
    return {name: AXES[name] for name in names}


def _figures(report: dict[str, Any]) -> dict[str, Any]:
    return {
        "accuracy": accuracies(report),
        "reconverted": report["encryption"]["reconverted"],
        "synops": synops(report),
        "samples": report["evaluation"]["samples"],
    }


def _brief(row: dict[str, Any]) -> str:
    return ", ".join(f"{name} {row['accuracy'][name]:.2%}" for name in MEASURED)


_TITLES = ["changed", "to", "ANN", "converted", "integers", "plain ReLU", "SynOps"]


def _table(chosen: Mapping[str, Axis], rows: list[dict[str, Any]]) -> list[list[str]]:
    return [
        [
            axis.title,
            point,
            *(
                spread(100 * row["accuracy"][stage] for row in found)
                for stage in ("ann", *MEASURED)
            ),
            spread(100 * row["reconverted"]["relu"] for row in found),
            spread((row["synops"] for row in found), 0),
        ]
        for name, axis in chosen.items()
        for point, found in _by_point(name, axis, rows).items()
    ]


def _by_point(name: str, axis: Axis, rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    of_axis = [row for row in rows if row["axis"] == name]
    return {point: [row for row in of_axis if row["point"] == point] for point in axis.points}


def draw(name: str, chosen: Mapping[str, Axis], rows: list[dict[str, Any]], path: Path) -> None:
    """A panel for every axis: mean accuracy and the seeds' standard deviation at each point."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = name  # the same figures, the same bytes
    from matplotlib import pyplot

    columns = min(3, len(chosen))
    lines = -(-len(chosen) // columns)
    figure, panels = pyplot.subplots(
        lines, columns, figsize=(3.8 * columns, 3.2 * lines), layout="constrained", squeeze=False
    )
    for panel in panels.flat[len(chosen) :]:
        panel.set_axis_off()
    for panel, (key, axis) in zip(panels.flat, chosen.items(), strict=False):
        _panel(panel, axis, _by_point(key, axis, rows))
    figure.supylabel(f"accuracy of {name}, %", fontsize="medium")
    shown = panels.flat[0].get_legend_handles_labels()
    figure.legend(*shown, loc="outside upper center", ncols=len(shown[0]))
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


LEAST_SPAN = 3.0
"""Points of accuracy that a panel spans at least: noise should not look like a finding."""


def _panel(panel: Any, axis: Axis, by_point: dict[str, list[dict[str, Any]]]) -> None:
    places = range(len(by_point))
    for stage, style in zip(MEASURED, ("--", "-"), strict=True):
        values = [[100 * row["accuracy"][stage] for row in rows] for rows in by_point.values()]
        deviations = [statistics.stdev(v) if len(v) > 1 else 0.0 for v in values]
        label = {"converted": "converted", "integer": "trained, integers"}[stage]
        means = [statistics.mean(v) for v in values]
        line = style if axis.numbers else ""
        panel.errorbar(places, means, deviations, linestyle=line, marker="o", label=label,
                       capsize=3)  # fmt: skip
    ann = statistics.mean(
        100 * row["accuracy"]["ann"] for rows in by_point.values() for row in rows
    )
    panel.axhline(ann, color="grey", linestyle=":", label="ANN")
    low, high = panel.get_ylim()
    more = max(0.0, LEAST_SPAN - (high - low)) / 2
    panel.set_ylim(low - more, high + more)
    turned = {} if axis.numbers else {"rotation": 20, "ha": "right", "rotation_mode": "anchor"}
    panel.set_xticks(places, list(by_point), fontsize="small", **turned)
    panel.set_title(axis.title, fontsize="medium")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    from compiler.commandline import run_command

    return run_command(ablations, "benchmarks.ablations", arguments)


if __name__ == "__main__":
    sys.exit(main())

"""`python -m benchmarks.privacy PRESET --out DIR`: what every recipe hides and what it costs.

Each recipe is compiled for every seed and audited (`audit.leakage`); a run's ANN, converted and
random networks are those of the seed's first recipe, so that their attacks are made once. Writes
DIR/privacy.json, a table, and DIR/privacy.svg: the worst attack's recognition rate against
accuracy. An interrupted run goes on where it stopped.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from benchmarks.compiles import (
    ENERGY_MODEL,
    chip_joules,
    compile_like,
    report_of,
    run,
    spread,
    synops,
    whole_numbers,
)

SUBJECTS = ("ann", "converted", "random")
TRAINED = "encrypted"
SPLIT = "split"
"""The default recipe's network whose first layer the attacker has not (compiler.split)."""

PUBLISHED = "published"
"""The published method in float (audit.privatesnn), which no file holds and no chip runs."""


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("preset", default="digits")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of all runs.")
@click.option("--recipes", help="Comma-separated [all; split: the first layer withheld; published: "
              "the published method in float].")  # fmt: skip
@click.option("--seeds", default="0,1,2", show_default=True)
@click.option("--samples", type=click.IntRange(1), help="Test images of a compile [all].")
@click.option("--ann", type=click.Path(path_type=Path), metavar="FILE",
              help="ANN without biases for `published` [the one kept].")  # fmt: skip
@click.option("--collect", is_flag=True, help="Run nothing: gather what is finished in --out.")
@click.option("--full", is_flag=True, help="The audit's full budgets instead of --quick.")
def privacy(preset: str, out: Path, **options: Any) -> None:
    """Compile and audit PRESET with every recipe and seed."""
    from compiler.commandline import make_console, plain_table, write_json
    from compiler.recipes import RECIPES

    recipes = options["recipes"].split(",") if options["recipes"] else [*RECIPES, SPLIT, PUBLISHED]
    seeds = whole_numbers(options["seeds"])
    rows: list[dict[str, Any]] = []
    for seed in seeds:
        for recipe in recipes:
            folder = out / f"{preset}-{recipe}-{seed}"
            if options["collect"] and not (folder / _result(recipe)).is_file():
                raise click.ClickException(f"{folder} is not finished: run it without --collect")
            if not options["collect"]:
                first = out / f"{preset}-{recipes[0]}-{seed}"
                _make(preset, recipe, seed, folder, first, options)
            find = _published_figures if recipe == PUBLISHED else _figures
            figures = find(folder, json.loads((folder / _result(recipe)).read_text()))
            rows.append({"recipe": recipe, "seed": seed, **figures})
            click.echo(_brief(rows[-1]), err=True)
            write_json(out / "privacy.json", {"preset": preset, "quick": not options["full"],
                                              "rows": rows})  # fmt: skip
    console = make_console()
    console.print(plain_table(_TITLES, [_row(recipe, rows) for recipe in recipes]))
    console.print(plain_table(["attack", *recipes], list(_attacks(recipes, rows))))
    draw(rows, preset, out / "privacy.svg")


def _make(
    preset: str, recipe: str, seed: int, folder: Path, first: Path, options: dict[str, Any]
) -> None:
    """Compile and audit into `folder`, with what the seed's first run has already made."""
    effort = [] if options["full"] else ["--quick"]
    if recipe == PUBLISHED:
        ann = ["--ann", str(options["ann"])] if options["ann"] else []
        run("audit.privatesnn", "--preset", preset, *ann, "--out", str(folder), "--seed", str(seed),
            "--quiet", *effort)  # fmt: skip
        return
    samples = ["--samples", str(options["samples"])] if options["samples"] else []
    chosen = [] if recipe == SPLIT else ["--recipe", recipe]
    compile_like(folder, first, "--preset", preset, *chosen, "--seed", str(seed), *samples)
    withheld = ["--withheld", "1"] if recipe == SPLIT else []
    run("audit.leakage", str(folder), "--seed", str(seed), "--quiet", *effort, *withheld)


def _result(recipe: str) -> str:
    """Name of the file with the audit's result."""
    from compiler.report import audit_file

    return audit_file(1 if recipe == SPLIT else 0)


def _figures(folder: Path, audit: dict[str, Any]) -> dict[str, Any]:
    """What the table needs of report.json and the audit."""
    report = report_of(folder)
    return {
        "accuracy": {stage["name"]: stage["accuracy"] for stage in report["stages"]},
        "mismatches": {
            name: row and row["mismatches"] for name, row in report["agreement"].items()
        },
        "weight_change": report["encryption"]["weight_change"],
        "synops": synops(report),
        "snn_joules": chip_joules(report),
        "energy_model": ENERGY_MODEL,
        **_audited(audit),
    }


def _published_figures(folder: Path, audit: dict[str, Any]) -> dict[str, Any]:
    """The same of the published method, as far as it has them: no integers, no energy."""
    stages = audit["privatesnn"]["stages"]
    names = {"ann": "ann", "converted": "converted", "encrypted": "encrypted",
             "integer": "encrypted"}  # fmt: skip
    return {
        "accuracy": {row: stages[stage]["accuracy"] for row, stage in names.items()},
        "weight_change": stages[TRAINED]["weight_change"],
        "synops": None,
        "snn_joules": None,
        **_audited(audit),
    }


def _audited(audit: dict[str, Any]) -> dict[str, Any]:
    kept = ("worst_attack", "worst", "blackbox", "whitebox", "floor", "ceiling", "intervals")
    return {
        "reconverted": audit["subjects"][TRAINED]["reconverted"],
        "membership_auc": {
            name: one["auc"]["value"] for name, one in audit["membership"].items() if "auc" in one
        },
        "attacks": {
            name: {attack: one["recognition"]["value"] for attack, one in entry["attacks"].items()}
            for name, entry in audit["subjects"].items()
            if name in (*SUBJECTS, TRAINED)
        },
        **{name: audit[name] for name in kept},
    }


def _brief(row: dict[str, Any]) -> str:
    return (
        f"{row['recipe']}, seed {row['seed']}: accuracy {row['accuracy']['integer']:.1%} of "
        f"{row['accuracy']['ann']:.1%}, worst attack {row['worst_attack']} {row['worst']:.1%}, "
        f"re-converted {row['reconverted']['relu']:.1%}"
    )


_TITLES = ["recipe", "accuracy lost", "re-converted", "best reading", "worst attack", "ANN's worst",
           "by queries", "floor", "SynOps", "µJ"]  # fmt: skip


def _row(recipe: str, rows: list[dict[str, Any]]) -> list[str]:
    chosen = [row for row in rows if row["recipe"] == recipe]
    return [
        recipe,
        spread(100 * (row["accuracy"]["ann"] - row["accuracy"]["integer"]) for row in chosen),
        spread(100 * row["reconverted"]["relu"] for row in chosen),
        spread(100 * max(row["reconverted"].values()) for row in chosen),
        spread(100 * row["worst"] for row in chosen),
        spread(100 * max(row["attacks"]["ann"].values()) for row in chosen),
        "-" if recipe == SPLIT else spread(100 * row["blackbox"] for row in chosen),
        spread(100 * row["floor"] for row in chosen),
        "-" if recipe == PUBLISHED else spread((row["synops"] for row in chosen), 0),
        "-" if recipe == PUBLISHED else spread(1e6 * row["snn_joules"] for row in chosen),
    ]


def _attacks(recipes: list[str], rows: list[dict[str, Any]]) -> Iterator[list[str]]:
    for attack in rows[0]["attacks"][TRAINED]:
        yield [
            attack,
            *(
                spread(
                    100 * row["attacks"][TRAINED][attack] for row in rows if row["recipe"] == recipe
                )
                for recipe in recipes
            ),
        ]


def draw(rows: list[dict[str, Any]], preset: str, path: Path) -> None:
    """Recognition rate of the worst attack against accuracy, a point for every recipe and seed."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = preset  # the same figures, the same bytes
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6.4, 4.4), layout="constrained")
    for recipe in dict.fromkeys(row["recipe"] for row in rows):
        chosen = [row for row in rows if row["recipe"] == recipe]
        axes.scatter([100 * row["accuracy"]["integer"] for row in chosen],
                     [100 * row["worst"] for row in chosen], label=recipe)  # fmt: skip
    axes.scatter([100 * row["accuracy"]["ann"] for row in rows],
                 [100 * max(row["attacks"]["ann"].values()) for row in rows],
                 marker="x", color="black", label="trained network")  # fmt: skip
    floor = statistics.mean(100 * row["floor"] for row in rows)
    axes.axhline(floor, linestyle=":", color="grey", label="random weights")
    axes.set(xlabel="accuracy on test images, %", ylim=(0, 100), title=preset,
             ylabel="worst attack: images recognised by judges, %")  # fmt: skip
    axes.legend()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    from compiler.commandline import run_command

    return run_command(privacy, "benchmarks.privacy", arguments)


if __name__ == "__main__":
    sys.exit(main())

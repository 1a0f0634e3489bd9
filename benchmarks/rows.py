"""`python -m benchmarks.rows SUBJECT --out DIR`: the method's stages side by side, over T.

The rows of PrivateSNN's tables: the ANN; the network converted with real training images, which
is what the method avoids; converted without data; trained without and with distillation; as the
chip's integers; and, with --privatesnn, the published method itself in float. Every figure is
over real test images. Writes DIR/rows.json and a table; an interrupted run goes on.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from benchmarks.compiles import (
    ENERGY_MODEL,
    accuracies,
    chip_joules,
    compile_like,
    report_of,
    request_of,
    run,
    spread,
    subject_flags,
    subject_name,
    synops,
    training_images,
    whole_numbers,
)

if TYPE_CHECKING:
    from compiler.ir.ann import AnnGraph
    from compiler.ir.chip import ChipGraph

WITHOUT_DISTILLATION = ("--set", "encrypt.distill_share=0", "--set", "encrypt.hidden_weight=0")
PUBLISHED = {"converted": "published, converted",
             "undistilled": "published, trained without distillation",
             "encrypted": "published, trained with distillation"}  # fmt: skip


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("subject", default="digits")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of all runs.")
@click.option("--timesteps", default="16,32,64,128", show_default=True)
@click.option("--seeds", default="0,1,2", show_default=True)
@click.option("--samples", type=click.IntRange(1), help="Test images [all].")
@click.option("--privatesnn", type=click.Path(path_type=Path), metavar="FILE",
              help="Run the published method too, from this ANN without biases; `kept` for "
              "the one in the package.")  # fmt: skip
def rows(subject: str, out: Path, privatesnn: Path | None, **options: Any) -> None:
    """Every stage of SUBJECT, a preset or a configuration FILE.toml, at every T and seed."""
    from compiler.commandline import make_console, plain_table, write_json

    steps = whole_numbers(options["timesteps"])
    if privatesnn is not None:
        _check_published(subject, privatesnn, options["samples"])
    found: list[dict[str, Any]] = []
    for seed in whole_numbers(options["seeds"]):
        for timesteps in steps:
            one: dict[str, Any] = {"seed": seed, "timesteps": timesteps}
            one |= _compiled(subject, out, seed, timesteps, options["samples"])
            if privatesnn is not None:
                one["accuracy"] |= _published(subject, out, seed, timesteps, privatesnn)
            found.append(one)
            click.echo(json.dumps(one), err=True)
            write_json(out / "rows.json", {"subject": subject, **options, "rows": found})
    names = list(found[0]["accuracy"])
    table = [[name, *(_cell(found, name, t, "accuracy") for t in steps)] for name in names]
    table += [["synaptic operations, thousands", *(_cell(found, "synops", t) for t in steps)]]
    table += [[f"dynamic energy, {ENERGY_MODEL}, µJ", *(_cell(found, "joules", t) for t in steps)]]
    table += [["cores of Loihi 1", *(_cell(found, "cores", t) for t in steps)]]
    make_console().print(plain_table(["accuracy, %", *(f"T = {t}" for t in steps)], table))


def _cell(found: list[dict[str, Any]], name: str, timesteps: int, of: str | None = None) -> str:
    unit = {"synops": 1e-3, "joules": 1e6, "cores": 1}.get(name, 100)
    chosen = [row for row in found if row["timesteps"] == timesteps]
    return spread(unit * (row[of] if of else row)[name] for row in chosen)


def _compiled(
    subject: str, out: Path, seed: int, timesteps: int, samples: int | None
) -> dict[str, Any]:
    flags = (*subject_flags(subject), "--seed", str(seed), "--lava-samples", "0")
    flags += ("--samples", str(samples)) if samples else ()
    name = subject_name(subject)
    first = out / f"{name}-{seed}"
    compile_like(first, first, *flags, "--to", "synthesize")
    flags += ("--timesteps", str(timesteps))
    folder = out / f"{name}-T{timesteps}-{seed}"
    compile_like(folder, first, *flags)
    distilled = report_of(folder)
    apart = out / f"{name}-T{timesteps}-undistilled-{seed}"
    compile_like(apart, folder, *flags, *WITHOUT_DISTILLATION, "--to", "verify")
    told, beside = accuracies(distilled), _beside(distilled, folder, apart, seed, timesteps)
    return {
        "accuracy": {
            "ANN": told["ann"],
            "converted with real training images": beside["real"],
            "converted without data": told["converted"],
            "trained without distillation, integers": beside["undistilled"],
            "trained with distillation": told["encrypted"],
            "trained with distillation, integers": told["integer"],
        },
        "synops": synops(distilled),
        "joules": chip_joules(distilled),
        "cores": next(row["cores"] for row in distilled["resources"] if row["chip"] == "loihi1"),
        "samples": distilled["evaluation"]["samples"],
    }


def _beside(
    report: dict[str, Any], folder: Path, undistilled: Path, seed: int, timesteps: int
) -> dict[str, float]:
    """Accuracies, over the images of `report`, of the networks that no report is made of."""
    import numpy as np

    from compiler import __version__
    from compiler.ir.ann import AnnGraph
    from compiler.kept_answers import KeptAnswers
    from compiler.run_folder import file_hash, key_of
    from compiler.store import load
    from netx_export import read_netx
    from sim.datasets import load_dataset
    from sim.reference import simulate

    data, samples = report["evaluation"]["data"], report["evaluation"]["samples"]
    matched, model = folder / "private" / "matched.safetensors", undistilled / "model.net"
    graph = load(AnnGraph, matched)
    test = load_dataset(data, graph.input_shape, samples, seed)
    key = key_of(__version__, file_hash(matched), file_hash(model), report["evaluation"]["sha256"])
    kept = KeptAnswers(folder.with_name(f"{folder.name}.json"), key)
    chips = {
        "real": lambda: _with_real_images(graph, data, seed, folder),
        "undistilled": lambda: read_netx(model).graph,
    }
    return {
        name: float(np.mean(
            kept.answers(name, lambda chip=chip: simulate(chip(), test.images_nchw).predictions_n)
            == test.labels
        ))
        for name, chip in chips.items()
    }  # fmt: skip


def _with_real_images(graph: AnnGraph, data: str, seed: int, folder: Path) -> ChipGraph:
    """The network whose thresholds were balanced on training images, else as in `folder`."""
    from compiler.conversion import convert
    from compiler.ir.snn import Encoding
    from compiler.quantization import quantize

    config = request_of("--config", str(folder / "config.toml")).config
    encoding = Encoding(config.encoding.code, seed, config.encoding.x_min)
    real = training_images(data, graph, 2 * config.synthesize.held_out, seed)
    return quantize(convert(graph, real, config.convert, encoding).graph)


def _published(subject: str, out: Path, seed: int, timesteps: int, ann: Path) -> dict[str, float]:
    """Accuracies of audit.privatesnn's stages; one cheap attack, which it cannot do without."""
    folder = out / f"{subject_name(subject)}-published-T{timesteps}-{seed}"
    given = () if str(ann) == "kept" else ("--ann", str(ann))
    run("audit.privatesnn", *_published_flags(subject), *given, "--out", str(folder), "--quiet",
        "--timesteps", str(timesteps), "--seed", str(seed), "--attacks", "representative",
        "--quick")  # fmt: skip
    stages = json.loads((folder / "audit.json").read_text())["privatesnn"]["stages"]
    return {title: stages[name]["accuracy"] for name, title in PUBLISHED.items()}


def _check_published(subject: str, ann: Path, samples: int | None) -> None:
    """UsageError, before anything is compiled, where the published method has no such row."""
    if samples is not None:
        raise click.UsageError("--privatesnn measures on all test images: leave --samples out")
    _published_flags(subject)
    if str(ann) == "kept":
        if subject.endswith(".toml"):
            raise click.UsageError("--privatesnn kept: name a FILE for the network of a .toml")
    elif not ann.is_file():
        raise click.UsageError(f"--privatesnn: there is no file {ann}")


def _published_flags(subject: str) -> tuple[str, ...]:
    """What audit.privatesnn is to build: a preset's network, or that of a configuration."""
    import tomli

    if not subject.endswith(".toml"):
        return ("--preset", subject)
    facts = tomli.loads(Path(subject).read_text())
    missing = [name for name in ("arch", "eval") if name not in facts]
    if missing:
        raise click.UsageError(
            f"--privatesnn needs a network of a named architecture and its images: {subject} has "
            f"no {' and no '.join(missing)}"
        )
    return ("--arch", facts["arch"], "--data", facts["eval"])


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    from compiler.commandline import run_command

    return run_command(rows, "benchmarks.rows", arguments)


if __name__ == "__main__":
    sys.exit(main())

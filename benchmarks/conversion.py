"""`python benchmarks/conversion.py`: what every measure of the data-free conversion is worth.

Each row changes one setting of the defaults and converts anew, without training, for every
seed; the figures are over real test images, which only this script reads. One row has none of
the measures, the last real training images in place of synthetic ones, which the product never
has. `detail` is the mean difference of neighbouring pixels, of the images that balance thresholds.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

if TYPE_CHECKING:
    from compiler.config import CompileConfig
    from compiler.ir.ann import AnnGraph
    from compiler.ir.geometry import Array
    from compiler.ir.synthetic import SyntheticSet

_PUBLISHED = {"temperature_low": 1.0, "temperature_high": 20.0}
REAL = "real images"
CHANGES: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "defaults": {},
    "temperatures 1 to 20": {"synthesize": _PUBLISHED},
    "temperatures 0.5 to 3": {"synthesize": {"temperature_low": 0.5, "temperature_high": 3.0}},
    "start images, hardly optimized": {"synthesize": {"steps": 1, "learning_rate": 1e-6}},
    "threshold = percentile": {"convert": {"threshold_scales": (1.0,)}},
    "percentiles 99 and 99.9": {"convert": {"percentiles": (99.0, 99.9)}},
    "no correction of the bias": {"convert": {"bias_passes": 0}},
    "three corrections": {"convert": {"bias_passes": 3}},
    "smoothed steps": {"synthesize": {"smoothness": 1.0, "learning_rate": 0.04}},
    "none of them": {
        "synthesize": _PUBLISHED,
        "convert": {"threshold_scales": (1.0,), "percentiles": (99.0,), "bias_passes": 0},
    },
    REAL: {},
}


@dataclass(frozen=True)
class Subject:
    """A lowered network and the real images that it is measured on.

    data: the images' specification, of which REAL takes the training images.
    """

    graph: AnnGraph
    data: str
    images_nchw: Array
    labels_n: Array
    teacher_nk: Array


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("model")
@click.option("--data", required=True, help="Labelled test images, as for sim.run.")
@click.option("--mean", help="Comma-separated, as for the compile.")
@click.option("--std", help="Comma-separated, as for the compile.")
@click.option("--samples", type=click.IntRange(1), default=2000, show_default=True)
@click.option("--timesteps", type=int, default=64, show_default=True)
@click.option("--seeds", default="0,1,2", show_default=True)
@click.option("--count", type=click.IntRange(64), default=1024, show_default=True,
              help="Synthetic images, half of them held out.")  # fmt: skip
@click.option("--only", multiple=True, type=click.Choice(list(CHANGES)), metavar="ROW",
              help="A row to run [all]; may be repeated.")  # fmt: skip
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write a JSON file too.")
def ablate(model: str, json_file: Path | None, **options: Any) -> None:
    """Convert MODEL (a file as for the compile, or a preset's name) in several ways."""
    from benchmarks.compiles import whole_numbers
    from compiler.commandline import check_writable, make_console, plain_table, write_json

    if json_file is not None:
        check_writable(json_file)
    subject = _subject(model, options)
    ann = float((subject.teacher_nk.argmax(1) == subject.labels_n).mean())
    rows: list[dict[str, Any]] = []
    for name in options["only"] or CHANGES:
        found = [
            _measure(subject, name, _config(CHANGES[name], seed, options))
            for seed in whole_numbers(options["seeds"])
        ]
        rows.append({"name": name, "runs": found})
        click.echo(f"{name}: {_brief(found)}", err=True)
        if json_file is not None:
            write_json(json_file, {"model": model, "ann_accuracy": ann, **options, "rows": rows})
    titles = [f"ANN {ann:.1%}", *(title for title, *_ in COLUMNS.values())]
    make_console().print(plain_table(titles, list(_table(rows))))


def _subject(model: str, options: dict[str, Any]) -> Subject:
    from compiler.frontend import load_model
    from compiler.ir.run_ann import run_ann
    from compiler.passes import lower
    from compiler.presets import PRESETS, load_preset
    from sim.datasets import load_dataset

    if model in PRESETS:
        graph = load_preset(model)
    else:
        mean, std = (
            tuple(float(x) for x in options[name].split(",")) if options[name] else None
            for name in ("mean", "std")
        )
        graph = load_model(model, mean=mean, std=std)
    graph = lower(graph).graph
    data = load_dataset(options["data"], graph.input_shape, options["samples"], 0)
    teacher = run_ann(graph, data.images_nchw)
    return Subject(graph, options["data"], data.images_nchw, data.labels, teacher)


def _config(
    changes: Mapping[str, Mapping[str, Any]], seed: int, options: dict[str, Any]
) -> CompileConfig:
    from compiler.config import CompileConfig

    config = CompileConfig(seed=seed)
    count = options["count"]
    synthesize = replace(config.synthesize, count=count, held_out=count // 2)
    convert = replace(config.convert, timesteps=options["timesteps"])
    return replace(
        config,
        synthesize=replace(synthesize, **changes.get("synthesize", {})),
        convert=replace(convert, **changes.get("convert", {})),
    )


def _measure(subject: Subject, name: str, config: CompileConfig) -> dict[str, Any]:
    """Figures of one conversion, in integers, over the real images."""
    import numpy as np

    from compiler.conversion import convert
    from compiler.ir.snn import Encoding
    from compiler.quantization import quantize
    from sim.reference import simulate

    synthetic = _images(subject, name, config)
    found = convert(subject.graph, synthetic, config.convert, Encoding("rate"))
    result = simulate(quantize(found.graph), subject.images_nchw)
    # the simulator's voltage is in state units, 64 a mantissa
    logits = result.logits_nk / 64 * found.graph.logit_per_voltage
    answers = result.predictions_n
    return {
        "seed": config.seed,
        "accuracy": float(np.mean(answers == subject.labels_n)),
        "agreement": float(np.mean(answers == subject.teacher_nk.argmax(1))),
        "divergence": _divergence(subject.teacher_nk, logits),
        "synthetic_divergence": found.chosen.divergence,
        "percentile": found.chosen.percentile,
        "threshold_scale": found.chosen.threshold_scale,
        "spikes_per_sample": float(sum(layer.spikes_n.mean() for layer in result.layers)),
        "detail": _detail(synthetic.pixels(slice(None))),
    }


def _images(subject: Subject, name: str, config: CompileConfig) -> SyntheticSet:
    from benchmarks.compiles import training_images
    from compiler.synthesis import synthesize

    if name != REAL:
        return synthesize(subject.graph, config.synthesize, config.seed)
    return training_images(subject.data, subject.graph, config.synthesize.count, config.seed)


def _detail(images_nchw: Array) -> float:
    """Mean absolute difference of horizontal neighbours, pixels in [0, 1]."""
    import numpy as np

    return float(np.abs(np.diff(images_nchw, axis=3)).mean())


def _divergence(wanted: Array, found: Array) -> float:
    """Mean KL(softmax(wanted) || softmax(found)) in nats."""
    import numpy as np
    from scipy.special import log_softmax

    first, second = log_softmax(wanted, axis=1), log_softmax(found, axis=1)
    return float(np.mean(np.sum(np.exp(first) * (first - second), axis=1)))


COLUMNS: Mapping[str, tuple[str, float, int]] = {
    "accuracy": ("accuracy, %", 100, 1),
    "agreement": ("agrees, %", 100, 1),
    "divergence": ("KL", 1, 3),
    "synthetic_divergence": ("synthetic KL", 1, 3),
    "spikes_per_sample": ("spikes", 1, 0),
    "detail": ("detail", 1, 3),
}
"""Figure of a run -> title, factor and digits of its column."""


def _table(rows: Sequence[dict[str, Any]]) -> Iterator[list[str]]:
    from benchmarks.compiles import spread

    for row in rows:
        yield [
            row["name"],
            *(
                spread((unit * run[key] for run in row["runs"]), digits)
                for key, (_, unit, digits) in COLUMNS.items()
            ),
        ]


def _brief(found: list[dict[str, Any]]) -> str:
    return ", ".join(f"{run['accuracy']:.1%} (KL {run['divergence']:.3f})" for run in found)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    from compiler.commandline import run_command

    return run_command(ablate, "benchmarks.conversion", arguments)


if __name__ == "__main__":
    sys.exit(main())

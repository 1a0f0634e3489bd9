"""`python benchmarks/images.py`: how good a compile is from the published recipe's own images.

The same network is converted, trained and rounded from three sets of images: those of the
default settings, those that reach the published recipe's loss in few large steps, and those of
the published recipe itself (2,499 steps an image; minutes for a set). The figures are over real
test images, which only this script reads.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

if TYPE_CHECKING:
    from compiler.ir.ann import AnnGraph
    from compiler.ir.synthetic import SyntheticSet

WAYS = ("defaults", "equal loss", "published")


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("preset", default="fashion-mnist")
@click.option("--samples", type=click.IntRange(1), help="Test images [all].")
@click.option("--seeds", default="0,1,2", show_default=True)
@click.option("--count", type=click.IntRange(32), default=1024, show_default=True,
              help="Synthetic images of a set, a quarter of them held out.")  # fmt: skip
@click.option("--steps", type=click.IntRange(1), default=2499, show_default=True,
              help="Steps of the published recipe.")  # fmt: skip
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write a JSON file too; "
              "an interrupted run goes on from it.")  # fmt: skip
def images(preset: str, json_file: Path | None, **options: Any) -> None:
    """Compile PRESET from three sets of images, for every seed."""
    from benchmarks.compiles import rows_kept, whole_numbers
    from compiler.commandline import check_writable, make_console, plain_table, write_json

    rows: list[dict[str, Any]] = []
    asked = {"preset": preset, **options}
    if json_file is not None:
        check_writable(json_file)
        rows = rows_kept(json_file, asked)
    graph, data = _subject(preset, options["samples"])
    known = {(row["way"], row["seed"]) for row in rows}
    for seed in whole_numbers(options["seeds"]):
        for way in WAYS:
            if (way, seed) in known:
                continue
            rows.append(_measure(graph, data, way, seed, options))
            click.echo(f"{way}, seed {seed}: {rows[-1]['integer']:.2%}", err=True)
            if json_file is not None:
                write_json(json_file, {"asked": asked, "rows": rows})
    table = [[way, *_means([row for row in rows if row["way"] == way])] for way in WAYS]
    titles = ["images", "loss at 20", "loss at 1", "converted", "integer", "seconds for images"]
    make_console().print(plain_table(titles, table))


def _subject(preset: str, samples: int | None) -> tuple[AnnGraph, Any]:
    from compiler.passes import lower
    from compiler.presets import find_preset, load_preset
    from sim.datasets import load_dataset

    graph = lower(load_preset(preset)).graph
    return graph, load_dataset(find_preset(preset).data, graph.input_shape, samples, 0)


def _measure(
    graph: AnnGraph, data: Any, way: str, seed: int, options: dict[str, Any]
) -> dict[str, Any]:
    """Accuracy in integers of one compile, before and after training."""
    import numpy as np

    from compiler.config import CompileConfig
    from compiler.conversion import convert
    from compiler.encryption.train import encrypt
    from compiler.ir.snn import Encoding
    from compiler.quantization import quantize
    from sim.reference import simulate

    started = time.perf_counter()
    synthetic = _images(graph, way, seed, options)
    seconds = time.perf_counter() - started
    config = CompileConfig(seed=seed)
    converted = convert(graph, synthetic, config.convert, Encoding()).graph
    trained = encrypt(graph, converted, synthetic, config.encrypt, seed).graph

    def accuracy(network: Any) -> float:
        found = simulate(quantize(network), data.images_nchw).predictions_n
        return float(np.mean(found == data.labels))

    return {
        "way": way,
        "seed": seed,
        "seconds": seconds,
        "converted": accuracy(converted),
        "integer": accuracy(trained),
        **_losses(synthetic),
    }


def _images(graph: AnnGraph, way: str, seed: int, options: dict[str, Any]) -> SyntheticSet:
    import numpy as np
    import torch

    from benchmarks.synthesis import equal_loss, official_images
    from compiler.config import SynthesisConfig
    from compiler.ir.run_ann import run_ann, to_module
    from compiler.synthesis import synthesize

    count = options["count"]
    base = SynthesisConfig() if way == "defaults" else equal_loss(count)
    config = replace(base, count=count, held_out=count // 4)
    made = synthesize(graph, config, seed)
    if way != "published":
        return made
    targets = torch.from_numpy(made.soft_targets_nk.copy())
    module = to_module(graph).requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    pixels = [
        official_images(module, graph.input_shape, part, generator, options["steps"])
        for part in targets.split(256)
    ]
    images = (torch.cat(pixels) * 255).round().to(torch.uint8).numpy()
    logits = run_ann(graph, images.astype(np.float32) / np.float32(255))
    return replace(made, images_nchw=images, logits_nk=logits)


def _losses(synthetic: SyntheticSet) -> dict[str, float]:
    """Mean cross-entropy of the images to their soft targets, at both temperatures."""
    import numpy as np
    from scipy.special import log_softmax

    return {
        f"at_{temperature}": float(
            -np.mean(
                np.sum(
                    synthetic.soft_targets_nk
                    * log_softmax(synthetic.logits_nk / temperature, axis=1),
                    axis=1,
                )
            )
        )
        for temperature in (20, 1)
    }


def _means(rows: list[dict[str, Any]]) -> list[str]:
    import statistics

    if not rows:
        return ["-"] * 5

    def told(key: str, unit: float, end: str) -> str:
        values = [unit * row[key] for row in rows]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        return f"{statistics.mean(values):.2f} ± {spread:.2f}{end}"

    return [
        told("at_20", 1, ""),
        told("at_1", 1, ""),
        told("converted", 100, " %"),
        told("integer", 100, " %"),
        told("seconds", 1, ""),
    ]


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    from compiler.commandline import run_command

    return run_command(images, "benchmarks.images", arguments)


if __name__ == "__main__":
    sys.exit(main())

"""Accuracy of every stage over the same images, and what the attacker's first move gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from audit.reconvert import Activation, reconvert
from compiler.chip.execute_float import batch_size, encode_nhwc, run_snn
from compiler.ir.ann import AnnGraph
from compiler.ir.chip import ChipGraph
from compiler.ir.geometry import Array
from compiler.ir.run_ann import run_ann
from compiler.ir.snn import SnnGraph
from sim.reference import simulate
from sim.results import SimulationResult

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Judge:
    """Images to judge by: labels are None for synthetic images, which have none.

    teacher_nk: the ANN's logits.
    """

    images_nchw: Array
    labels_n: Array | None
    teacher_nk: Array

    def row(self, name: str, predictions_n: Array, timesteps: int | None) -> dict[str, Any]:
        """One entry of the report's `stages`; accuracy is None without labels."""
        count = len(predictions_n)
        labels = None if self.labels_n is None else self.labels_n[:count]
        accuracy = None if labels is None else float(np.mean(predictions_n == labels))
        agreement = float(np.mean(predictions_n == self.teacher_nk[:count].argmax(1)))
        images = "held-out synthetic images" if labels is None else "evaluation images"
        return {
            "name": name,
            "accuracy": accuracy,
            "ann_agreement": agreement,
            "samples": count,
            "timesteps": timesteps,
            "images": images,
        }


def evaluate_stages(
    judge: Judge, converted: SnnGraph, encrypted: SnnGraph, chip: ChipGraph, progress: Progress
) -> tuple[list[dict[str, Any]], SimulationResult]:
    """Rows for ann, converted, encrypted and integer, and the integer simulator's result."""
    images, steps = judge.images_nchw, converted.timesteps
    rows = [judge.row("ann", judge.teacher_nk.argmax(1), None)]
    rows.append(judge.row("converted", run_snn(converted, images).argmax(1), steps))
    progress(1, 3)
    rows.append(judge.row("encrypted", run_slayer(encrypted, images).argmax(1), steps))
    progress(2, 3)
    result = simulate(chip, images)
    rows.append(judge.row("integer", result.predictions_n, steps))
    progress(3, 3)
    return rows, result


def run_slayer(network: SnnGraph, images_nchw: Array) -> Array:
    """Read-out voltage (N, classes) of the trained SLAYER blocks."""
    import torch

    from compiler.encryption.network import SlayerNetwork, Surrogate

    module = SlayerNetwork(network, Surrogate())
    logits = []
    with torch.no_grad():
        for start, part in _parts(images_nchw, max(1, batch_size(network) // 2)):
            spikes = torch.from_numpy(encode_nhwc(part, network, start)).float()
            logits.append(module(spikes)[0].numpy())
    return np.concatenate(logits)


def _parts(images: Array, size: int) -> Iterator[tuple[int, Array]]:
    for start in range(0, len(images), size):
        yield start, images[start : start + size]


def reconverted_accuracy(chip: ChipGraph, judge: Judge) -> dict[str, Any]:
    """Accuracy of the exported integers run as a plain and as a clipped ReLU network.

    Agreement with the ANN where there are no labels; `measure` says which.
    """
    measure = "ann_agreement" if judge.labels_n is None else "accuracy"
    truth = judge.teacher_nk.argmax(1) if judge.labels_n is None else judge.labels_n
    kinds: tuple[Activation, ...] = ("relu", "clipped_relu")
    values: dict[str, Any] = {"measure": measure}
    for kind in kinds:
        answer = run_ann(reconvert(chip, kind), judge.images_nchw).argmax(1)
        values[kind] = float(np.mean(answer == truth))
    return values


def weight_change(converted: SnnGraph, chip: ChipGraph) -> dict[str, float]:
    """norm(exported - converted) / norm(converted) of every weight matrix, rounding included."""
    return {
        before.name: float(
            np.linalg.norm(after.weight - before.weight) / np.linalg.norm(before.weight)
        )
        for before, after in zip(converted.layers, chip.layers, strict=True)
    }


def health(result: SimulationResult) -> dict[str, Any]:
    """Counted, not assumed: spikes of the read-out, clips of v, silent and saturated neurons."""
    hidden = result.layers[:-1] if len(result.layers) > 1 else result.layers
    always = result.samples * result.timesteps
    return {
        "readout_spikes": result.readout_spikes,
        "voltage_saturations": sum(layer.saturations for layer in result.layers),
        "layers": [
            {
                "name": layer.name,
                "neurons": int(layer.spikes_chw.size),
                "silent": int(np.count_nonzero(layer.spikes_chw == 0)),
                "saturated": int(np.count_nonzero(layer.spikes_chw == always)),
            }
            for layer in hidden
        ],
    }


def teacher_logits(graph: AnnGraph, images_nchw: Array) -> Array:
    """The ANN's logits (N, classes)."""
    return run_ann(graph, images_nchw)

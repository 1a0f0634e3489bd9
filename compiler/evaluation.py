"""Accuracy of every stage over the same images, and what the attacker's first move gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from audit.reconvert import Activation, reconvert
from compiler.chip.execute_float import encode_nhwc, run_snn
from compiler.ir.chip import ChipGraph
from compiler.ir.geometry import Array, in_parts
from compiler.ir.run_ann import run_ann
from compiler.ir.snn import SnnGraph
from compiler.judge import Judge
from compiler.kept_answers import KeptAnswers
from sim.reference import simulate
from sim.results import SimulationResult
from sim.synops import operation_tables

Progress = Callable[[int, int], None]

_SLAYER_BYTES = 1_000_000_000
"""Memory that a batch of the trained network may take."""


def evaluate_stages(
    judge: Judge,
    converted: SnnGraph,
    encrypted: SnnGraph,
    chip: ChipGraph,
    progress: Sequence[Progress],
    kept: KeptAnswers,
) -> tuple[list[dict[str, Any]], SimulationResult]:
    """Rows for ann, converted, encrypted and integer, and the integer simulator's result.

    progress: of the three spiking networks in this order, in images.
    """
    images, steps = judge.images_nchw, converted.timesteps
    before = kept.answers("converted", lambda: run_snn(converted, images, progress[0]).argmax(1))
    after = kept.answers("encrypted", lambda: run_slayer(encrypted, images, progress[1]).argmax(1))
    rows = [judge.row("ann", judge.teacher_nk.argmax(1), None)]
    rows += [judge.row("converted", before, steps), judge.row("encrypted", after, steps)]
    result = simulate(chip, images, fan_outs=operation_tables(chip), progress=progress[2])
    rows.append(judge.row("integer", result.predictions_n, steps))
    return rows, result


def run_slayer(network: SnnGraph, images_nchw: Array, progress: Progress | None = None) -> Array:
    """Read-out voltage (N, classes) of the trained SLAYER blocks."""
    import torch

    from compiler.encryption.network import SlayerNetwork, Surrogate

    module = SlayerNetwork(network, Surrogate())
    logits = []
    with torch.no_grad():
        for start, part in in_parts(images_nchw, module.samples_within(_SLAYER_BYTES)):
            spikes = torch.from_numpy(encode_nhwc(part, network, start))
            logits.append(module(spikes)[0].numpy())
            if progress is not None:
                progress(start + len(part), len(images_nchw))
    return np.concatenate(logits)


def reconverted_accuracy(chip: ChipGraph, judge: Judge) -> dict[str, Any]:
    """Accuracy of the exported integers run as a plain and as a clipped ReLU network.

    relu, clipped_relu: accuracy, None without labels; ann_agreement: the same two as the
    share of images on which they answer as the ANN does.
    """
    kinds: tuple[Activation, ...] = ("relu", "clipped_relu")
    answers = {kind: run_ann(reconvert(chip, kind), judge.images_nchw).argmax(1) for kind in kinds}
    values: dict[str, Any] = {kind: judge.accuracy(answers[kind]) for kind in kinds}
    values["ann_agreement"] = {kind: judge.ann_agreement(answers[kind]) for kind in kinds}
    return values


def confusion_matrix(judge: Judge, predictions_n: Array) -> dict[str, Any] | None:
    """How often each class was taken for each other: counts[true][answer]; None without labels."""
    if judge.labels_n is None:
        return None
    classes = judge.teacher_nk.shape[1]
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (judge.labels_n[: len(predictions_n)], predictions_n), 1)
    names = judge.class_names
    labels = names if len(names) == classes else tuple(str(k) for k in range(classes))
    return {"labels": list(labels), "counts": counts.tolist()}


def weight_change(converted: SnnGraph, chip: ChipGraph) -> dict[str, float]:
    """norm(exported - converted) / norm(converted) of every weight matrix, rounding included."""
    return {
        before.name: float(
            np.linalg.norm(after.weight - before.weight) / np.linalg.norm(before.weight)
        )
        for before, after in zip(converted.layers, chip.layers, strict=True)
    }

"""Neurons that never or always spike after quantization, and the likely cause of each."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from compiler.ir.ann import AnnGraph
from compiler.ir.geometry import Array, in_parts
from compiler.ir.run_ann import run_ann_layers
from compiler.ir.snn import SnnGraph
from compiler.ir.stages import stages
from sim.results import SimulationResult

SILENT_CAUSES = ("never_active_in_ann", "too_few_steps", "threshold_too_high")
SATURATED_CAUSES = ("always_active_in_ann", "fires_more_than_ann")

_CHUNK = 512
_MOST_VALUES = 1 << 25
"""Activations of one layer, at most, that are looked at together: 128 MB."""

_MANY = 0.05
"""Share of a layer's neurons above which silence is worth a warning."""


def health(
    result: SimulationResult, network: SnnGraph, ann: AnnGraph, images_nchw: Array
) -> dict[str, Any]:
    """Counted, not assumed: spikes of the read-out, clips of v, silent and saturated neurons.

    result: the integers run over `images_nchw`; network: the spiking network that they were
    rounded from; ann: the lowered network that it was converted from, stage by stage. Silent
    and saturated are neurons of a layer that never, and that always spiked on these images;
    `silent_causes` and `saturated_causes` split them by what the ANN does on the same images.
    """
    hidden = result.layers[:-1] if len(result.layers) > 1 else result.layers
    always = result.samples * result.timesteps
    silent = {layer.name: layer.spikes_chw == 0 for layer in hidden}
    saturated = {layer.name: layer.spikes_chw == always for layer in hidden}
    rates = _ann_rates(network, ann, images_nchw)
    steps = result.timesteps
    return {
        "readout_spikes": result.readout_spikes,
        "voltage_saturations": sum(layer.saturations for layer in result.layers),
        "clipped": {layer.name: layer.saturations for layer in result.layers if layer.saturations},
        "silent": {name: int(np.count_nonzero(which)) for name, which in silent.items()},
        "saturated": {name: int(np.count_nonzero(which)) for name, which in saturated.items()},
        "silent_causes": {
            name: _causes_of_silence(which, rates[name][1], steps)
            for name, which in silent.items()
            if name in rates
        },
        "saturated_causes": {
            name: _causes_of_saturation(which, rates[name][0], steps)
            for name, which in saturated.items()
            if name in rates
        },
    }


def _ann_rates(
    network: SnnGraph, ann: AnnGraph, images_nchw: Array
) -> dict[str, tuple[Array, Array]]:
    """Firing rate that the ANN's activation stands for: smallest and largest over the images.

    Arrays of the hidden layers' shapes (C, H, W), in spikes a step; 1 is the most there is.
    """
    chain = stages(ann)[:-1]
    at = {stage.output_index: layer for stage, layer in zip(chain, network.layers, strict=False)}
    found: dict[str, tuple[Array, Array]] = {}
    largest = max(math.prod(shape) for shape in (ann.input_shape, *ann.shapes))
    for _, images in in_parts(images_nchw, max(1, min(_CHUNK, _MOST_VALUES // largest))):
        for index, (_, output) in enumerate(run_ann_layers(ann, images)):
            if index not in at:
                continue
            layer = at[index]
            activation, unit = output.reshape(-1, *layer.shape), layer.unit.reshape(-1, 1, 1)
            lowest, highest = activation.min(0) / unit, activation.max(0) / unit
            low, high = found.get(layer.name, (lowest, highest))
            found[layer.name] = (np.minimum(low, lowest), np.maximum(high, highest))
    return found


def _causes_of_silence(silent: Array, largest_rate: Array, steps: int) -> dict[str, int]:
    dead = silent & (largest_rate <= 0)
    faint = silent & (largest_rate > 0) & (largest_rate * steps < 1)
    counts = (dead, faint, silent & ~dead & ~faint)
    return {
        cause: int(np.count_nonzero(which))
        for cause, which in zip(SILENT_CAUSES, counts, strict=True)
    }


def _causes_of_saturation(saturated: Array, smallest_rate: Array, steps: int) -> dict[str, int]:
    wanted = saturated & (smallest_rate > 1 - 1 / steps)
    counts = (wanted, saturated & ~wanted)
    return {
        cause: int(np.count_nonzero(which))
        for cause, which in zip(SATURATED_CAUSES, counts, strict=True)
    }


def health_warnings(
    found: Mapping[str, Any], neurons: Mapping[str, int], timesteps: int
) -> list[str]:
    """What is wrong with the activity, with the likely cause and what to do.

    found: the report's `health`; neurons: by layer. Neurons that the ANN itself never uses are
    no fault of the compile: a layer is named for them only where they are most of it.
    """
    lines = []
    if found["readout_spikes"]:
        lines.append(
            f"the read-out fired {found['readout_spikes']} times and lost its voltage: raise "
            "readout_margin in [convert]"
        )
    readout = list(neurons)[-1]
    for name, clips in found["clipped"].items():
        way_out = "raise readout_margin in [convert] or " if name == readout else ""
        lines.append(
            f"layer {name}: v was clipped at 24 bits {clips:,} times, and sums beyond them are "
            f"lost: {way_out}lower --timesteps"
        )
    for name, causes in found["silent_causes"].items():
        dead = causes["never_active_in_ann"]
        lost = sum(causes.values()) - dead
        if lost > _MANY * neurons[name] or dead > neurons[name] // 2:
            lines.append(_silent_in_words(name, causes, neurons[name], timesteps))
    for name, causes in found["saturated_causes"].items():
        if any(causes.values()):
            lines.append(_saturated_in_words(name, causes, neurons[name]))
    return lines


def _silent_in_words(name: str, causes: Mapping[str, int], neurons: int, timesteps: int) -> str:
    reasons = {
        "never_active_in_ann": "are never active in the ANN on the same images (dead ReLUs; "
        "nothing is lost)",
        "too_few_steps": f"are so weak in the ANN that they stand for less than one spike in "
        f"T = {timesteps} steps (more --timesteps, or a lower percentile)",
        "threshold_too_high": "are active in the ANN but do not reach their threshold (lower "
        "percentiles in [convert], or fewer epochs if training did it)",
    }
    return _in_words(name, causes, reasons, neurons, "never fired")


def _saturated_in_words(name: str, causes: Mapping[str, int], neurons: int) -> str:
    reasons = {
        "always_active_in_ann": "are as active in the ANN as a spike at every step says, or more "
        "(threshold too low: higher percentiles in [convert])",
        "fires_more_than_ann": "are less active in the ANN (training or rounding raised their "
        "bias: fewer epochs or a lower learning_rate in [encrypt])",
    }
    return _in_words(name, causes, reasons, neurons, "fired at every step")


def _in_words(
    name: str, causes: Mapping[str, int], reasons: Mapping[str, str], neurons: int, what: str
) -> str:
    total = sum(causes.values())
    parts = [f"{causes[cause]:,} {reason}" for cause, reason in reasons.items() if causes[cause]]
    return f"layer {name}: {total:,} of {neurons:,} neurons {what}: {'; '.join(parts)}"

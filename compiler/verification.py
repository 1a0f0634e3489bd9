"""The proof: SLAYER, the integer simulator and Lava agree on every spike of the written file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from compiler.chip.encoding import encode
from compiler.ir.geometry import Array, in_parts
from compiler.ir.snn import SnnGraph
from netx_export import read_netx
from sim.compare import Agreement, compare_states, require_agreement
from sim.encoding import drive_from_images
from sim.lava import Progress, simulate_lava
from sim.reference import trace
from sim.results import SimulationResult
from sim.traces import INPUT, LayerTrace, NetworkTrace

_MOST_BYTES = 2_000_000_000
"""Memory that the spikes of samples compared at once may take."""


def verify_slayer(network: SnnGraph, file: Path, images_nchw: Array) -> Agreement:
    """Compare stock SLAYER, built from the trained network, with the integer simulator on the file.

    Every spike of every layer and the read-out's voltage, in parts that bound the memory.
    Raises AgreementError naming the first difference.
    """
    graph = read_netx(file).graph
    agreement = Agreement(0, 0, 0)
    for start, part in in_parts(images_nchw, _samples_at_once(network)):
        slayer = _slayer_trace(network, part, start)
        drive = drive_from_images(graph, part, first_index=start)
        agreement += compare_states(slayer, trace(graph, drive))
    require_agreement(agreement, "SLAYER", "the integer simulator")
    return agreement


def _samples_at_once(network: SnnGraph) -> int:
    """Samples whose spikes, float32 in SLAYER and bytes in two traces, stay within a bound."""
    neurons = sum(math.prod(layer.shape) for layer in network.layers)
    return max(1, _MOST_BYTES // (6 * network.timesteps * neurons))


def verify_lava(
    file: Path,
    images_nchw: Array,
    time_limit: float | None = None,
    progress: Progress | None = None,
) -> tuple[Agreement, SimulationResult]:
    """Compare the integer simulator with Lava's fixed-point CPU backend on the file.

    Raises AgreementError naming the first difference, EnvironmentProblem if Lava does not
    end within `time_limit` seconds (None: as many as sim.lava.time_limit_for gives).
    progress: of Lava, in time-steps.
    """
    graph = read_netx(file).graph
    run = simulate_lava(file, images_nchw, time_limit=time_limit, progress=progress)
    agreement = compare_states(trace(graph, images_nchw), run.trace)
    require_agreement(agreement, "the integer simulator", "Lava")
    return agreement, run.result


def agreement_row(agreement: Agreement | None) -> dict[str, Any] | None:
    """The report's form of an agreement; None where nothing was compared."""
    if agreement is None:
        return None
    return {
        "samples": agreement.samples,
        "spikes": agreement.spikes,
        "mismatches": agreement.mismatches,
    }


def _slayer_trace(network: SnnGraph, images_nchw: Array, first_index: int) -> NetworkTrace:
    """Run lava-dl's own forward code, sample by sample in one batch, and keep every spike."""
    import torch

    from compiler.encryption.network import WEIGHT_SCALE, SlayerNetwork, Surrogate

    spikes = encode(images_nchw, network.timesteps, network.encoding, first_index)
    module = SlayerNetwork(network, Surrogate())
    with torch.no_grad():
        given = torch.from_numpy(np.ascontiguousarray(np.moveaxis(spikes, 0, -1))).float()
        voltage, hidden = module.stock_forward(given)
    shapes = [layer.shape for layer in network.layers]
    layers = [
        LayerTrace(layer.name, _tnchw(run.numpy(), shape))
        for layer, run, shape in zip(network.layers, hidden, shapes, strict=False)
    ]
    last = network.layers[-1]
    silent = np.zeros((network.timesteps, len(images_nchw), *last.shape), np.uint8)
    layers.append(LayerTrace(last.name, silent))
    state = np.rint(voltage.double().numpy() * WEIGHT_SCALE * 64).astype(np.int64)
    return NetworkTrace("slayer", LayerTrace(INPUT, spikes), tuple(layers), state)


def _tnchw(spikes_nct: Array, shape: tuple[int, int, int]) -> Array:
    steps = spikes_nct.shape[-1]
    full = np.moveaxis(spikes_nct, -1, 0).reshape(steps, -1, *shape)
    return np.ascontiguousarray(full).astype(np.uint8)

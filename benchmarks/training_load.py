"""The network and the spikes that the training steps are measured on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from compiler.ir.snn import SnnGraph

INPUT_RATE, HIDDEN_RATE = 0.3, 0.1
CLASSES = 10


@dataclass(frozen=True)
class Workload:
    """A network with random weights and the spikes of one batch.

    spikes_tnhwc: uint8; labels: int64 (N,); rates: share of steps at which each hidden layer's
    neurons fire on these spikes.
    """

    graph: SnnGraph
    spikes_tnhwc: np.ndarray
    labels: np.ndarray
    rates: tuple[float, ...]

    @property
    def macs(self) -> int:
        """Multiply-accumulates of a step that skips nothing.

        Forward, gradients of the weights, and gradients of all inputs but the first layer's.
        """
        from compiler.ir.geometry import products

        steps, samples = self.spikes_tnhwc.shape[:2]
        layers = [products(layer.weight, layer.shape) for layer in self.graph.layers]
        return steps * samples * (3 * sum(layers) - layers[0])


def make_workload(quick: bool = False, seed: int = 0) -> Workload:
    """The step's network and spikes; `quick` takes fewer samples, steps and pixels."""
    import numpy as np

    from compiler.ir.snn import Encoding, SnnGraph

    size, samples, steps = (12, 4, 4) if quick else (28, 50, 16)
    rng = np.random.default_rng(seed)
    spikes = (rng.random((steps, samples, size, size, 1)) < INPUT_RATE).astype(np.uint8)
    layers, rates, arriving = [], [], spikes
    for layer in _random_layers(size, rng):
        if not layer.readout:
            layer, arriving, rate = _with_rate(layer, arriving)
            rates.append(rate)
        layers.append(layer)
    graph = SnnGraph("benchmark", (1, size, size), steps, Encoding(), tuple(layers))
    return Workload(graph, spikes, rng.integers(0, CLASSES, samples), tuple(rates))


def _random_layers(size: int, rng: np.random.Generator) -> list[Any]:
    import numpy as np

    from compiler.chip.fields import READOUT_V_TH_MANT
    from compiler.ir.geometry import ConvGeometry, frozen
    from compiler.ir.snn import SnnLayer

    layers: list[Any] = []
    shape = (1, size, size)
    for channels, stride in ((16, 1), (32, 2), (64, 2), (128, 0), (CLASSES, 0)):
        conv, readout = stride > 0, channels == CLASSES
        geometry = ConvGeometry((max(stride, 1),) * 2, ((1, 1), (1, 1)) if conv else ((0, 0),) * 2)
        kernel = (shape[0], 3, 3) if conv else (int(np.prod(shape)),)
        places = geometry.output_size(shape[1:], (3, 3)) if conv else (1, 1)
        weight = np.clip(2 * np.round(rng.normal(0, 30, (channels, *kernel)) / 2), -256, 254)
        after = (channels, *places)
        threshold = float(READOUT_V_TH_MANT if readout else 1023)
        layers.append(
            SnnLayer(
                f"layer{len(layers)}", "conv" if conv else "dense", shape, after,
                frozen(weight, np.float64), None, threshold, np.ones(channels),
                readout=readout, geometry=geometry,
            )
        )  # fmt: skip
        shape = after
    return layers


def _with_rate(layer: Any, spikes_tnhwc: np.ndarray) -> tuple[Any, np.ndarray, float]:
    """The layer with the odd threshold whose firing rate comes nearest to HIDDEN_RATE."""
    from compiler.chip.execute_float import run_float_layer
    from compiler.chip.fields import HIDDEN_V_TH_MANT

    low, high = HIDDEN_V_TH_MANT.low // 2, HIDDEN_V_TH_MANT.high // 2
    while low < high:
        middle = (low + high) // 2
        spikes, _ = run_float_layer(replace(layer, threshold=2.0 * middle + 1), spikes_tnhwc[:, :8])
        low, high = (middle + 1, high) if spikes.mean() > HIDDEN_RATE else (low, middle)
    chosen = replace(layer, threshold=2.0 * low + 1)
    spikes, _ = run_float_layer(chosen, spikes_tnhwc)
    return chosen, spikes, float(spikes.mean())

"""The networks and images that the simulators are measured on."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compiler.ir.ann import AnnGraph
    from compiler.ir.chip import ChipGraph
    from compiler.ir.snn import SnnGraph

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / "tests" / "golden"
BALANCING_IMAGES = 16


@dataclass(frozen=True)
class Load:
    """A network and images; `samples`: how many each candidate runs in a round.

    lava_steps: time-steps that Lava runs in a round, whole samples or a part of one.
    """

    name: str
    graph: ChipGraph
    images_nchw: Any
    images: str
    samples: dict[str, int]
    lava_steps: int

    @property
    def timesteps(self) -> int:
        """Steps of a sample."""
        return int(self.graph.timesteps or 0)


def fashion() -> Load:
    """The compiled preset `fashion-mnist`: conv 1-16-32-64, dense 3136-128-10, T = 32."""
    graph = _golden("fashion_mnist.net")
    images, kind = _images("fashion-mnist", graph.input_shape, 2000)
    samples = {"ours": 2000, "slayer": 32, "snntorch": 64, "spikingjelly": 64}
    return Load("fashion-mnist", graph, images, kind, samples, 2 * 32)


def digits() -> Load:
    """The compiled preset `digits`, small enough to show that everything runs."""
    graph = _golden("digits.net")
    images, kind = _images("digits", graph.input_shape, 100)
    samples = {"ours": 100, "slayer": 4, "snntorch": 4, "spikingjelly": 4}
    return Load("digits", graph, images, kind, samples, 8)


def vgg5() -> Load:
    """VGG5 for CIFAR-10 with random weights, thresholds balanced on random images, T = 32."""
    graph = vgg5_graph()
    images, kind = _images("cifar10", graph.input_shape, 64)
    samples = {"ours": 64, "slayer": 2, "snntorch": 2, "spikingjelly": 2}
    return Load("vgg5-cifar10", graph, images, kind, samples, 8)


def _golden(name: str) -> ChipGraph:
    from netx_export import read_netx

    return read_netx(GOLDEN / name).graph


def vgg5_graph(seed: int = 0) -> ChipGraph:
    """Pools have neurons of their own, as where a compile finds that they cost less so.

    Lava holds the number of groups in 8 bits, so that the 128 of the second pool become 64.
    """
    import numpy as np
    import torch

    from compiler.config import ConversionConfig
    from compiler.conversion import convert
    from compiler.frontend import load_model
    from compiler.ir.run_ann import run_ann
    from compiler.ir.snn import Encoding
    from compiler.ir.synthetic import SyntheticSet
    from compiler.passes.lower import POOLS_AS_NEURONS
    from compiler.quantization import quantize

    torch.manual_seed(seed)
    network: AnnGraph = load_model("benchmarks.simulator_load:random_vgg5", input_shape=(3, 32, 32))
    for one in POOLS_AS_NEURONS:
        network = one(network)
    images = np.random.default_rng(seed).integers(0, 256, (BALANCING_IMAGES + 4, 3, 32, 32))
    logits = run_ann(network, (images / 255).astype(np.float32))
    made = SyntheticSet(images.astype(np.uint8), np.full_like(logits, 0.1), logits, 4)
    settings = ConversionConfig(
        percentiles=(99.9,), threshold_scales=(1.0,), images=BALANCING_IMAGES
    )
    return quantize(convert(network, made, settings, Encoding()).graph)


def random_vgg5() -> Any:
    """The untrained network, as a factory that the front end can load."""
    from compiler.frontend.architectures import ARCHITECTURES

    return ARCHITECTURES["vgg5"]((3, 32, 32), 10).eval()


def _images(spec: str, shape: Any, count: int) -> tuple[Any, str]:
    """Real images where they are on this machine, else noise; and which."""
    import numpy as np

    from compiler.errors import DataError
    from sim.datasets import load_dataset

    with contextlib.suppress(DataError):
        return load_dataset(spec, shape, count, 0).images_nchw, f"{spec} test images"
    noise = np.random.default_rng(0).random((count, *shape)).astype(np.float32)
    return noise, "random noise, for want of the data"


def as_float(graph: ChipGraph) -> SnnGraph:
    """The same integers as an SnnGraph, which the blocks and the float peers are made from."""
    import numpy as np

    from compiler.ir.snn import Encoding, SnnGraph, SnnLayer

    layers = tuple(
        SnnLayer(
            layer.name,
            "conv" if layer.kind == "conv" else "dense",
            layer.input_shape,
            layer.shape,
            layer.weight,
            layer.bias,
            float(layer.neuron.v_th_mant),
            np.ones(layer.shape[0]),
            layer.neuron.i_decay,
            layer.neuron.v_decay,
            layer.readout,
            layer.geometry,
        )
        for layer in graph.layers
    )
    code = graph.encoding or Encoding()
    return SnnGraph(graph.name, graph.input_shape, graph.timesteps or 0, code, layers)

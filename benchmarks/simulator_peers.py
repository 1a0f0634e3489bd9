"""Forward passes of the peers: read-out voltage of some samples, from spikes that are ready."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compiler.ir.snn import SnnGraph

Forward = Callable[[], Any]


def slayer(graph: SnnGraph, spikes_tnchw: Any) -> Forward:
    """lava-dl's own forward code of the same blocks; voltage (N, K) in mantissas, exact."""
    import numpy as np
    import torch

    from compiler.encryption.network import WEIGHT_SCALE, SlayerNetwork, Surrogate

    network = SlayerNetwork(graph, Surrogate())
    spikes = torch.from_numpy(np.ascontiguousarray(np.moveaxis(spikes_tnchw, 0, -1))).float()

    def forward() -> Any:
        with torch.no_grad():
            return network.stock_forward(spikes)[0].numpy() * WEIGHT_SCALE

    return forward


def snntorch(graph: SnnGraph, spikes_tnchw: Any) -> Forward:
    """snnTorch's neurons, reset to zero, step by step; float, so the spikes differ a little."""
    import snntorch as package
    import torch

    synapses = _synapses(graph)
    neurons = [
        package.Leaky(beta=1.0, threshold=layer.threshold, reset_mechanism="zero")
        for layer in graph.layers[:-1]
    ]
    spikes = torch.from_numpy(spikes_tnchw).float()

    def forward() -> Any:
        with torch.inference_mode():
            states = [neuron.reset_mem() for neuron in neurons]
            total = torch.zeros(())
            for arriving in spikes:
                for index, neuron in enumerate(neurons):
                    drive = synapses[index](_fitting(synapses[index], arriving))
                    arriving, states[index] = neuron(drive, states[index])
                total = total + synapses[-1](_fitting(synapses[-1], arriving))
            return total.numpy()

    return forward


def spikingjelly(graph: SnnGraph, spikes_tnchw: Any) -> Forward:
    """SpikingJelly's neurons in multi-step mode, synapses with time folded into the batch."""
    import torch

    with contextlib.redirect_stdout(io.StringIO()):
        from spikingjelly.activation_based import functional, neuron

    synapses = _synapses(graph)
    neurons = [
        neuron.IFNode(layer.threshold, v_reset=0.0, step_mode="m", backend="torch")
        for layer in graph.layers[:-1]
    ]
    spikes = torch.from_numpy(spikes_tnchw).float()

    def folded(synapse: Any, arriving: Any) -> Any:
        flat = _fitting(synapse, arriving.flatten(0, 1))
        return synapse(flat).unflatten(0, arriving.shape[:2])

    def forward() -> Any:
        with torch.inference_mode():
            arriving = spikes
            for synapse, node in zip(synapses, neurons, strict=False):
                functional.reset_net(node)
                arriving = node(folded(synapse, arriving))
            return folded(synapses[-1], arriving).sum(0).numpy()

    return forward


def _synapses(graph: SnnGraph) -> list[Any]:
    """torch layers with the network's weights and biases."""
    import torch

    synapses: list[Any] = []
    for layer in graph.layers:
        if layer.kind == "conv":
            geometry = layer.geometry
            synapse: Any = torch.nn.Conv2d(
                layer.input_shape[0],
                layer.shape[0],
                (layer.weight.shape[2], layer.weight.shape[3]),
                geometry.stride,
                (geometry.padding[0][0], geometry.padding[1][0]),
                geometry.dilation,
                geometry.groups,
                bias=layer.bias is not None,
            )
        else:
            outputs, inputs = layer.weight.shape
            synapse = torch.nn.Linear(inputs, outputs, bias=layer.bias is not None)
        with torch.no_grad():
            synapse.weight.copy_(torch.tensor(layer.weight))
            if layer.bias is not None:
                synapse.bias.copy_(torch.tensor(layer.bias))
        synapses.append(synapse)
    return synapses


def _fitting(synapse: Any, arriving: Any) -> Any:
    return arriving.flatten(1) if synapse.weight.dim() == 2 else arriving


PEERS: dict[str, Callable[[SnnGraph, Any], Forward]] = {
    "slayer": slayer,
    "snntorch": snntorch,
    "spikingjelly": spikingjelly,
}

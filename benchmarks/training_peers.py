"""One training step of ours and of each peer, on the same network and spikes."""

from __future__ import annotations

import contextlib
import io
import statistics
import time
from collections.abc import Callable
from typing import Any

from benchmarks.training_load import Workload

LOGIT_SCALE = 1e-2
"""Logits are the read-out's voltage (a weight of 1.0 is 64 mantissas) times this."""


class Candidate:
    """A training step in three parts; `logits` runs the network on the workload's spikes."""

    parameters: list[Any]
    logits: Callable[[], Any]

    def __init__(self, workload: Workload, fused: bool = False) -> None:
        import torch

        self.labels = torch.from_numpy(workload.labels)
        self.optimizer = torch.optim.Adam(self.parameters, 1e-4, fused=fused)
        self.seconds: list[tuple[float, float, float]] = []

    def loss_with_logits(self) -> tuple[Any, Any]:
        """Cross-entropy of the read-out, and the logits."""
        from torch.nn import functional

        logits = self.logits()
        return functional.cross_entropy(logits, self.labels), logits.detach()

    def weight_gradients(self) -> list[Any]:
        """Gradients of the weights, flat, for one forward and backward run."""
        self.optimizer.zero_grad(set_to_none=True)
        loss, _ = self.loss_with_logits()
        loss.backward()
        return [p.grad.flatten() for p in self.parameters if p.dim() > 1]

    def step(self) -> None:
        """Forward, backward, Adam; the seconds of each are kept."""
        marks = [time.perf_counter()]
        loss, _ = self.loss_with_logits()
        marks.append(time.perf_counter())
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        marks.append(time.perf_counter())
        self.optimizer.step()
        marks.append(time.perf_counter())
        self.seconds.append((marks[1] - marks[0], marks[2] - marks[1], marks[3] - marks[2]))

    def parts(self) -> dict[str, float]:
        """Median seconds of forward, backward and Adam."""
        columns = zip(*self.seconds, strict=True)
        names = ("forward", "backward", "adam")
        return {name: statistics.median(part) for name, part in zip(names, columns, strict=True)}


class Ours(Candidate):
    """SLAYER blocks as this project computes them, as in the stage `encrypt`."""

    def __init__(self, workload: Workload) -> None:
        import torch

        from compiler.encryption.network import SlayerNetwork, Surrogate

        network = SlayerNetwork(workload.graph, Surrogate(1.0, 2 / workload.graph.timesteps))
        spikes = torch.from_numpy(workload.spikes_tnhwc).float()
        self.logits = lambda: network(spikes)[0] * LOGIT_SCALE
        self.parameters = [p for p in network.parameters() if p.requires_grad]
        self.network = network
        super().__init__(workload)


class Stock(Candidate):
    """lava-dl's own blocks, as published, with the same weights, thresholds and surrogate."""

    def __init__(self, workload: Workload) -> None:
        import torch

        from compiler.encryption.network import SlayerNetwork, Surrogate
        from compiler.encryption.quiet import slayer

        self.dense = slayer.block.cuba.Dense
        surrogate = Surrogate(1.0, 2 / workload.graph.timesteps)
        self.blocks = torch.nn.ModuleList(
            _stock_block(slayer, layer, surrogate) for layer in workload.graph.layers
        )
        ours = SlayerNetwork(workload.graph, surrogate)
        with torch.no_grad():
            for block, same in zip(self.blocks, ours.blocks, strict=True):
                block.synapse.weight.copy_(same.synapse.weight)
        spikes = torch.from_numpy(workload.spikes_tnhwc).float().permute(1, 4, 2, 3, 0).contiguous()
        self.logits = lambda: self._voltage(spikes) * LOGIT_SCALE
        self.parameters = [p for p in self.blocks.parameters() if p.requires_grad]
        super().__init__(workload)

    def _voltage(self, spikes: Any) -> Any:
        """Voltage of the last block after the last step."""
        for block in self.blocks[:-1]:
            if isinstance(block, self.dense) and spikes.dim() == 5:
                spikes = spikes.flatten(1, 3)
            spikes = block(spikes)
        last = self.blocks[-1]
        return last.neuron.dynamics(last.synapse(spikes))[1][..., -1]


def _stock_block(slayer: Any, layer: Any, surrogate: Any) -> Any:
    from compiler.encryption.network import WEIGHT_SCALE, gradient_parameters

    neuron = {
        "threshold": layer.threshold / WEIGHT_SCALE,
        "current_decay": layer.i_decay / 4096,
        "voltage_decay": layer.v_decay / 4096,
        "scale": WEIGHT_SCALE,
        **gradient_parameters(surrogate),
    }
    if layer.kind == "dense":
        outputs, inputs = layer.weight.shape
        return slayer.block.cuba.Dense(neuron, inputs, outputs, delay_shift=False)
    geometry = layer.geometry
    return slayer.block.cuba.Conv(
        neuron, layer.input_shape[0], layer.shape[0], layer.weight.shape[2:],
        stride=geometry.stride, padding=tuple(a for a, _ in geometry.padding), delay_shift=False,
    )  # fmt: skip


class SnnTorch(Candidate):
    """snnTorch: float integrate-and-fire neurons that reset to zero, a loop over the steps."""

    def __init__(self, workload: Workload) -> None:
        import snntorch
        import torch

        synapses, thresholds = _float_synapses(workload)
        neurons = [
            snntorch.Leaky(beta=1.0, threshold=threshold, reset_mechanism="zero")
            for threshold in thresholds
        ]
        spikes = torch.from_numpy(workload.spikes_tnhwc).float().permute(0, 1, 4, 2, 3).contiguous()

        def logits() -> Any:
            states = [neuron.reset_mem() for neuron in neurons]
            total = torch.zeros(())
            for arriving in spikes:
                for index, neuron in enumerate(neurons):
                    drive = synapses[index](_fitting(synapses[index], arriving))
                    arriving, states[index] = neuron(drive, states[index])
                total = total + synapses[-1](arriving)
            return total * LOGIT_SCALE

        self.logits = logits
        self.parameters = [p for synapse in synapses for p in synapse.parameters()]
        super().__init__(workload)


class SpikingJelly(Candidate):
    """SpikingJelly: float integrate-and-fire neurons, multi-step mode, torch backend."""

    def __init__(self, workload: Workload) -> None:
        import torch

        with contextlib.redirect_stdout(io.StringIO()):
            from spikingjelly.activation_based import functional, neuron

        synapses, thresholds = _float_synapses(workload)
        neurons = [
            neuron.IFNode(threshold, v_reset=0.0, step_mode="m", backend="torch")
            for threshold in thresholds
        ]
        spikes = torch.from_numpy(workload.spikes_tnhwc).float().permute(0, 1, 4, 2, 3).contiguous()
        steps, samples = spikes.shape[:2]

        def folded(synapse: Any, arriving: Any) -> Any:
            flat = _fitting(synapse, arriving.flatten(0, 1))
            return synapse(flat).unflatten(0, (steps, samples))

        def logits() -> Any:
            arriving = spikes
            for synapse, node in zip(synapses, neurons, strict=False):
                functional.reset_net(node)
                arriving = node(folded(synapse, arriving))
            return folded(synapses[-1], arriving).sum(0) * LOGIT_SCALE

        self.logits = logits
        self.parameters = [p for synapse in synapses for p in synapse.parameters()]
        super().__init__(workload)


def _float_synapses(workload: Workload) -> tuple[list[Any], list[float]]:
    """torch layers without bias with the workload's weights, and the hidden thresholds."""
    import torch

    synapses: list[Any] = []
    for layer in workload.graph.layers:
        if layer.kind == "conv":
            synapse: Any = torch.nn.Conv2d(
                layer.input_shape[0], layer.shape[0], layer.weight.shape[2:],
                layer.geometry.stride, layer.geometry.padding[0][0], bias=False,
            )  # fmt: skip
        else:
            synapse = torch.nn.Linear(*reversed(layer.weight.shape), bias=False)
        with torch.no_grad():
            synapse.weight.copy_(torch.tensor(layer.weight / 64, dtype=torch.float32))
        synapses.append(synapse)
    return synapses, [layer.threshold / 64 for layer in workload.graph.layers[:-1]]


def _fitting(synapse: Any, images: Any) -> Any:
    return images.flatten(1) if synapse.weight.dim() == 2 else images


CANDIDATES: dict[str, type[Candidate]] = {
    "ours": Ours,
    "slayer": Stock,
    "snntorch": SnnTorch,
    "spikingjelly": SpikingJelly,
}

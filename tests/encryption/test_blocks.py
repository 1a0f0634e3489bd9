"""The blocks computed with time in the batch against lava-dl's own code."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from compiler.chip.execute import run_graph
from compiler.encryption.network import WEIGHT_SCALE, SlayerNetwork, Surrogate
from compiler.encryption.quiet import slayer
from compiler.ir.geometry import Array
from compiler.ir.snn import SnnGraph
from compiler.quantization import quantize

GRADIENT_TOLERANCE = 1e-4
"""Of the largest gradient of a parameter: both sides sum float32 numbers, in different order."""


def folded_run(
    module: SlayerNetwork, spikes_tnchw: Array
) -> tuple[list[torch.Tensor], list[torch.Tensor], torch.Tensor]:
    """Spikes (T, N, C, H, W) and counts (N, C, H, W) of the hidden layers, and the voltage."""
    spikes = torch.from_numpy(np.ascontiguousarray(np.moveaxis(spikes_tnchw, 2, -1)))
    hidden, sums = [], []
    for block in module.blocks[:-1]:
        spikes, counts = block.folded(spikes)
        hidden.append(spikes.permute(0, 1, 4, 2, 3))
        sums.append(counts.permute(0, 3, 1, 2))
    return hidden, sums, module.blocks[-1].folded(spikes)[0]


def stock_run(
    module: SlayerNetwork, spikes_tnchw: Array
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """The same from lava-dl alone."""
    given = torch.from_numpy(np.ascontiguousarray(np.moveaxis(spikes_tnchw, 0, -1)))
    voltage, hidden = module.stock_forward(given)
    shapes = [layer.shape for layer in module.graph.layers]
    steps, samples = spikes_tnchw.shape[:2]
    return [
        torch.movedim(run, -1, 0).reshape(steps, samples, *shape)
        for run, shape in zip(hidden, shapes, strict=False)
    ], voltage


def test_the_blocks_are_slayer_s_own(network: SnnGraph) -> None:
    module = SlayerNetwork(network, Surrogate())
    kinds = [slayer.block.cuba.Conv] * 2 + [slayer.block.cuba.Dense] * 3
    for block, kind, layer in zip(module.blocks, kinds, network.layers, strict=True):
        assert isinstance(block, kind)
        assert block.delay_shift is False and block.synapse.bias is None
        assert block.neuron.cx_current_decay == layer.i_decay
        assert block.neuron.cx_voltage_decay == layer.v_decay
        assert not hasattr(block.neuron.norm, "pre_hook_fx")


def test_spikes_equal_stock_slayer(network: SnnGraph, spikes_tnchw: Array) -> None:
    module = SlayerNetwork(network, Surrogate())
    with torch.no_grad():
        folded, counts, voltage = folded_run(module, spikes_tnchw)
        stock, stock_voltage = stock_run(module, spikes_tnchw)
    for layer, one, count, other in zip(network.layers, folded, counts, stock, strict=False):
        assert torch.equal(one, other), layer.name
        assert torch.equal(count, other.sum(0)), layer.name
        assert 0 < one.sum() < one.numel(), f"{layer.name} says nothing"
    assert torch.equal(voltage, stock_voltage)


def test_spikes_equal_the_integer_simulator(network: SnnGraph, spikes_tnchw: Array) -> None:
    """Training sees the very integers that are exported."""
    with torch.no_grad():
        folded, _, voltage = folded_run(SlayerNetwork(network, Surrogate()), spikes_tnchw)
    runs = list(run_graph(quantize(network), spikes_tnchw.astype(np.uint8)))
    for run, spikes in zip(runs, folded, strict=False):
        expected = np.moveaxis(run.spikes_tnhwc, -1, 2)
        np.testing.assert_array_equal(spikes.numpy(), expected, err_msg=run.layer.name)
    exported = runs[-1].voltage_nhwc.reshape(3, -1)
    np.testing.assert_array_equal(voltage.double().numpy() * WEIGHT_SCALE * 64, exported)


def gradients(
    module: SlayerNetwork, hidden: list[torch.Tensor], voltage: torch.Tensor
) -> dict[str, Array]:
    """Of a loss in which every spike of every layer and every voltage has a weight of its own."""
    generator = torch.Generator().manual_seed(1)
    loss = (voltage * torch.randn(voltage.shape, generator=generator)).sum()
    for spikes in hidden:
        loss = loss + (spikes * torch.randn(spikes.shape, generator=generator)).sum()
    module.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    return {
        name: p.grad.numpy().copy() for name, p in module.named_parameters() if p.grad is not None
    }


@pytest.mark.parametrize("surrogate", [Surrogate(), Surrogate(0.3, 0.5)], ids=["wide", "narrow"])
def test_gradients_equal_stock_slayer(
    network: SnnGraph, spikes_tnchw: Array, surrogate: Surrogate
) -> None:
    module = SlayerNetwork(network, surrogate)
    folded, _, voltage = folded_run(module, spikes_tnchw)
    ours = gradients(module, folded, voltage)
    theirs = gradients(module, *stock_run(module, spikes_tnchw))
    assert len(ours) == 2 * len(network.layers)
    assert set(ours) == set(theirs)
    for name, gradient in theirs.items():
        largest = np.abs(gradient).max()
        assert largest > 0, name
        np.testing.assert_allclose(
            ours[name], gradient, rtol=0, atol=GRADIENT_TOLERANCE * largest, err_msg=name
        )


def test_a_loss_on_counts_has_the_gradient_of_a_loss_on_spikes(
    network: SnnGraph, spikes_tnchw: Array
) -> None:
    module = SlayerNetwork(network, Surrogate())
    generator = torch.Generator().manual_seed(2)
    found = []
    for of_counts in (True, False):
        spikes, counts, _ = folded_run(module, spikes_tnchw)
        generator.manual_seed(2)
        loss = torch.zeros(())
        for one, total in zip(spikes, counts, strict=True):
            total = total if of_counts else one.sum(0)
            loss = loss + (total * torch.randn(total.shape, generator=generator)).sum()
        module.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        found.append([p.grad.clone() for p in module.parameters() if p.grad is not None])
    assert len(found[0]) == 2 * (len(network.layers) - 1)
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_u_wraps_and_v_clips_as_on_the_chip(network: SnnGraph) -> None:
    """Stock SLAYER does neither; the folded blocks follow the integer simulator beyond 24 bits."""
    drawn = np.random.default_rng(1).choice([254.0, -256.0], (6, 20_000), p=[0.7, 0.3])
    layer = replace(
        network.layers[-1],
        input_shape=(20_000, 1, 1),
        shape=(6, 1, 1),
        weight=drawn,
        bias=np.linspace(-4096, 4094, 6),
        i_decay=40,
        readout=False,
        threshold=4095.0,
    )
    last = replace(
        layer, name="logits", input_shape=(6, 1, 1), weight=np.eye(6) * 254, readout=True
    )
    graph = replace(network, input_shape=(20_000, 1, 1), layers=(layer, last))
    spikes = np.ones((16, 1, 20_000, 1, 1), np.float32)
    with torch.no_grad():
        folded, _, voltage = folded_run(SlayerNetwork(graph, Surrogate()), spikes)
    hidden, end = run_graph(quantize(graph), spikes.astype(np.uint8), traces=True)
    assert hidden.u_tnhwc is not None
    assert np.abs(np.diff(hidden.u_tnhwc.astype(np.int64), axis=0)).max() > 1 << 23
    np.testing.assert_array_equal(folded[0].numpy(), np.moveaxis(hidden.spikes_tnhwc, -1, 2))
    np.testing.assert_array_equal(
        voltage.double().numpy() * WEIGHT_SCALE * 64, end.voltage_nhwc.reshape(1, -1)
    )


def test_what_goes_in_comes_out(network: SnnGraph) -> None:
    """Weights and biases survive the way to SLAYER's scale and back."""
    back = SlayerNetwork(network, Surrogate()).to_graph()
    for before, after in zip(network.layers, back.layers, strict=True):
        np.testing.assert_allclose(after.weight, before.weight, rtol=1e-6, atol=1e-6)
        assert after.bias is not None
        expected = np.zeros(before.shape[0]) if before.bias is None else before.bias
        np.testing.assert_allclose(after.bias, expected, rtol=1e-6, atol=1e-6)
        assert (after.threshold, after.geometry) == (before.threshold, before.geometry)

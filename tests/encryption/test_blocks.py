"""The blocks computed with time in the batch against lava-dl's own code."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np
import pytest
import torch

from compiler.chip.execute import run_graph
from compiler.encryption import native
from compiler.encryption.network import WEIGHT_SCALE, Engine, SlayerNetwork, Surrogate
from compiler.encryption.quiet import slayer
from compiler.ir.geometry import Array
from compiler.ir.snn import SnnGraph
from compiler.quantization import quantize

GRADIENT_TOLERANCE = 1e-4
"""Of the largest gradient of a parameter: both sides sum float32 numbers, in different order."""


ENGINES = ("native", "numba", "torch")


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Engine:
    if request.param == "native" and not native.available():
        pytest.skip("no C++ compiler")
    return cast(Engine, request.param)


def folded_run(
    module: SlayerNetwork, spikes_tnchw: Array
) -> tuple[list[torch.Tensor], list[torch.Tensor], torch.Tensor]:
    """Spikes (T, N, C, H, W) and counts (N, C, H, W) of the hidden layers, and the voltage."""
    spikes = torch.from_numpy(np.ascontiguousarray(np.moveaxis(spikes_tnchw, 2, -1)))
    voltage, counts, hidden = module.run(spikes, keep_spikes=True)
    return (
        [one.permute(0, 1, 4, 2, 3) for one in hidden],
        [one.permute(0, 3, 1, 2) for one in counts],
        voltage,
    )


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


def test_spikes_equal_stock_slayer(network: SnnGraph, spikes_tnchw: Array, engine: Engine) -> None:
    module = SlayerNetwork(network, Surrogate(), engine)
    with torch.no_grad():
        folded, counts, voltage = folded_run(module, spikes_tnchw)
        stock, stock_voltage = stock_run(module, spikes_tnchw)
    for layer, one, count, other in zip(network.layers, folded, counts, stock, strict=False):
        assert torch.equal(one, other), layer.name
        assert torch.equal(count, other.sum(0)), layer.name
        assert 0 < one.sum() < one.numel(), f"{layer.name} says nothing"
    assert torch.equal(voltage, stock_voltage)


def test_spikes_equal_the_integer_simulator(
    network: SnnGraph, spikes_tnchw: Array, engine: Engine
) -> None:
    """Training sees the very integers that are exported."""
    with torch.no_grad():
        folded, _, voltage = folded_run(SlayerNetwork(network, Surrogate(), engine), spikes_tnchw)
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


def _piecewise_linear(
    voltage: torch.Tensor,
    threshold: torch.Tensor,
    tau_rho: torch.Tensor,
    scale_rho: torch.Tensor,
    graded_spike: object,
) -> torch.Tensor:
    """In place of the exponential in SLAYER's own backward run."""
    return scale_rho / 2 / tau_rho * (1 - (voltage - threshold).abs() / tau_rho).clamp(min=0)


def test_the_piecewise_linear_surrogate(
    network: SnnGraph, spikes_tnchw: Array, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = SlayerNetwork(network, Surrogate(1.0, 0.3, linear=True), engine)
    folded, _, voltage = folded_run(module, spikes_tnchw)
    ours = gradients(module, folded, voltage)
    exponential = gradients(module, *stock_run(module, spikes_tnchw))
    monkeypatch.setattr("lava.lib.dl.slayer.spike.spike._spike_backward", _piecewise_linear)
    theirs = gradients(module, *stock_run(module, spikes_tnchw))
    assert any(np.abs(theirs[name] - exponential[name]).max() > 0 for name in theirs)
    for name, gradient in theirs.items():
        atol = GRADIENT_TOLERANCE * np.abs(gradient).max()
        np.testing.assert_allclose(ours[name], gradient, rtol=0, atol=atol, err_msg=name)


@pytest.mark.parametrize("surrogate", [Surrogate(), Surrogate(0.3, 0.5)], ids=["wide", "narrow"])
def test_gradients_equal_stock_slayer(
    network: SnnGraph, spikes_tnchw: Array, surrogate: Surrogate, engine: Engine
) -> None:
    module = SlayerNetwork(network, surrogate, engine)
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
    network: SnnGraph, spikes_tnchw: Array, engine: Engine
) -> None:
    module = SlayerNetwork(network, Surrogate(), engine)
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
        hidden = [p.grad for p in module.blocks[:-1].parameters() if p.grad is not None]
        found.append([gradient.clone() for gradient in hidden])
    assert len(found[0]) == 2 * (len(network.layers) - 1)
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_u_wraps_and_v_clips_as_on_the_chip(network: SnnGraph, engine: Engine) -> None:
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
        folded, _, voltage = folded_run(SlayerNetwork(graph, Surrogate(), engine), spikes)
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


def test_convolutions_behind_each_other(wide: SnnGraph, engine: Engine) -> None:
    """Channels in whole vectors, stride, dilation and borders, and sums beyond 16 bits."""
    spikes = (np.random.default_rng(3).random((16, 5, 3, 11, 14)) < 0.3).astype(np.float32)
    module = SlayerNetwork(wide, Surrogate(), engine)
    folded, _, voltage = folded_run(module, spikes)
    stock, stock_voltage = stock_run(module, spikes)
    for one, other in zip(folded, stock, strict=True):
        assert torch.equal(one, other) and 0 < one.sum() < one.numel()
    assert torch.equal(voltage, stock_voltage)
    ours = gradients(module, folded, voltage)
    theirs = gradients(module, stock, stock_voltage)
    assert len(ours) == 2 * len(wide.layers)
    for name, gradient in theirs.items():
        atol = GRADIENT_TOLERANCE * np.abs(gradient).max()
        np.testing.assert_allclose(ours[name], gradient, rtol=0, atol=atol, err_msg=name)


def test_threads_change_nothing_but_rounding(wide: SnnGraph) -> None:
    if not native.available():
        pytest.skip("no C++ compiler")
    spikes = (np.random.default_rng(3).random((16, 5, 3, 11, 14)) < 0.3).astype(np.float32)
    found = []
    before = torch.get_num_threads()
    for threads in (1, 3):
        torch.set_num_threads(threads)
        module = SlayerNetwork(wide, Surrogate(), "native")
        hidden, _, voltage = folded_run(module, spikes)
        gradients(module, hidden, voltage)
        found.append([p.grad.clone() for p in module.blocks[:2].parameters() if p.grad is not None])
    torch.set_num_threads(before)
    assert len(found[0]) == 4
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=0)


def test_steps_may_overlap_and_buffers_come_back(network: SnnGraph, spikes_tnchw: Array) -> None:
    """Two forward runs before the first backward run do not write over each other."""
    if not native.available():
        pytest.skip("no C++ compiler")
    module = SlayerNetwork(network, Surrogate(), "native")
    other = spikes_tnchw[:, ::-1].copy()
    alone = [
        gradients(module, *folded_run(module, spikes)[::2]) for spikes in (spikes_tnchw, other)
    ]
    runs = [folded_run(module, spikes)[::2] for spikes in (spikes_tnchw, other)]
    together = [gradients(module, *run) for run in runs]
    for one, two in zip(alone, together, strict=True):
        for name in one:
            np.testing.assert_array_equal(one[name], two[name], err_msg=name)
    voltage = folded_run(module, spikes_tnchw)[2]
    voltage.sum().backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="free after one backward run"):
        voltage.sum().backward()


@pytest.mark.parametrize("keep_spikes", [True, False])
def test_steps_take_no_more_memory_than_the_first(
    network: SnnGraph, spikes_tnchw: Array, keep_spikes: bool
) -> None:
    if not native.available():
        pytest.skip("no C++ compiler")
    module = SlayerNetwork(network, Surrogate(), "native")
    spikes = torch.from_numpy(np.ascontiguousarray(np.moveaxis(spikes_tnchw, 2, -1)))
    held = []
    for _ in range(4):
        voltage, counts, _ = module.run(spikes, keep_spikes)
        (voltage.sum() + sum(one.sum() for one in counts)).backward()
        with torch.no_grad():
            module.run(spikes, keep_spikes)
        held.append(module.fused.buffers.held)
    assert held[0] > 0 and len(set(held)) == 1


def test_a_gradient_flows_to_the_input(network: SnnGraph, spikes_tnchw: Array) -> None:
    spikes = torch.from_numpy(np.moveaxis(spikes_tnchw, 2, -1).copy()).requires_grad_()
    SlayerNetwork(network, Surrogate())(spikes)[0].sum().backward()
    assert spikes.grad is not None and spikes.grad.abs().sum() > 0


def test_without_gradients_nothing_is_kept(network: SnnGraph, spikes_tnchw: Array) -> None:
    module = SlayerNetwork(network, Surrogate())
    with torch.no_grad():
        _, counts, voltage = folded_run(module, spikes_tnchw)
    assert not voltage.requires_grad and not any(one.requires_grad for one in counts)

"""The same network counted by the neurobench package: equal to the last operation.

What differs between the two counts, and why, is said by the tests themselves:
* effective operations agree exactly: both count a spike times a weight that is not zero,
  and both leave out the padding and the bias;
* NeuroBench's `Dense` is not our `chip` convention: it counts every synapse at every
  step, spike or not, zero weight or not. It equals steps * synapses. Ours counts the
  synapses that a spike reaches, zero weights included.
"""

from __future__ import annotations

import numpy as np
import pytest

from sim.synops import count_operations, fan_out, synaptic_operations

pytest.importorskip("neurobench", reason="the dev group of pyproject.toml installs neurobench")


@pytest.fixture(scope="module")
def by_step(recording):
    """NeuroBench's two numbers for every layer and step, from the spikes that arrived at it."""
    import torch
    from neurobench.metrics.utils.layers import single_layer_MACs

    rows = []
    for layer, train in zip(recording.graph.layers, recording.spikes, strict=False):
        module = _torch_layer(layer)
        steps = []
        for spikes_nchw in train:
            inputs = torch.tensor(spikes_nchw, dtype=torch.float32)
            inputs = inputs if layer.kind == "conv" else inputs.flatten(1)
            effective, spiking = single_layer_MACs(inputs, module)
            everything, _ = single_layer_MACs(inputs, module, total=True)
            assert spiking
            steps.append([int(effective), int(everything)])
        rows.append(np.array(steps))
    return rows


@pytest.fixture(scope="module")
def counted(by_step):
    return [steps.sum(0) for steps in by_step]


def _torch_layer(layer):
    import torch

    weight = torch.tensor(layer.weight, dtype=torch.float32)
    if layer.kind == "dense":
        module = torch.nn.Linear(weight.shape[1], weight.shape[0])
    else:
        geometry = layer.geometry
        assert geometry.symmetric
        module = torch.nn.Conv2d(
            layer.input_shape[0],
            layer.shape[0],
            tuple(weight.shape[2:]),
            geometry.stride,
            tuple(side[0] for side in geometry.padding),
            geometry.dilation,
            geometry.groups,
        )
    module.weight.data = weight
    return module


def test_effective_operations_agree_exactly(recording, counted):
    ours = count_operations(recording.result, recording.graph)[1:]
    assert [row.synops_effective for row in ours] == [totals[0] for totals in counted]


def test_effective_operations_agree_at_every_step(recording, by_step):
    for layer, train, steps in zip(recording.graph.layers, recording.spikes, by_step, strict=False):
        ours = synaptic_operations(fan_out(layer, "effective"), train).sum(1)
        np.testing.assert_array_equal(ours, steps[:, 0])


def test_dense_operations_are_all_synapses_at_every_step(recording, counted):
    ours = count_operations(recording.result, recording.graph)[1:]
    steps, samples = recording.result.timesteps, recording.result.samples
    assert [row.synapses * steps * samples for row in ours] == [t[1] for t in counted]


def test_the_chip_does_more_by_exactly_the_zero_weights(recording, counted):
    """chip - NeuroBench = spikes that arrive at a synapse whose weight is zero."""
    ours = count_operations(recording.result, recording.graph)[1:]
    for row, layer, train, totals in zip(
        ours, recording.graph.layers, recording.spikes, counted, strict=False
    ):
        module = _torch_layer(layer)
        module.weight.data = (module.weight.data == 0).float()
        import torch
        from neurobench.metrics.utils.layers import single_layer_MACs

        spikes = torch.tensor(train.reshape(-1, *layer.input_shape), dtype=torch.float32)
        spikes = spikes if layer.kind == "conv" else spikes.flatten(1)
        at_zero_weights, _ = single_layer_MACs(spikes, module)
        assert row.synops - totals[0] == at_zero_weights

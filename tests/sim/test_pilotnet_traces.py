"""PilotNet against the u, v and spike traces that lie beside its file in lava-dl's wheel.

They hold 24 steps of a run in which samples of 16 steps follow each other, so layer k starts
k + 1 steps late. They come from the chip, which shows v = 128 in a neuron that has just fired.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from compiler.ir.chip import ChipGraph
from netx_export import read_netx
from sim.encoding import Drive
from sim.reference import trace
from sim.traces import NetworkTrace

V_AFTER_SPIKE = 128
LAYERS = ("conv-0", "conv-1", "conv-2", "conv-3", "conv-4", "fc-0", "fc-1", "fc-2")


@pytest.fixture(scope="module")
def folder(lava_tests: Path) -> Path:
    return lava_tests / "gts" / "pilotnet_lif"


@pytest.fixture(scope="module")
def graph(folder: Path) -> ChipGraph:
    return read_netx(folder / "network.net").graph


@pytest.fixture(scope="module")
def run(graph: ChipGraph, pilotnet_bias: Any) -> NetworkTrace:
    return trace(graph, Drive(16, bias_nchw=pilotnet_bias), states=True)


def _rows(path: Path, first: int) -> Any:
    """16 steps as (T, C, H, W), from (W, H, C, T) or (N, T)."""
    values = np.load(path)
    if values.ndim == 2:
        values = values[None, None]
    return values.transpose(3, 2, 1, 0)[first : first + 16]


def test_the_input_neurons(folder: Path, run: NetworkTrace) -> None:
    np.testing.assert_array_equal(
        run.input.spikes_tnchw[:, 0], _rows(folder / "input.npy", 0).astype(np.uint8)
    )


@pytest.mark.parametrize("index", range(len(LAYERS)))
def test_spikes_u_and_v(folder: Path, run: NetworkTrace, index: int) -> None:
    layer, name = run.layers[index], LAYERS[index]
    assert layer.u_tnchw is not None and layer.v_tnchw is not None
    spikes = _rows(folder / f"{name}.npy", index + 1)
    np.testing.assert_array_equal(layer.spikes_tnchw[:, 0], spikes.astype(np.uint8))
    np.testing.assert_array_equal(layer.u_tnchw[:, 0], _rows(folder / f"{name}-u.npy", index + 1))
    expected = np.where(spikes, V_AFTER_SPIKE, layer.v_tnchw[:, 0])
    np.testing.assert_array_equal(expected, _rows(folder / f"{name}-v.npy", index + 1))


def test_the_trace_of_the_last_layer_is_of_another_run(folder: Path) -> None:
    """Why fc-3 is left out: its u is not what its weights make of the spikes in fc-2."""
    with h5py.File(folder / "network.net") as file:
        weight = file["layer/10/weight"][()].astype(int)
    spikes, u = np.load(folder / "fc-2.npy"), np.load(folder / "fc-3-u.npy")[0]
    derived = 64 * (weight @ spikes)
    differing = [t for t in range(9, 24) if derived[t - 1] != u[t]]
    assert differing == [11, 18, 20, 22]

"""A graph that was written is the graph that is read, and the bytes repeat."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compiler.errors import ChipRangeError, EnvironmentProblem, NetxFormatError
from compiler.ir.chip import ChipGraph, ChipInput, ChipLayer, CubaFields
from compiler.ir.geometry import ConvGeometry, frozen
from compiler.ir.snn import Encoding
from netx_export import deployment_of, differences, prepared, read_netx, write_netx


def _even(generator: np.random.Generator, shape: tuple[int, ...], low: int, high: int) -> Any:
    values = 2 * generator.integers(low // 2, high // 2 + 1, shape)
    values.reshape(-1)[0], values.reshape(-1)[-1] = low, high
    return frozen(values, np.int32)


def _bias(draw: Any, generator: np.random.Generator, shape: tuple[int, int, int]) -> Any:
    forms = {"none": None, "channel": shape[:1], "neuron": shape if shape[1:] != (1, 1) else None}
    form = forms[draw(st.sampled_from(sorted(forms)))]
    return None if form is None else _even(generator, form, -4096, 4094)


@st.composite
def graphs(draw: Any) -> ChipGraph:
    """A few conv layers, then dense ones, each with one of the forms of bias."""
    pick = lambda low, high: draw(st.integers(low, high))  # noqa: E731
    generator = np.random.default_rng(pick(0, 2**31))
    shape = (pick(1, 4), pick(3, 9), pick(3, 9))
    start, layers = shape, []
    for index in range(pick(0, 3)):
        groups = draw(st.sampled_from([g for g in (1, 2, 3, 4) if shape[0] % g == 0]))
        padding = ((pick(0, 2), pick(0, 2)), (pick(0, 2), pick(0, 2)))
        geometry = ConvGeometry((pick(1, 2), pick(1, 3)), padding, (pick(1, 2), pick(1, 2)), groups)
        kernel = (pick(1, 3), pick(1, 3))
        rows, columns = geometry.output_size(shape[1:], kernel)
        if rows < 1 or columns < 1:
            continue
        out = (groups * pick(1, 3), rows, columns)
        weight = _even(generator, (out[0], shape[0] // groups, *kernel), -256, 254)
        neuron = CubaFields(2 * pick(0, 2047) + 1, pick(1, 4096), pick(0, 4095))
        bias = _bias(draw, generator, out)
        layers.append(ChipLayer(f"c{index}", "conv", shape, out, weight, bias, neuron, geometry))
        shape = out
    for index in range(pick(1, 3)):
        out = (pick(2, 6), 1, 1)
        weight = _even(generator, (out[0], int(np.prod(shape))), -256, 254)
        bias = _bias(draw, generator, out)
        neuron = CubaFields(2 * pick(0, 2047) + 1)
        layers.append(ChipLayer(f"d{index}", "dense", shape, out, weight, bias, neuron))
        shape = out
    if draw(st.booleans()):
        layers[-1] = replace(layers[-1], neuron=CubaFields(131071), readout=True)
    codes = [Encoding(), Encoding("poisson", 9), Encoding("latency", 0, 0.2)]
    encoding = draw(st.sampled_from(codes))
    names = draw(st.sampled_from([(), ("0", "1"), ("Äpfel", "x" * 40)]))
    return ChipGraph("random", start, tuple(layers), 8, encoding, None, names)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(graphs())
def test_reading_gives_back_what_was_written(graph: ChipGraph) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.net"
        write_netx(graph, path, deployment_of(graph))
        read = read_netx(path)
        assert sorted(item.name for item in Path(folder).iterdir()) == ["model.net"]
    assert differences(read.graph, prepared(graph)) == ()
    assert read.violations == ()


def test_symmetric_graphs_come_back_without_any_change(graph: ChipGraph, tmp_path: Path) -> None:
    write_netx(graph, tmp_path / "m.net", deployment_of(graph))
    assert differences(read_netx(tmp_path / "m.net").graph, graph) == ()


def test_delays_and_input_neurons_come_back(graph: ChipGraph, tmp_path: Path) -> None:
    delay = frozen(np.arange(30).reshape(3, 10), np.int32)
    layers = (*graph.layers[:-1], replace(graph.layers[-1], delay=delay))
    neurons = ChipInput("input", graph.input_shape, CubaFields(25, 4096, 1024), 40, 36)
    changed = replace(graph, layers=layers, input_neurons=neurons)
    write_netx(changed, tmp_path / "m.net", deployment_of(changed))
    assert differences(read_netx(tmp_path / "m.net").graph, changed) == ()


def test_the_deployment_comes_back(graph: ChipGraph, tmp_path: Path) -> None:
    given_ = deployment_of(
        graph, seed=5, mean=(0.1, 0.2), std=(0.5, 0.25), versions={"torch": "2", "numpy": "1.26"}
    )
    write_netx(graph, tmp_path / "m.net", given_)
    found = read_netx(tmp_path / "m.net").deployment
    assert found is not None
    assert replace(found, layer_hash="") == given_
    assert len(found.layer_hash) == 64
    assert found.readout.layer == 5
    with h5py.File(tmp_path / "m.net") as file:
        assert file[f"layer/{found.readout.layer}/neuron/vThMant"][()] == 131071
        assert sorted(file) == ["deployment", "layer"]


def test_the_same_graph_gives_the_same_bytes(graph: ChipGraph, tmp_path: Path) -> None:
    write_netx(graph, tmp_path / "one.net", deployment_of(graph))
    time.sleep(1.1)
    write_netx(graph, tmp_path / "two.net", deployment_of(graph))
    assert (tmp_path / "one.net").read_bytes() == (tmp_path / "two.net").read_bytes()


def test_another_process_writes_the_same_bytes(graph: ChipGraph, tmp_path: Path) -> None:
    write_netx(graph, tmp_path / "one.net", deployment_of(graph))
    program = (
        "import sys; from netx_export import *; file = read_netx(sys.argv[1]);"
        "write_netx(file.graph, sys.argv[2], deployment_of(file.graph))"
    )
    paths = [str(tmp_path / name) for name in ("one.net", "two.net")]
    subprocess.run([sys.executable, "-c", program, *paths], check=True, cwd=_root())
    assert (tmp_path / "one.net").read_bytes() == (tmp_path / "two.net").read_bytes()


def _root() -> Path:
    import netx_export

    return Path(netx_export.__file__).parent.parent


def test_nothing_but_numbers_and_known_text_is_in_the_file(
    graph: ChipGraph, tmp_path: Path
) -> None:
    write_netx(graph, tmp_path / "m.net", deployment_of(graph))
    content = (tmp_path / "m.net").read_bytes()
    assert str(tmp_path).encode() not in content
    assert b"tmp" not in content


@pytest.mark.parametrize(
    ("change", "layers", "words"),
    [
        (lambda v: np.where(v == v.max(), v + 1, v), ["conv_a", "logits"], ["weight -256..254"]),
        (lambda v: v * 3, ["conv_a", "hidden"], ["out of range"]),
    ],
)
def test_every_layer_out_of_range_is_listed(
    graph: ChipGraph,
    tmp_path: Path,
    change: Callable[[Any], Any],
    layers: list[str],
    words: list[str],
) -> None:
    changed = replace(
        graph,
        layers=tuple(
            replace(layer, weight=frozen(change(layer.weight), np.int32))
            if layer.name in layers
            else layer
            for layer in graph.layers
        ),
    )
    with pytest.raises(ChipRangeError) as caught:
        write_netx(changed, tmp_path / "m.net", deployment_of(changed))
    assert {problem.layer for problem in caught.value.problems} == set(layers)
    assert all(word in str(caught.value) for word in words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("field", "value", "found"),
    [
        ("neuron", CubaFields(300), "300"),
        ("neuron", CubaFields(4097), "4097"),
        ("neuron", CubaFields(301, 0), "iDecay"),
        ("neuron", CubaFields(301, 4096, 4096), "vDecay"),
        ("bias", frozen([5000, 0, 0, 0], np.int32), "5000"),
        ("bias", frozen([5, 0, 0, 0], np.int32), "5"),
    ],
)
def test_a_value_that_does_not_fit_its_field_is_refused(
    graph: ChipGraph, tmp_path: Path, field: str, value: Any, found: str
) -> None:
    wrong = replace(graph.layers[0], **{field: value})
    changed = replace(graph, layers=(wrong, *graph.layers[1:]))
    with pytest.raises(ChipRangeError, match=found) as caught:
        write_netx(changed, tmp_path / "m.net", deployment_of(changed))
    assert [problem.layer for problem in caught.value.problems] == ["conv_a"]
    write_netx(changed, tmp_path / "m.net", deployment_of(changed), lenient=True)
    with pytest.raises(ChipRangeError, match=found):
        read_netx(tmp_path / "m.net")
    assert [p.layer for p in read_netx(tmp_path / "m.net", lenient=True).violations] == ["conv_a"]


@pytest.mark.parametrize("timesteps", [0, 1, 3, 33, 2048])
def test_time_steps_must_be_a_power_of_two(
    graph: ChipGraph, tmp_path: Path, timesteps: int
) -> None:
    changed = replace(graph, timesteps=timesteps)
    with pytest.raises(ChipRangeError, match=f"{timesteps} time-steps"):
        write_netx(changed, tmp_path / "m.net", deployment_of(changed))


@pytest.mark.parametrize(
    ("weight", "words"),
    [
        (np.zeros((3, 10)), "zeros only"),
        (np.where(np.arange(30).reshape(3, 10) % 2, -256, 0), "would change"),
        (np.full((3, 10), -128), "would change"),
    ],
)
def test_dense_weights_that_lava_would_change_are_refused(
    graph: ChipGraph, tmp_path: Path, weight: Any, words: str
) -> None:
    layer = replace(graph.layers[-1], weight=frozen(weight, np.int32))
    changed = replace(graph, layers=(*graph.layers[:-1], layer))
    with pytest.raises(ChipRangeError, match=words):
        write_netx(changed, tmp_path / "m.net", deployment_of(changed))


def test_more_groups_than_lava_counts_are_refused(tmp_path: Path) -> None:
    weight = frozen(np.full((128, 1, 1, 1), 2), np.int32)
    geometry = ConvGeometry(groups=128)
    shape = (128, 2, 2)
    layer = ChipLayer("depthwise", "conv", shape, shape, weight, None, CubaFields(3), geometry)
    graph = ChipGraph("wide", shape, (layer,), 4, Encoding())
    with pytest.raises(ChipRangeError, match="groups 128"):
        write_netx(graph, tmp_path / "m.net", deployment_of(graph))


def test_layers_that_do_not_fit_together_are_all_named(graph: ChipGraph, tmp_path: Path) -> None:
    first, second, third, last = graph.layers
    wrong = replace(
        graph,
        layers=(
            replace(first, shape=(4, 5, 8)),
            replace(second, bias=frozen([1, 2], np.int32)),
            replace(third, kind="pool"),
            last,
        ),
    )
    with pytest.raises(NetxFormatError) as caught:
        write_netx(wrong, tmp_path / "m.net", deployment_of(wrong))
    assert {problem.layer for problem in caught.value.problems} == {"conv_a", "conv_b", "hidden"}


def test_a_deployment_of_another_network_is_refused(graph: ChipGraph, tmp_path: Path) -> None:
    other = deployment_of(replace(graph, timesteps=32))
    with pytest.raises(NetxFormatError, match="does not describe"):
        write_netx(graph, tmp_path / "m.net", other)


def test_a_folder_that_is_not_there_is_named(graph: ChipGraph, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="nowhere"):
        write_netx(graph, tmp_path / "nowhere" / "m.net", deployment_of(graph))


def test_writing_replaces_the_file_as_a_whole(graph: ChipGraph, tmp_path: Path) -> None:
    path = tmp_path / "m.net"
    write_netx(graph, path, deployment_of(graph))
    before = path.read_bytes()
    wrong = replace(graph, timesteps=3)
    with pytest.raises(ChipRangeError):
        write_netx(wrong, path, deployment_of(wrong))
    assert path.read_bytes() == before

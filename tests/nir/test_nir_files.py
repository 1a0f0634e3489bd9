"""NIR files: ours come back as they were, others' are taken exactly or refused in full."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compiler.errors import ChipRangeError, CompilerError, NirFormatError
from compiler.ir.chip import ChipGraph, ChipInput, CubaFields
from compiler.store import content_of
from netx_export import NetxFile, deployment_of, differences, prepared, read_netx, write_netx
from netx_export.nir_convert import run
from netx_export.nir_reader import read_nir
from netx_export.nir_writer import write_nir

Network = Callable[..., ChipGraph]
Foreign = Callable[..., Path]
DT = 1e-4


@pytest.mark.parametrize("integrator", ["IF", "LIF"])
def test_golden_files_come_back(golden: NetxFile, integrator: Any, tmp_path: Path) -> None:
    write_nir(golden.graph, tmp_path / "a.nir", golden.deployment, integrator=integrator)
    back = read_nir(tmp_path / "a.nir")
    assert differences(golden.graph, back.graph) == ()
    assert back.deployment == golden.deployment
    assert [path.name for path in tmp_path.iterdir()] == ["a.nir"]


NEURONS = st.tuples(st.integers(1, 2047), st.integers(1, 4096), st.integers(0, 4095))


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(NEURONS, st.sampled_from(["none", "channel", "place"]), st.sampled_from(["IF", "LIF"]))
def test_every_neuron_and_bias_comes_back(
    network: Network, tmp_path: Path, registers: tuple[int, int, int], bias: str, integrator: Any
) -> None:
    half, i_decay, v_decay = registers
    graph = prepared(network(CubaFields(2 * half + 1, i_decay, v_decay), bias))
    write_nir(graph, tmp_path / "a.nir", integrator=integrator)
    assert differences(graph, read_nir(tmp_path / "a.nir").graph) == ()


STRANGE = (0, -1, 2**63 - 1, np.inf, np.nan, 0.5, 1j, "text", np.zeros(0), np.ones((2, 2)))


@pytest.mark.parametrize("value", STRANGE, ids=str)
def test_whatever_stands_in_the_metadata_is_read_or_refused(
    network: Network, tmp_path: Path, value: Any
) -> None:
    """Quickly, and without memory for what a number claims."""
    graph, path = network(), tmp_path / "a.nir"
    write_nir(graph, path, deployment_of(graph))
    before, names = path.read_bytes(), []
    with h5py.File(path, "r") as file:
        file.visititems(lambda name, item: names.append(name) if hasattr(item, "shape") else None)
    for name in (name for name in names if "/metadata/" in name or "synapse_0" in name):
        path.write_bytes(before)
        with h5py.File(path, "a") as file:
            del file[name]
            file[name] = value
        with contextlib.suppress(CompilerError):
            read_nir(path)


def test_same_network_same_bytes(network: Network, tmp_path: Path) -> None:
    paths = [tmp_path / "a.nir", tmp_path / "b.nir"]
    for path in paths:
        write_nir(network(), path)
        time.sleep(1.1)  # a time stamp in the file would have another second
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_nir_itself_accepts_the_types_of_square_networks(golden: NetxFile, tmp_path: Path) -> None:
    write_nir(golden.graph, tmp_path / "a.nir", golden.deployment)
    graph = nir.read(tmp_path / "a.nir")
    facts = graph.metadata["deployment"]
    assert facts["timesteps"] == golden.graph.timesteps
    assert facts["encoding"]["code"] == "rate"
    assert {type(node).__name__ for node in graph.nodes.values()} == {
        "Input", "Conv2d", "IF", "Flatten", "Affine", "Output",
    }  # fmt: skip


def test_there_and_back_gives_the_same_netx_bytes(
    golden_path: Callable[[str], Path], tmp_path: Path
) -> None:
    net, other, back = golden_path("digits"), tmp_path / "a.nir", tmp_path / "b.net"
    assert run([str(net), str(other)]) == 0
    assert run([str(other), str(back)]) == 0
    assert back.read_bytes() == net.read_bytes()


def test_the_command_runs_as_a_module(golden_path: Callable[[str], Path], tmp_path: Path) -> None:
    words = [str(golden_path("digits")), str(tmp_path / "a.nir")]
    command = [sys.executable, "-m", "netx_export.nir_convert", *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert read_nir(tmp_path / "a.nir").graph.name == "digits"


def test_what_nir_cannot_say_is_refused(network: Network, tmp_path: Path) -> None:
    graph = network()
    late = replace(graph.layers[2], delay=np.ones((10, 90), np.int32))
    graded = ChipInput("input", graph.input_shape, CubaFields(100))
    layers = (*graph.layers[:2], late, graph.layers[3])
    with pytest.raises(NirFormatError) as caught:
        write_nir(replace(graph, layers=layers, input_neurons=graded), tmp_path / "a.nir")
    assert [problem.layer for problem in caught.value.problems] == ["hidden", "input"]
    assert not list(tmp_path.iterdir())


def affine(weight: Any, bias: Any = (0.0, 0.0)) -> nir.Affine:
    return nir.Affine(np.array(weight, np.float32), np.array(bias, np.float32))


def ends(inputs: int, outputs: int) -> tuple[nir.Input, nir.Output]:
    return nir.Input({"input": np.array([inputs])}), nir.Output({"output": np.array([outputs])})


def full(value: float) -> Any:
    return np.full(2, value, np.float32)


WEIGHT = [[0.5, -0.25, 1.0], [0.125, 0.75, -1.5]]


def test_a_network_of_others_is_scaled_by_a_power_of_two(foreign: Foreign) -> None:
    start, end = ends(3, 2)
    path = foreign(start, affine(WEIGHT, (0.25, 0)), nir.IF(r=full(1), v_threshold=full(1.3)), end)
    graph = read_nir(path).graph
    layer = graph.layers[0]
    assert layer.weight.tolist() == [[8, -4, 16], [2, 12, -24]]
    assert layer.bias is not None and layer.bias.tolist() == [4, 0]
    # 1.3 * 16 = 20.8; v is even, so that v > 20.8 is v > 21
    assert layer.neuron == CubaFields(21)
    assert (graph.timesteps, graph.encoding, layer.readout) == (None, None, False)


def test_leaky_neurons_of_others_need_the_time_step(foreign: Foreign) -> None:
    start, end = ends(3, 2)
    tau = DT * 4096 / 128
    neuron = nir.LIF(tau=full(tau), r=full(tau / DT), v_leak=full(0), v_threshold=full(10.0))
    path = foreign(start, affine(WEIGHT), neuron, end)
    with pytest.raises(NirFormatError, match="time-step in seconds"):
        read_nir(path)
    assert read_nir(path, lenient=True, dt=DT).graph.layers[0].neuron == CubaFields(160, 4096, 128)
    with pytest.raises(ChipRangeError, match="vThMant"):
        read_nir(path, dt=DT)


def test_a_time_step_beside_the_file_s_own_must_be_the_same(
    network: Network, tmp_path: Path
) -> None:
    path = tmp_path / "model.nir"
    write_nir(network(), path)
    assert content_of(read_nir(path, dt=DT).graph) == content_of(read_nir(path).graph)
    with pytest.raises(NirFormatError, match=r"0\.5 s given"):
        read_nir(path, dt=0.5)


def test_an_integrator_at_the_end_is_a_read_out(foreign: Foreign) -> None:
    start, end = ends(3, 2)
    graph = read_nir(foreign(start, affine(WEIGHT), nir.I(r=full(1)), end)).graph
    assert graph.layers[0].readout
    assert graph.layers[0].neuron == CubaFields(131071)


def test_every_problem_of_a_file_is_listed(foreign: Foreign) -> None:
    start, end = ends(3, 2)
    path = foreign(
        start,
        affine([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]),
        nir.IF(r=full(1), v_threshold=full(1)),
        nir.Affine(np.eye(2, dtype=np.float32), np.zeros(2, np.float32)),
        nir.IF(r=full(1), v_threshold=np.array([1.0, 2.0])),
        affine([[1, 0], [0, 1]]),
        nir.IF(r=full(1), v_threshold=full(1), v_reset=full(-1)),
        end,
    )
    with pytest.raises(NirFormatError) as caught:
        read_nir(path)
    found = {problem.layer: problem.found for problem in caught.value.problems}
    assert list(found) == ["n2", "n4", "n6"]
    assert "no integers" in found["n2"]
    assert "v_threshold from 1 to 2" in found["n4"]
    assert "v_reset" in found["n6"]


def test_nodes_and_edges_that_are_no_chain_are_listed(tmp_path: Path, foreign: Foreign) -> None:
    start, end = ends(3, 2)
    pool = nir.AvgPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0]))
    with pytest.raises(NirFormatError) as caught:
        read_nir(foreign(start, pool, nir.Scale(full(2)), end))
    assert [p.found for p in caught.value.problems] == ["a node AvgPool2d", "a node Scale"]
    nodes = {"input": start, "a": affine(WEIGHT), "n": nir.IF(full(1), full(1)), "output": end}
    edges = [("input", "a"), ("a", "n"), ("n", "output"), ("n", "a")]
    nir.write(tmp_path / "loop.nir", nir.NIRGraph(nodes, edges, {}, type_check=False))
    with pytest.raises(NirFormatError, match="successors") as caught:
        read_nir(tmp_path / "loop.nir")
    assert {problem.layer for problem in caught.value.problems} == {"n", "a"}


def test_synapse_and_neuron_must_alternate(foreign: Foreign) -> None:
    start, end = ends(3, 2)
    with pytest.raises(NirFormatError, match="no neuron stands"):
        read_nir(foreign(start, affine(WEIGHT), end))
    with pytest.raises(NirFormatError, match="no synapse stands"):
        read_nir(foreign(start, nir.IF(full(1), full(1)), end))


@pytest.mark.parametrize("content", [b"", b"no HDF5", None])
def test_files_that_are_no_nir(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "a.nir"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(NirFormatError, match="cannot read"):
        read_nir(path)


def test_netx_is_no_nir_and_the_other_way_round(
    golden_path: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "a.nir"
    copy.write_bytes(golden_path("digits").read_bytes())
    assert run([str(copy), str(tmp_path / "b.net")]) == 1
    assert "a complete NIR file" in capsys.readouterr().err


def test_a_file_of_others_becomes_netx_when_it_is_said_how_to_run_it(
    foreign: Foreign, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start, end = ends(3, 2)
    source = foreign(start, affine(WEIGHT), nir.IF(r=full(1), v_threshold=full(1.3)), end)
    target = str(tmp_path / "b.net")
    assert run([str(source), target]) == 2
    said = capsys.readouterr().err
    assert "--timesteps" in said and "--encoding" in said
    assert run([str(source), target, "--timesteps", "16", "--encoding", "rate"]) == 0


def test_netx_of_the_same_network_is_the_same(network: Network, tmp_path: Path) -> None:
    graph = prepared(network())
    write_netx(graph, tmp_path / "a.net", deployment_of(graph))
    assert run([str(tmp_path / "a.net"), str(tmp_path / "a.nir")]) == 0
    assert run([str(tmp_path / "a.nir"), str(tmp_path / "b.net")]) == 0
    assert (tmp_path / "a.net").read_bytes() == (tmp_path / "b.net").read_bytes()


def test_folders_are_said_to_be_some(tmp_path, capsys):
    (tmp_path / "model.net").write_text("")
    out = tmp_path / "out.nir"
    out.mkdir()
    assert run([str(tmp_path), str(out)]) == 2
    said = capsys.readouterr().err
    assert said.count("found a folder") == 2 and f"name {tmp_path / 'model.net'}" in said


@pytest.fixture
def own(golden_path: Callable[[str], Path], tmp_path: Path) -> Path:
    """A NIR file with a deployment: seed, mean, std and versions."""
    file = read_netx(golden_path("digits"))
    assert file.deployment is not None
    said = replace(
        file.deployment, seed=7, mean=(0.5,), std=(0.25,), versions=(("torch", "2.9.1"),)
    )
    write_nir(file.graph, tmp_path / "own.nir", said)
    return tmp_path / "own.nir"


def test_saying_what_the_file_says_changes_nothing(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = str(read_nir(own).graph.timesteps)
    assert run([str(own), str(tmp_path / "a.net")]) == 0
    options = ["--timesteps", steps, "--encoding", "rate"]
    assert run([str(own), str(tmp_path / "b.net"), *options]) == 0
    assert (tmp_path / "a.net").read_bytes() == (tmp_path / "b.net").read_bytes()
    assert capsys.readouterr().err == ""


def test_other_time_steps_and_another_code_leave_the_rest_of_the_deployment(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = read_nir(own).deployment
    assert said is not None
    options = ["--timesteps", "64", "--encoding", "poisson"]
    assert run([str(own), str(tmp_path / "a.net"), *options]) == 0
    notes = capsys.readouterr().err
    assert f"--timesteps 64 replaces {said.timesteps}" in notes
    assert "--encoding poisson replaces rate, which own.nir says" in notes
    written = read_netx(tmp_path / "a.net").deployment
    code = replace(said.encoding, code="poisson")
    assert written == replace(said, timesteps=64, encoding=code)


@pytest.mark.parametrize(
    ("ending", "options", "named"),
    [
        (".nir", ["--timesteps", "16", "--encoding", "rate", "--dt", "nan"],
         ["--dt: found a target", "--timesteps", "--encoding", "found nan"]),
        (".net", ["--integrator", "IF"], ["--integrator"]),
        (".net", ["--dt", "nan", "--integrator", "LIF"], ["found nan", "--integrator"]),
        (".net", ["--dt", "inf"], ["found inf"]),
    ],
)  # fmt: skip
def test_options_that_would_do_nothing_are_refused(
    ending: str, options: list[str], named: list[str], own: Path, tmp_path: Path,
    golden_path: Callable[[str], Path], capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    source = golden_path("digits") if ending == ".nir" else own
    target = tmp_path / f"target{ending}"
    assert run([str(source), str(target), *options]) == 2
    said = capsys.readouterr().err
    assert all(words in said for words in named)
    assert not target.exists()


@pytest.mark.parametrize("ending", [".nir", ".net"])
def test_a_target_that_cannot_be_written_is_named(
    ending: str, own: Path, tmp_path: Path, golden_path: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    source = golden_path("digits") if ending == ".nir" else own
    folder, nowhere = tmp_path / f"d{ending}", tmp_path / "absent" / f"a{ending}"
    folder.mkdir()
    for target, status in ((folder, 2), (nowhere, 1)):
        assert run([str(source), str(target)]) == status
        said = capsys.readouterr().err
        assert str(target) in said and "allowed: a file" in said
        assert "--out" not in said and ".tmp" not in said

"""Files of others, and files that are broken: one error that lists everything."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from compiler.errors import ChipRangeError, CompilerError, NetxFormatError
from compiler.ir.chip import ChipGraph, CubaFields
from netx_export import deployment_of, read_netx, write_netx
from netx_export.layers import NO_NEURON


def _lava_file(name: str) -> Path:
    """A file that lava-dl's wheel installs with its own tests."""
    spec = importlib.util.find_spec("lava")
    assert spec is not None and spec.submodule_search_locations is not None
    site = Path(next(iter(spec.submodule_search_locations))).parent
    return site / "tests" / "lava" / "lib" / "dl" / "netx" / name


@pytest.fixture
def written(graph: ChipGraph, tmp_path: Path) -> Path:
    path = tmp_path / "m.net"
    write_netx(graph, path, deployment_of(graph))
    return path


def _without_hash(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file["deployment"]


def test_tiny_net() -> None:
    found = read_netx(_lava_file("tiny.net"))
    assert found.deployment is None and found.violations == ()
    neurons = found.graph.input_neurons
    assert neurons is not None
    assert (neurons.weight, neurons.bias, neurons.neuron) == (36, 34, CubaFields(25, 4096, 1024))
    assert [layer.shape for layer in found.graph.layers] == [(24, 6, 6), (36, 1, 1)]
    assert found.graph.layers[0].weight.shape == (24, 3, 5, 5)


def test_mnist_net_has_no_neuron_in_its_last_layer() -> None:
    found = read_netx(_lava_file("mnist.net"), lenient=True)
    assert found.graph.layers[-1].neuron == NO_NEURON
    assert found.graph.layers[-1].readout
    text = "\n".join(str(violation) for violation in found.violations)
    assert all(word in text for word in ("131072", "iDecay", "vDecay", "80"))
    with pytest.raises(ChipRangeError, match="131072"):
        read_netx(_lava_file("mnist.net"))


def test_pilotnet_fits_the_chip() -> None:
    found = read_netx(_lava_file("gts/pilotnet_lif/network.net"))
    assert found.violations == ()
    assert sum(layer.weight.size for layer in found.graph.layers) == 349_998
    assert found.graph.layers[3].geometry.padding == ((1, 1), (0, 0))
    assert found.graph.layers[-1].readout


def test_ntidigits_up_to_its_average_layer() -> None:
    path = _lava_file("gts/ntidigits/ntidigits.net")
    with pytest.raises(NetxFormatError, match="'average'"):
        read_netx(path, lenient=True)
    found = read_netx(path, lenient=True, layers=5)
    delay = found.graph.layers[0].delay
    assert delay is not None
    assert delay.shape == (256, 64) and int(delay.max()) == 62
    assert found.graph.layers[2].delay is None


def test_sigma_delta_neurons_are_refused_in_every_layer() -> None:
    with pytest.raises(NetxFormatError) as caught:
        read_netx(_lava_file("gts/pilotnet_sdnn/network.net"))
    assert len(caught.value.problems) == 9
    assert all("SDNN" in problem.found for problem in caught.value.problems)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(NetxFormatError, match="no such file"):
        read_netx(tmp_path / "none.net")


@pytest.mark.parametrize("content", [b"", b"not HDF5 at all", b"\x89HDF\r\n\x1a\n" + b"\0" * 100])
def test_something_else_than_hdf5(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.net").write_bytes(content)
    with pytest.raises(NetxFormatError, match="cannot read"):
        read_netx(tmp_path / "m.net")


def test_a_file_cut_short_anywhere(written: Path) -> None:
    content = written.read_bytes()
    for share in np.linspace(0, 0.999, 15):
        written.write_bytes(content[: int(share * len(content))])
        with pytest.raises(NetxFormatError):
            read_netx(written)


def test_bytes_changed_anywhere_are_noticed_or_harmless(graph: ChipGraph, written: Path) -> None:
    content = written.read_bytes()
    generator = np.random.default_rng(0)
    noticed = 0
    for place in generator.integers(0, len(content), 60):
        damaged = bytearray(content)
        damaged[place] ^= 0xFF
        written.write_bytes(bytes(damaged))
        try:
            read_netx(written)
        except (NetxFormatError, ChipRangeError):
            noticed += 1
    assert noticed > 10


def test_every_missing_entry_is_listed(written: Path) -> None:
    with h5py.File(written, "a") as file:
        del file["layer/1/weight"]
        del file["layer/1/stride"]
        del file["layer/2/neuron/vThMant"]
        del file["layer/5/shape"]
    with pytest.raises(NetxFormatError) as caught:
        read_netx(written)
    found = "\n".join(problem.found for problem in caught.value.problems)
    assert all(f"'{key}'" in found for key in ("weight", "stride", "vThMant", "shape"))
    assert {problem.layer for problem in caught.value.problems} == {"conv_a", "conv_b", "logits"}


@pytest.mark.parametrize(
    "kind", ["pool", "average", "concat", "convT", "unpool", "dense_rec", "dense_comp", "attention"]
)
def test_layer_types_that_cannot_be_run_are_named(written: Path, kind: str) -> None:
    _without_hash(written)
    with h5py.File(written, "a") as file:
        del file["layer/4/type"]
        file["layer/4/type"] = np.array([kind.encode()], "S10")
    with pytest.raises(NetxFormatError, match=f"'{kind}'"):
        read_netx(written, lenient=True)


@pytest.mark.parametrize("kind", ["SDNN", "RF", "RF_PHASE", "ALIF"])
def test_neurons_that_cannot_be_run_are_named(written: Path, kind: str) -> None:
    with h5py.File(written, "a") as file:
        del file["layer/4/neuron/type"]
        file["layer/4/neuron/type"] = kind
    with pytest.raises(NetxFormatError, match=f"'{kind}'"):
        read_netx(written)


@pytest.mark.parametrize(
    ("where", "value", "words"),
    [
        ("layer/1/shape", [4, 6, 9], "by its geometry"),
        ("layer/1/bias", [1, 2], "bias of shape"),
        ("layer/1/groups", 3, "3 groups"),
        ("layer/1/stride", [0, 1], "of 0"),
        ("layer/4/weight", np.zeros((10, 7)), "inputs of shape"),
        ("layer/4/neuron/vThMant", [1, 2], "channel to channel"),
        ("layer/4/weight", np.full((10, 126), np.nan), "32 bits"),
        ("layer/4/weight", np.full((10, 126), -(2**63)), "32 bits"),
        ("layer/4/neuron/messageBits", 8, "messageBits"),
        ("layer/0/shape", [0, 5, 7], "shape"),
    ],
)
def test_entries_that_make_no_sense_are_named(
    written: Path, where: str, value: Any, words: str
) -> None:
    _without_hash(written)
    with h5py.File(written, "a") as file:
        if where in file:
            del file[where]
        file[where] = value
    with pytest.raises(NetxFormatError, match=words):
        read_netx(written, lenient=True)


@pytest.mark.parametrize(
    ("where", "value", "words"),
    [
        ("layer/4/neuron/refDelay", 5, "refDelay 5"),
        ("layer/4/neuron/gradedSpike", True, "gradedSpike 1"),
        ("layer/4/neuron/weight_exp", 2, "weight_exp 2"),
        ("layer/1/delay", [1, 0, 0, 0], "delay on a conv layer"),
        ("layer/5/bias", [0.5, 2, 2], "fractions"),
        ("layer/5/weight", np.arange(-15, 15).reshape(3, 10), "weight"),
    ],
)
def test_what_lava_ignores_or_the_chip_cannot_hold_is_a_violation(
    written: Path, where: str, value: Any, words: str
) -> None:
    _without_hash(written)
    with h5py.File(written, "a") as file:
        if where in file:
            del file[where]
        file[where] = value
    with pytest.raises(ChipRangeError, match=words):
        read_netx(written)
    assert any(words in str(found) for found in read_netx(written, lenient=True).violations)


def test_a_file_without_flatten_before_dense_is_refused_as_lava_refuses_it(written: Path) -> None:
    _without_hash(written)
    with h5py.File(written, "a") as file:
        del file["layer/3"]
        file.move("layer/4", "layer/3")
        file.move("layer/5", "layer/4")
    with pytest.raises(NetxFormatError, match="flatten"):
        read_netx(written)


def test_a_gap_in_the_numbering_is_named(written: Path) -> None:
    with h5py.File(written, "a") as file:
        del file["layer/2"]
    with pytest.raises(NetxFormatError, match="layer 2"):
        read_netx(written)


def test_layers_changed_after_writing_are_noticed(written: Path) -> None:
    with h5py.File(written, "a") as file:
        file["layer/5/weight"][0, 0] += 2
    with pytest.raises(NetxFormatError, match="hash"):
        read_netx(written)
    assert "hash" in str(read_netx(written, lenient=True).violations[0])


@pytest.mark.parametrize(
    ("where", "value", "words"),
    [
        ("deployment/schema_version", 99, "schema_version 99"),
        ("deployment/readout/layer", 4, "read-out layer 4"),
        ("deployment/input/shape", [2, 7, 5], "input shape"),
        ("deployment/encoding/code", "morse", "morse"),
    ],
)
def test_a_deployment_group_that_makes_no_sense_is_refused(
    written: Path, where: str, value: Any, words: str
) -> None:
    with h5py.File(written, "a") as file:
        del file[where]
        file[where] = value
    with pytest.raises(NetxFormatError, match=words):
        read_netx(written)


STRANGE = (
    np.inf, -np.inf, np.nan, 0.5, 1j, -1, -(2**63), np.uint64(2**64 - 1), True, "text", b"\xff",
    np.zeros(0), np.zeros((0, 3)), np.ones((2, 2)), np.array([b"a", b"b"]), h5py.Empty("f8"), None,
)  # fmt: skip
"""None stands for a group."""


@pytest.mark.parametrize("value", STRANGE, ids=str)
def test_whatever_stands_in_the_deployment_group_is_read_or_refused(
    written: Path, value: Any
) -> None:
    """What is read then describes a network: sizes and seeds are numbers from 0 on."""
    names: list[str] = []
    with h5py.File(written, "r") as file:
        file["deployment"].visit(names.append)
    before = written.read_bytes()
    for name in names:
        written.write_bytes(before)
        with h5py.File(written, "a") as file:
            del file[f"deployment/{name}"]
            if value is None:
                file["deployment"].create_group(name)
            else:
                file[f"deployment/{name}"] = value
        try:
            read = read_netx(written).deployment
        except CompilerError:
            continue
        assert read is not None and np.isfinite([*read.input_range, *read.mean, *read.std]).all()
        assert min(read.seed, read.encoding.seed, read.timesteps) >= 0, name


def test_scalars_do_for_pairs_and_arrays_of_one_for_text(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "m.net", "w") as file:
        file["layer/0/type"] = "input"
        file["layer/0/shape"] = [1, 4, 4]
        for key, value in {"stride": 2, "padding": 1, "dilation": 1, "groups": 1}.items():
            file[f"layer/1/{key}"] = value
        file["layer/1/type"] = "conv"
        file["layer/1/shape"] = [2, 2, 2]
        file["layer/1/weight"] = np.array([[[[2, -2, 4]] * 3]] * 2)
        for key, number in {"vThMant": 5, "iDecay": 4096, "vDecay": 0}.items():
            file[f"layer/1/neuron/{key}"] = number
        file["layer/1/neuron/type"] = "LOIHI"
    layer = read_netx(tmp_path / "m.net").graph.layers[0]
    assert layer.geometry.stride == (2, 2)
    assert layer.geometry.padding == ((1, 1), (1, 1))
    assert layer.name == "conv1"

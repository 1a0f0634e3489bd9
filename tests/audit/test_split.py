"""First layers that stay at home: the two files, what they do together, what one alone is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from audit import withheld
from audit.subjects import load_subjects
from audit.withheld import guess_first_layers
from compiler.errors import AgreementError, UsageError
from compiler.export import run as export
from compiler.ir.geometry import ConvGeometry, frozen
from compiler.ir.splitting import HOST, join, split
from compiler.split import run
from netx_export import read_netx
from sim.reference import simulate
from sim.run import run as simulate_file


def test_join_undoes_split(compiled: Path) -> None:
    graph = read_netx(compiled / "model.net").graph
    for count in range(1, len(graph.layers)):
        first, rest = split(graph, count)
        assert len(first.layers) == count and rest.input_shape == first.layers[-1].shape
        assert rest.encoding == HOST
        assert join(first, rest) == graph


def test_a_split_leaves_layers_on_both_sides(compiled: Path) -> None:
    graph = read_netx(compiled / "model.net").graph
    for count in (0, len(graph.layers)):
        with pytest.raises(UsageError, match="at least one layer"):
            split(graph, count)


def test_parts_of_other_networks_do_not_fit(compiled: Path) -> None:
    graph = read_netx(compiled / "model.net").graph
    first, rest = split(graph, 1)
    with pytest.raises(UsageError, match=r"time-steps(.|\n)*input of the second"):
        join(replace(first, timesteps=64, layers=graph.layers[:2]), rest)


def test_the_files_do_what_the_whole_does(run_dir: Path, tmp_path: Path) -> None:
    assert run([str(run_dir), "--lava-samples", "1", "--quiet"]) == 0
    device, host = run_dir / "device.net", run_dir / "private" / "host.net"
    figures = []
    for number, file in enumerate(([device, "--host", host], [run_dir / "model.net"])):
        written = tmp_path / f"{number}.json"
        given = [*map(str, file), "--data", "digits", "--samples", "40"]
        assert simulate_file([*given, "--quiet", "--json", str(written)]) == 0
        figures.append(json.loads(written.read_text()))
    for name in ("accuracy", "layers", "energy"):
        assert figures[0][name] == figures[1][name]
    whole = read_netx(run_dir / "model.net").graph
    secret = whole.layers[0].weight
    with h5py.File(device) as file:
        found: list[np.ndarray] = []
        file.visititems(lambda _, one: found.append(one[()]) if hasattr(one, "size") else None)
    assert not any(np.size(one) == secret.size for one in found)


def test_the_whole_stays_at_home_then(run_dir: Path, arguments: list[str]) -> None:
    def leaving() -> set[str]:
        assert export([*arguments, "--out", str(run_dir), "--from", "report"]) == 0
        files = json.loads((run_dir / "report.json").read_text())["files"]
        return {Path(file["path"]).name for file in files if file["may_leave"]}

    (run_dir / "device.net").unlink(missing_ok=True)
    assert leaving() == {"model.net", "model.nir"}
    assert run([str(run_dir), "--lava-samples", "0", "--quiet"]) == 0
    assert leaving() == {"device.net"}


@pytest.mark.parametrize("trouble", [AgreementError("not the whole"), KeyboardInterrupt()])
def test_what_is_not_proven_gets_no_name(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, trouble: BaseException
) -> None:
    def fails(*_: object) -> None:
        raise trouble

    monkeypatch.setattr("sim.compare.require_agreement", fails)
    before = sorted(run_dir.rglob("*"))
    assert run([str(run_dir), "--lava-samples", "0", "--quiet"]) in (1, 130)
    assert sorted(run_dir.rglob("*")) == before


def test_a_part_alone_is_refused(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([str(run_dir), "--lava-samples", "0", "--quiet"]) == 0
    alone = [str(run_dir / "device.net"), "--data", "digits"]
    assert simulate_file(alone) == 2
    assert "--host" in capsys.readouterr().err
    first = [str(run_dir / "private" / "host.net"), "--data", "digits"]
    assert simulate_file(first) == 2
    assert "device.net --host host.net" in capsys.readouterr().err
    with pytest.raises(UsageError, match="first layers are kept elsewhere"):
        simulate(read_netx(run_dir / "device.net").graph, np.zeros((1, 16, 8, 8), np.float32))
    whole = [str(run_dir / "model.net"), "--data", "digits", "--host", str(run_dir / "device.net")]
    assert simulate_file(whole) == 2
    assert "leave --host out" in capsys.readouterr().err
    assert run([str(run_dir / "private")]) == 1


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guesses in seconds; what they may use and what they are for is the same."""
    monkeypatch.setattr(withheld, "STARTS", 2)
    monkeypatch.setattr(withheld, "STEPS", 50)


@pytest.mark.usefixtures("few_steps")
def test_a_guess_uses_no_number_of_the_withheld_layers(compiled: Path) -> None:
    graph = read_netx(compiled / "model.net").graph
    first = graph.layers[0]
    other = replace(
        first,
        weight=frozen(-first.weight - 2, np.int32),
        bias=None,
        neuron=replace(first.neuron, v_th_mant=7),
    )
    guess = guess_first_layers(graph, 1, 3)
    same = guess_first_layers(replace(graph, layers=(other, *graph.layers[1:])), 1, 3)
    np.testing.assert_array_equal(guess.graph.layers[0].weight, same.graph.layers[0].weight)
    assert guess.graph.layers[0].neuron == same.graph.layers[0].neuron
    assert guess.graph.layers[1:] == graph.layers[1:]
    assert -np.log(10) < guess.objective < -0.1


@pytest.mark.parametrize("joined", [1, 2])
def test_a_guess_takes_pools_for_pools(compiled: Path, joined: int) -> None:
    """joined: channels in one group, of whose weights all but one channel's are zeros."""
    weight = np.zeros((8, joined, 2, 2), np.int32)
    weight[range(8), np.arange(8) % joined] = np.arange(8 * 4).reshape(8, 2, 2) + 1
    layer = replace(
        read_netx(compiled / "model.net").graph.layers[0],
        input_shape=(8, 6, 6), shape=(8, 3, 3), weight=frozen(weight, np.int32),
        geometry=ConvGeometry((2, 2), groups=8 // joined),
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    np.testing.assert_array_equal(withheld._start(layer, generator), (weight > 0) / 4)
    strided = replace(layer, geometry=ConvGeometry((1, 1), groups=8 // joined))
    assert np.unique(withheld._start(strided, generator)).size == weight.size


@pytest.mark.usefixtures("few_steps")
def test_the_audit_attacks_the_guess(compiled: Path) -> None:
    whole, without = (
        {subject.name: subject for subject in load_subjects(compiled, 0, count)} for count in (0, 1)
    )
    assert whole["encrypted"].fingerprint != without["encrypted"].fingerprint
    for name in ("ann", "converted", "random"):
        assert whole[name].fingerprint == without[name].fingerprint

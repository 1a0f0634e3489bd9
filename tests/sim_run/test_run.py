"""The command line of the simulators: figures, files, exit statuses and what errors say."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from compiler.ir.chip import ChipGraph, ChipLayer, CubaFields
from compiler.ir.geometry import frozen
from compiler.ir.snn import Encoding
from compiler.ir.splitting import split
from netx_export import deployment_of, write_netx
from sim import loihi2
from sim.costs import cost_rows, reference_traces
from sim.datasets import load_dataset
from sim.reference import simulate
from sim.run import run
from sim.synops import operation_tables, synops_by_sample


def figures(path: Path, *arguments: str) -> dict:
    out = path.parent / "figures.json"
    assert run([str(path), *arguments, "--json", str(out), "--quiet"]) == 0
    return json.loads(out.read_text())


def refusal(capsys: pytest.CaptureFixture[str], status: int, *arguments: str | Path) -> str:
    """What is said on the standard error where the command ends with `status`."""
    assert run([str(argument) for argument in arguments]) == status
    said = capsys.readouterr()
    assert said.out == ""
    return said.err


def test_figures_are_those_of_the_simulator(network: Path, graph: ChipGraph) -> None:
    found = figures(network, "--data", "digits")
    data = load_dataset("digits")
    result = simulate(graph, data.images_nchw, fan_outs=operation_tables(graph))
    costs = cost_rows(graph, result, reference_traces(graph, data.images_nchw))
    assert found["samples"] == len(data) == 599
    assert found["accuracy"] == np.mean(result.predictions_n == data.labels)
    assert found["predictions"] == result.predictions_n.tolist()
    assert (found["timesteps"], found["backend"]) == (16, "reference")
    assert {key: found[key] for key in costs} == json.loads(json.dumps(costs))
    assert found["synops_by_sample"] == synops_by_sample(result)
    assert sum(found["synops_by_sample"]) == pytest.approx(599 * found["synops_per_sample"])
    assert found["spikes_per_sample"] == sum(row["spikes_per_sample"] for row in costs["layers"])
    assert found["samples_per_second"] > 0
    assert (found["readout_spikes"], found["voltage_saturations"]) == (0, 0)


def test_json_on_the_standard_output_stands_there_alone(
    network: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([str(network), "--data", "digits", "--samples", "20", "--json", "-"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["samples"] == 20
    assert said.err == ""


def test_lava_gives_the_same_figures_for_the_same_samples(network: Path) -> None:
    lava = figures(network, "--data", "digits", "--backend", "lava", "--seed", "3")
    reference = figures(network, "--data", "digits", "--samples", "8", "--seed", "3")
    own = ("backend", "engine", "seconds", "samples_per_second", "voltage_saturations", "notes")
    assert lava["samples"] == 8
    assert {key: lava[key] for key in lava if key not in own} == {
        key: reference[key] for key in reference if key not in own
    }
    assert sum(row["spikes_per_sample"] for row in lava["layers"][1:]) > 0
    assert len(lava["operations_by_step"]) == 3 and sum(lava["synops_by_sample"]) > 0
    assert lava["voltage_saturations"] is None
    assert "8 samples" in lava["notes"][0]


def test_the_draw_of_samples_is_seeded_and_even(network: Path) -> None:
    one = figures(network, "--data", "digits", "--samples", "20")
    again = figures(network, "--data", "digits", "--samples", "20")
    other = figures(network, "--data", "digits", "--samples", "20", "--seed", "1")
    assert one["image_indices"] == again["image_indices"] != other["image_indices"]
    labels = load_dataset("digits").labels[one["image_indices"]]
    assert np.bincount(labels).tolist() == [2] * 10


def test_the_table_says_it_all_in_100_columns(
    network: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([str(network), "--data", "digits", "--samples", "40"]) == 0
    printed = capsys.readouterr().out
    assert "40 images of digits, T = 16, poisson code" in printed
    for words in ("accuracy", "of 40", "spikes a sample", "samples a second", "edges", "logits"):
        assert words in printed
    assert "45nm-arithmetic, effective" in printed and "loihi1-davies-2018" in printed
    assert "Latency an inference" in printed and "mean over 16 images" in " ".join(printed.split())
    assert "\x1b" not in printed
    assert max(len(line) for line in printed.splitlines()) <= 100


def test_a_foreign_file_needs_to_be_told_everything_it_does_not_say(
    foreign: Path, network: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refusal(capsys, 2, foreign, "--data", "digits")
    assert "give --timesteps" in said and "give --encoding" in said
    assert "give --timesteps" not in refusal(
        capsys, 2, foreign, "--data", "digits", "--timesteps", "16"
    )
    assert "1025 time-steps" in refusal(
        capsys, 2, foreign, "--data", "digits", "--timesteps", "1025", "--encoding", "rate"
    )
    told = figures(foreign, "--data", "digits", "--timesteps", "16", "--encoding", "poisson",
                   "--seed", "7", "--samples", "30")  # fmt: skip
    own = figures(network, "--data", "digits", "--seed", "7", "--samples", "30")
    assert told["predictions"] == own["predictions"]
    assert [row["spikes_per_sample"] for row in told["layers"]] == [
        row["spikes_per_sample"] for row in own["layers"]
    ]


def test_other_settings_than_the_file_s_own_are_said(network: Path) -> None:
    found = figures(network, "--data", "digits", "--samples", "10", "--timesteps", "8",
                    "--encoding", "latency")  # fmt: skip
    assert found["timesteps"] == 8 and found["encoding"] == "latency"
    assert found["notes"] == [
        "run with T = 8; the file was made for T = 16",
        "run with latency code; the file was made for poisson",
    ]


def test_a_read_out_that_fired_or_clipped_is_said(
    overflowing: ChipGraph, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_netx(overflowing, tmp_path / "over.net", deployment_of(overflowing))
    np.savez(tmp_path / "white.npz", images=np.full((2, 1, 8, 8), 0.999), labels=[0, 1])
    data = f"npz:{tmp_path / 'white.npz'}"
    found = figures(tmp_path / "over.net", "--data", data)
    result = simulate(overflowing, np.full((2, 1, 8, 8), 0.999))
    assert found["readout_spikes"] == result.readout_spikes > 0
    assert found["voltage_saturations"] == result.layers[0].saturations > 0
    assert "fired" in found["notes"][-2] and "clipped" in found["notes"][-1]
    assert run([str(tmp_path / "over.net"), "--data", data]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert f"the read-out logits fired {result.readout_spikes} times" in printed


def test_a_vector_input_takes_flattened_images(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    weight = frozen(2 * generator.integers(-40, 40, (10, 64)), np.int32)
    shapes = ((64, 1, 1), (10, 1, 1))
    layer = ChipLayer("only", "dense", *shapes, weight, None, CubaFields(131071), readout=True)
    image_in = ChipLayer("only", "dense", (1, 8, 8), shapes[1], weight, None, layer.neuron,
                         readout=True)  # fmt: skip
    found = []
    for one in (layer, image_in):
        graph = ChipGraph("net", one.input_shape, (one,), 16, Encoding())
        path = tmp_path / f"{len(one.input_shape)}{one.input_shape[0]}.net"
        write_netx(graph, path, deployment_of(graph))
        found.append(figures(path, "--data", "digits", "--samples", "20")["predictions"])
    assert found[0] == found[1]


def test_images_and_labels_that_do_not_fit(
    network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "wide.npz", images=np.zeros((3, 1, 8, 9)), labels=[0, 1, 2])
    said = refusal(capsys, 1, network, "--data", f"npz:{tmp_path / 'wide.npz'}")
    assert "8 x 9" in said and "8 x 8" in said
    np.savez(tmp_path / "twelve.npz", images=np.zeros((3, 1, 8, 8)), labels=[0, 1, 11])
    said = refusal(capsys, 1, network, "--data", f"npz:{tmp_path / 'twelve.npz'}")
    assert "labels 0 to 11" in said and "0 to 9" in said
    said = refusal(capsys, 2, network, "--data", "no-such-set")
    assert "no such data set" in said


def test_classes_in_another_order_are_said(graph: ChipGraph, network: Path, tmp_path: Path) -> None:
    swapped = replace(graph, class_names=tuple(reversed(graph.class_names)))
    write_netx(swapped, tmp_path / "swapped.net", deployment_of(swapped))
    notes = figures(tmp_path / "swapped.net", "--data", "digits", "--samples", "10")["notes"]
    assert "another order (0, 1, 2, 3, ... against 9, 8, 7, 6, ...)" in notes[0]
    assert figures(network, "--data", "digits", "--samples", "10")["notes"] == []


def test_loihi_2_is_not_pretended(
    network: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loihi2, "missing", lambda: tuple(loihi2.REQUIRED))
    said = refusal(capsys, 1, network, "--data", "digits", "--backend", "loihi2")
    assert all(name in said for name in loihi2.REQUIRED)
    assert "INRC" in said


def test_wrong_usage_and_missing_files(
    network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "--data" in refusal(capsys, 2, network)
    assert "no such file" in refusal(capsys, 1, tmp_path / "none.net", "--data", "digits")
    (tmp_path / "text.net").write_text("hello")
    assert "HDF5" in refusal(capsys, 1, tmp_path / "text.net", "--data", "digits")
    out = tmp_path / "missing" / "figures.json"
    said = refusal(capsys, 1, network, "--data", "digits", "--json", out)
    assert "cannot be written" in said
    assert not list(tmp_path.glob(".*"))


def test_a_folder_is_said_to_be_one(
    network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    said = refusal(capsys, 1, tmp_path / "empty", "--data", "digits")
    assert "found a folder" in said and "name a file" in said
    network.rename(tmp_path / "model.net")
    assert f"name {tmp_path / 'model.net'}" in refusal(capsys, 1, tmp_path, "--data", "digits")


def test_the_simulator_has_no_time_limit(network: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refusal(capsys, 2, network, "--data", "digits", "--time-limit", "9")
    assert "--time-limit with --backend reference" in said and "--backend lava" in said


def test_first_layers_alone_are_not_run(
    graph: ChipGraph, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, _ = split(graph, 1)
    write_netx(first, tmp_path / "host.net", deployment_of(first, versions={"tool": "1"}))
    said = refusal(capsys, 2, tmp_path / "host.net", "--data", "digits")
    assert "first layers alone" in said and "device.net --host host.net" in said


def test_a_time_limit_stops_lava(network: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refusal(capsys, 1, network, "--data", "digits", "--backend", "lava",
                   "--time-limit", "0.2")  # fmt: skip
    assert "did not finish in time" in said


def test_help_is_quick_because_nothing_heavy_is_imported() -> None:
    program = (
        "import sys, sim.run; "
        "heavy = {'numpy', 'torch', 'h5py', 'lava', 'numba', 'rich'} & set(sys.modules); "
        "sys.exit(str(sorted(heavy)) if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    done = subprocess.run(
        [sys.executable, "-m", "sim.run", "--help"], capture_output=True, text=True, check=True
    )
    assert "--backend" in done.stdout and done.stderr == ""

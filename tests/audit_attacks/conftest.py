"""A small compile of the embedded digits network, finished as far as the attacks need it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from audit.attacks import QUICK, Budget
from audit.subjects import Subject, load_subjects
from compiler.config import ConversionConfig, SynthesisConfig
from compiler.conversion import convert
from compiler.ir.ann import AnnGraph
from compiler.ir.chip import ChipGraph
from compiler.ir.geometry import frozen
from compiler.ir.snn import Encoding, SnnGraph
from compiler.passes import lower
from compiler.presets import load_preset
from compiler.quantization import quantize
from compiler.store import save
from compiler.synthesis import synthesize
from netx_export import deployment_of, write_netx

TIMESTEPS = 16


def disturbed(network: SnnGraph) -> SnnGraph:
    """What stands in for training: every weight moved by some per cent."""
    rng = np.random.default_rng(0)
    layers = []
    for layer in network.layers:
        noise = 0.05 * layer.weight.std() * rng.standard_normal(layer.weight.shape)
        layers.append(replace(layer, weight=frozen(layer.weight + noise, np.float64)))
    return network.with_layers(tuple(layers))


@pytest.fixture(scope="session")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("digits")
    ann = load_preset("digits")
    _write_run(path, ann, lower(ann).graph)
    return path


def _write_run(path: Path, ann: AnnGraph, matched: AnnGraph) -> None:
    """The files of a compile that converted `matched`, as the attacks need them."""
    images = synthesize(matched, SynthesisConfig(count=256, held_out=96, steps=15), seed=0)
    config = ConversionConfig(timesteps=TIMESTEPS, images=128, percentiles=(99.0,))
    converted = convert(matched, images, config, Encoding()).graph
    chip = quantize(disturbed(converted))
    (path / "private").mkdir()
    write_netx(chip, path / "model.net", deployment_of(chip))
    files = {"ann": ann, "matched": matched, "synthetic": images, "converted": converted}
    for name, value in files.items():
        save(value, path / "private" / f"{name}.safetensors")


@pytest.fixture
def write_run() -> Callable[[Path, AnnGraph, AnnGraph], None]:
    return _write_run


@pytest.fixture(scope="session")
def subjects(run_dir: Path) -> dict[str, Subject]:
    return {subject.name: subject for subject in load_subjects(run_dir, seed=0)}


@pytest.fixture(scope="session")
def encrypted(subjects: dict[str, Subject]) -> ChipGraph:
    graph = subjects["encrypted"].network
    assert isinstance(graph, ChipGraph)
    return graph


@pytest.fixture(scope="session")
def tiny_budget() -> Budget:
    return replace(
        QUICK,
        images_per_class=1,
        gradient_steps=20,
        spiking_steps=8,
        spiking_full_steps=2,
        queries_per_image=100,
        queries=600,
        training_steps=80,
    )

"""The four networks under attack, and the audit's check of itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from audit.subjects import SANITY_AGREEMENT, Subject, check_sanity, load_subjects, random_weights
from compiler.errors import AgreementError
from compiler.ir import AnnGraph, AvgPool2d, ChipGraph, Conv2d, ConvGeometry, Dense, Flatten, Relu
from compiler.ir.geometry import Array, frozen
from compiler.ir.run_ann import run_ann
from compiler.ir.synthetic import SyntheticSet
from compiler.passes import lower, pools_as_neurons
from compiler.presets import load_preset
from compiler.store import load
from netx_export import read_netx
from sim.datasets import load_dataset
from sim.reference import simulate


@pytest.fixture(scope="module")
def synthetic(run_dir: Path) -> SyntheticSet:
    return load(SyntheticSet, run_dir / "private" / "synthetic.safetensors")


def test_there_are_four_of_the_same_shapes(subjects: dict[str, Subject]) -> None:
    assert list(subjects) == ["ann", "converted", "encrypted", "random"]
    assert {subject.input_shape for subject in subjects.values()} == {(1, 8, 8)}
    assert {subject.classes for subject in subjects.values()} == {10}
    shapes = [
        [layer.weight.shape for layer in subject.network.layers]
        for subject in subjects.values()
        if isinstance(subject.network, ChipGraph)
    ]
    assert shapes[0] == shapes[1] == shapes[2]


def test_the_encrypted_one_is_what_stands_in_the_file(
    run_dir: Path, subjects: dict[str, Subject]
) -> None:
    graph = read_netx(run_dir / "model.net").graph
    images = load_dataset("digits", (1, 8, 8), 50).images_nchw
    expected = simulate(graph, images).logits_nk
    np.testing.assert_array_equal(subjects["encrypted"].logits(images), expected)
    private = {path.name for path in (run_dir / "private").iterdir()}
    assert "encrypted.safetensors" not in private and "chip.safetensors" not in private


def test_the_random_one_has_learnt_nothing_and_depends_on_the_seed(
    run_dir: Path, subjects: dict[str, Subject]
) -> None:
    data = load_dataset("digits", (1, 8, 8), 300)
    answers = subjects["random"].logits(data.images_nchw).argmax(1)
    assert np.mean(answers == data.labels) < 0.3
    matched = load(AnnGraph, run_dir / "private" / "matched.safetensors")
    first, again, other = (random_weights(matched, seed) for seed in (0, 0, 1))
    images = data.images_nchw[:5]
    np.testing.assert_array_equal(run_ann(first, images), run_ann(again, images))
    assert np.abs(run_ann(first, images) - run_ann(other, images)).max() > 0.1


def test_pools_with_neurons_are_not_drawn_anew() -> None:
    ann = load_preset("cifar10")
    pools = pools_as_neurons(ann, lower(ann).graph)
    assert pools is not None
    drawn = random_weights(pools.graph, 0)
    pairs = list(zip(pools.graph.layers, drawn.layers, strict=True))
    kept = {before.name for before, after in pairs if before is after}
    assert {layer.name for layer in ann.layers if isinstance(layer, AvgPool2d)} <= kept
    assert {type(before) for before, after in pairs if before is not after} == {Conv2d, Dense}


def test_views_of_the_ann_are_the_ann(subjects: dict[str, Subject]) -> None:
    import torch

    images = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = subjects["ann"].logits(images.numpy())
    for view in ("relu", "clipped_relu", "spiking"):
        found = subjects["ann"].module(view)(images).detach().numpy()
        np.testing.assert_allclose(found, expected, atol=1e-5)
    with pytest.raises(ValueError, match="view hard"):
        subjects["ann"].module("hard")


def test_the_converted_network_is_as_open_as_the_ann(
    subjects: dict[str, Subject], synthetic: SyntheticSet
) -> None:
    sanity = check_sanity(tuple(subjects.values()), synthetic)
    assert sanity.images == synthetic.held_out // 2
    assert 1 >= sanity.agreement >= 0.95 > sanity.bound == SANITY_AGREEMENT


def test_a_doctored_converted_network_fails_the_check(
    subjects: dict[str, Subject], synthetic: SyntheticSet
) -> None:
    doctored = replace(subjects["converted"], network=subjects["random"].network)
    with pytest.raises(AgreementError) as caught:
        check_sanity((subjects["ann"], doctored), synthetic)
    problem = caught.value.problems[0]
    assert problem.layer == "converted" and "75%" in problem.allowed


def test_where_pools_have_neurons_all_networks_have_them(
    tmp_path: Path, write_run: Callable[[Path, AnnGraph, AnnGraph], None]
) -> None:
    ann = pooled()
    folded = lower(ann).graph
    neurons = pools_as_neurons(ann, folded)
    assert neurons is not None
    write_run(tmp_path, ann, neurons.graph)
    subjects = {subject.name: subject for subject in load_subjects(tmp_path, seed=0)}
    shapes = {
        name: {layer: weight.shape for layer, weight in subjects[name].weights.items()}
        for name in ("converted", "encrypted", "random")
    }
    assert shapes["converted"] == shapes["encrypted"] == shapes["random"]
    assert list(shapes["random"]) == ["a", "pool", "d"]


def pooled() -> AnnGraph:
    generator = np.random.default_rng(4)

    def normal(*shape: int) -> Array:
        return frozen(generator.normal(0, 1.5 * np.prod(shape[1:]) ** -0.5, shape), np.float32)

    layers = (
        Conv2d("a", normal(6, 1, 3, 3), None, ConvGeometry(padding=((1, 1), (1, 1)))),
        Relu("r"),
        AvgPool2d("pool", (2, 2), ConvGeometry((2, 2))),
        Flatten("f"),
        Dense("d", 2 * normal(4, 216), normal(4)),
    )
    return AnnGraph("pooled", (1, 12, 12), layers)


def test_a_doctored_compile_is_not_attacked(
    run_dir: Path, tmp_path: Path, subjects: dict[str, Subject]
) -> None:
    import shutil

    from compiler.ir import SnnGraph
    from compiler.store import save

    copy = tmp_path / "run"
    shutil.copytree(run_dir, copy)
    file = copy / "private" / "converted.safetensors"
    network = load(SnnGraph, file)
    first = network.layers[0]
    turned = replace(first, weight=-first.weight)
    save(network.with_layers((turned, *network.layers[1:])), file)
    with pytest.raises(AgreementError):
        load_subjects(copy, seed=0)

"""Fitting an ordinary network to the spiking one, and readings of the integers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
import torch

from audit import reconversion
from audit.attacks import QUICK
from audit.attacks.adaptive import Transfer, fit_transfer, fitted_network
from audit.attacks.common import Meter
from audit.cache import Cache
from audit.observing import observe
from audit.reconversion import reconversions, rescaled, weight_distances, with_gains
from audit.reconvert import reconvert
from audit.subjects import Subject
from compiler.ir import ChipGraph, Dense
from compiler.ir.geometry import frozen
from compiler.ir.run_ann import run_ann
from compiler.run_folder import key_of
from compiler.store import content_of
from compiler.synthesis.start import start_images
from sim.datasets import load_dataset
from sim.reference import simulate

T = TypeVar("T")


def agreement(expected: np.ndarray, found: np.ndarray) -> float:
    return float(np.mean(expected.argmax(1) == found.argmax(1)))


def leaky(graph: ChipGraph) -> ChipGraph:
    """Neurons that lose three eighths of their voltage every step: rates are no longer drives."""
    layers = [
        replace(layer, neuron=replace(layer.neuron, v_decay=0 if layer.readout else 1536))
        for layer in graph.layers
    ]
    return replace(graph, layers=tuple(layers))


def test_observed_rates_are_the_simulators(encrypted: ChipGraph) -> None:
    images = start_images(70, (1, 8, 8), torch.Generator().manual_seed(0))
    seen, result = observe(encrypted, images), simulate(encrypted, images.numpy())
    np.testing.assert_array_equal(seen.answers.numpy(), result.logits_nk)
    assert encrypted.timesteps is not None
    for rates, layer in zip(seen.rates, result.layers, strict=False):
        counts = (rates.double() * encrypted.timesteps).numpy()
        np.testing.assert_array_equal(counts, counts.round())
        np.testing.assert_array_equal(counts.sum(0), layer.spikes_chw)


def test_a_curve_is_found_again() -> None:
    generator = torch.Generator().manual_seed(0)
    drive = 3 * torch.rand(20_000, generator=generator) - 1.5
    rates = (2 * (drive - 0.3)).clamp(0, 1)
    found = fit_transfer(drive, rates)(torch.tensor([0.0, 0.4, 0.6, 0.75, 1.4]))
    expected = torch.tensor([0.0, 0.2, 0.6, 0.9, 1.0])
    assert torch.allclose(found, expected, atol=0.06)


def test_a_curve_never_falls_and_never_loses_its_gradient() -> None:
    curve = Transfer(torch.tensor([0.0, 1.0, 2.0, 3.0]), torch.tensor([0.0, 0.0, 1.0, 1.0]))
    drive = torch.linspace(-2, 5, 50).requires_grad_()
    rates = curve(drive)
    (slope,) = torch.autograd.grad(rates.sum(), drive)
    assert (slope > 0).all()
    assert torch.allclose(curve(torch.tensor([1.5])), torch.tensor([0.5]))


def test_the_curve_of_a_layer_that_never_changes_is_level() -> None:
    """One knot: before and behind it the same slope, nearly none."""
    curve = fit_transfer(torch.full((200,), 0.5), torch.zeros(200))
    drive = torch.tensor([-3.0, 0.5, 4.0]).requires_grad_()
    (slope,) = torch.autograd.grad(curve(drive).sum(), drive)
    assert torch.allclose(curve(drive), torch.zeros(3), atol=1e-4)
    assert ((slope > 0) & (slope < 1e-3)).all()


def test_fitting_undoes_a_leak_that_the_plain_reading_knows_nothing_of(
    encrypted: ChipGraph,
) -> None:
    graph = leaky(encrypted)
    subject = Subject("encrypted", graph)
    meter, generator = Meter(None, 1), torch.Generator().manual_seed(0)
    budget = replace(QUICK, queries=500, training_steps=240)
    module, error = fitted_network(subject, budget, generator, meter)
    images = load_dataset("digits", (1, 8, 8), 300).images_nchw
    expected = subject.logits(images)
    plain = agreement(expected, run_ann(reconvert(graph, "relu"), images))
    with torch.no_grad():
        fitted = agreement(expected, module(torch.tensor(images)).numpy())
    assert fitted > plain + 0.3
    assert 0 < error < 0.5


def test_rescaling_finds_the_scale_of_every_channel(encrypted: ChipGraph) -> None:
    """A reading whose channels were scaled at random comes back to the observed rates."""
    plain = reconvert(encrypted, "relu")
    rng = np.random.default_rng(0)
    layers = [
        with_gains(layer, rng.uniform(0.4, 2.5, len(layer.weight)))
        if hasattr(layer, "weight") and layer is not plain.layers[-1]
        else layer
        for layer in plain.layers
    ]
    doctored = plain.with_layers(tuple(layers))
    images = start_images(200, (1, 8, 8), torch.Generator().manual_seed(0))
    seen = observe(encrypted, images)
    digits = load_dataset("digits", (1, 8, 8), 300).images_nchw
    expected = simulate(encrypted, digits).logits_nk
    before = agreement(expected, run_ann(doctored, digits))
    after = agreement(expected, run_ann(rescaled(doctored, seen), digits))
    assert after >= 0.95 > before


def test_gains_scale_weights_and_bias() -> None:
    layer = Dense("d", frozen([[1, 2], [3, 4]], np.float32), frozen([5, 6], np.float32))
    found = with_gains(layer, np.array([2.0, 0.5]))
    assert found.weight.tolist() == [[2, 4], [1.5, 2]] and found.bias is not None
    assert found.bias.tolist() == [10, 3]


def test_readings_of_the_integers(subjects: dict[str, Subject]) -> None:
    data = load_dataset("digits", (1, 8, 8), 300)
    found = {made.name: made for made in reconversions(subjects["encrypted"], seed=0)}
    assert reconversions(subjects["encrypted"], seed=0) == tuple(found.values()), "made twice"
    kinds = ("relu", "clipped_relu")
    assert list(found) == [
        f"{kind}{rest}" for kind in kinds for rest in ("", "_rescaled", "_finetuned")
    ]
    for made in found.values():
        answers = run_ann(made.graph, data.images_nchw).argmax(1)
        assert np.mean(answers == data.labels) > 0.8, made.name
    assert found["relu"].queries == 0 < found["relu_rescaled"].queries
    assert found["relu_rescaled"].queries < found["relu_finetuned"].queries
    assert [made.name for made in reconversions(subjects["ann"], seed=0)] == list(kinds)


def test_readings_are_made_once_and_found_again(
    encrypted: ChipGraph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By another process too, so that an interrupted audit goes on; other inputs are made anew."""
    cache = Cache(tmp_path)

    def keep(kind: type[T], name: str, decided_by: object, make: Callable[[], T]) -> T:
        return cache.value(kind, name, key_of(decided_by), make)

    def again(network: ChipGraph, seed: int) -> tuple[list[object], list[bytes]]:
        found = reconversions(Subject("encrypted", network, keep=keep), seed)
        told = [(one.name, one.queries, one.extras, one.seconds) for one in found]
        return list(told), [content_of(one.graph) for one in found]

    def nothing(*_: object) -> None:
        raise InterruptedError

    made = again(encrypted, 0)
    monkeypatch.setattr(reconversion, "synthesize", nothing)
    assert again(encrypted, 0) == made
    for changed in ((leaky(encrypted), 0), (encrypted, 1)):
        with pytest.raises(InterruptedError):
            again(*changed)


def test_distance_of_weights(subjects: dict[str, Subject]) -> None:
    converted = subjects["converted"]
    same = weight_distances(converted, converted)
    assert all(d.change == 0 and d.cosine == pytest.approx(1) for d in same.values())
    moved = weight_distances(subjects["encrypted"], converted)
    assert all(0 < d.change < 0.2 and 0.98 < d.cosine < 1 for d in moved.values())
    random = weight_distances(subjects["random"], converted)
    assert all(d.change > 0.8 and abs(d.cosine) < 0.3 for d in random.values())
    assert weight_distances(subjects["ann"], converted) == {}

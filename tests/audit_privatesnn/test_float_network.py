"""Code, neuron, thresholds, re-conversion and training of the float network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from audit.privatesnn.balance import balanced, unbalanced
from audit.privatesnn.encoder import SignedPoisson
from audit.privatesnn.network import PrivateSnn, SpikingNetwork, answers, without_biases
from audit.privatesnn.neuron import fire, integrate, published_slope, slope_of
from audit.privatesnn.settings import Training
from audit.privatesnn.subject import check_homogeneous, float_subject
from audit.privatesnn.training import Checkpoint, objective, trained
from audit.reconversion import WeightDistance, weight_distances
from audit.surrogates import LINEAR, SURROGATES
from compiler.errors import AgreementError, ModelError
from compiler.ir.ann import AnnGraph, AvgPool2d, Conv2d, Dense, Flatten, InputAffine, Relu
from compiler.ir.geometry import Array, ConvGeometry, frozen
from compiler.ir.run_ann import run_ann
from compiler.ir.synthetic import SyntheticSet
from sim.datasets import load_dataset


def looped(current_tm: Array, threshold: float) -> tuple[Array, Array]:
    """The neuron of the paper's code, one number at a time."""
    voltage, spikes = np.zeros_like(current_tm), np.zeros_like(current_tm)
    theta = np.float32(threshold)
    for m in range(current_tm.shape[1]):
        membrane = np.float32(0)
        for t in range(len(current_tm)):
            membrane = np.float32(membrane + current_tm[t, m])
            voltage[t, m] = membrane
            if membrane > theta:
                spikes[t, m] = 1
                membrane = np.float32(membrane - theta)
    return voltage, spikes


@pytest.mark.parametrize("threshold", [0.5, 1.0, 2.7])
def test_the_neuron_is_that_of_a_plain_loop(threshold: float) -> None:
    current = np.random.default_rng(0).normal(0.3, 1, (40, 3000)).astype(np.float32)
    voltage, spikes = integrate(torch.from_numpy(current), threshold)
    expected_voltage, expected = looped(current, threshold)
    assert np.array_equal(spikes.numpy(), expected) and 0.05 < expected.mean() < 0.6
    assert np.array_equal(voltage.numpy(), expected_voltage)


def test_a_voltage_at_the_threshold_does_not_fire_and_the_rest_is_kept() -> None:
    current = torch.tensor([[1.0], [0.5], [0.5], [0.5]])
    assert fire(current, 1.0).flatten().tolist() == [0, 1, 0, 1]


def test_the_gradient_ends_neither_at_a_spike_nor_at_the_reset() -> None:
    current = torch.tensor([[0.6], [0.9], [-0.2]], requires_grad=True)
    weight = torch.tensor([[1.0], [10.0], [100.0]])
    (fire(current, 1.0) * weight).sum().backward()  # type: ignore[no-untyped-call]
    voltage = torch.tensor([[0.6], [1.5], [0.3]])
    own = weight * published_slope(voltage - 1)
    assert own.flatten().tolist() == pytest.approx([0.18, 1.5, 9.0], rel=1e-5)
    expected = own.flip(0).cumsum(0).flip(0)
    assert current.grad is not None
    torch.testing.assert_close(current.grad, expected)


def test_the_surrogates_have_area_one_and_the_published_one_less() -> None:
    x = torch.linspace(-400, 400, 2_000_001, dtype=torch.float64)
    for surrogate in SURROGATES:
        area = float(torch.trapezoid(slope_of(surrogate)(x), x))
        assert area == pytest.approx(1, abs=2e-3), surrogate.name
    torch.testing.assert_close(published_slope(x), 0.3 * slope_of(LINEAR)(x))


def test_the_code_spikes_by_chance_with_the_sign_of_the_pixel() -> None:
    pixels = torch.tensor([0.0, 0.1, 0.25, 0.5, 0.6, 0.9, 1.0]).view(1, 1, 1, 7)
    spikes = SignedPoisson(3).spikes(pixels, 20_000)[:, 0, 0, 0]
    assert set(spikes.unique().tolist()) == {-1.0, 0.0, 1.0}
    signed = 2 * pixels.flatten() - 1
    torch.testing.assert_close(spikes.mean(0), signed, atol=0.015, rtol=0)
    assert (spikes[:, 0] == -1).all() and (spikes[:, 6] == 1).all()
    assert not (spikes[:, 3]).any()
    assert (spikes * signed.sign() >= 0).all()
    lagged = torch.corrcoef(torch.stack([spikes[1:, 1], spikes[:-1, 1]]))[0, 1]
    assert abs(float(lagged)) < 0.03


def test_the_seed_fixes_the_code_whatever_is_asked_together() -> None:
    images = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    whole = SignedPoisson(7).spikes(images, 9)
    encoder = SignedPoisson(7)
    parts = torch.cat([encoder.spikes(part, 9) for part in torch.split(images, [1, 3, 2])], 1)
    assert torch.equal(whole, parts)
    assert not torch.equal(whole, SignedPoisson(8).spikes(images, 9))
    assert not torch.equal(encoder.spikes(images, 9), whole)


def test_the_gradient_goes_straight_through_the_code() -> None:
    images = torch.tensor([0.2, 0.8, 1.3]).view(1, 1, 1, 3).requires_grad_()
    SignedPoisson(0).spikes(images, 5).sum().backward()  # type: ignore[no-untyped-call]
    assert images.grad is not None
    assert images.grad.flatten().tolist() == pytest.approx([10.0] * 3)


def pooled() -> AnnGraph:
    """Two pixels a channel averaged between two layers, by hand."""
    half = frozen([0.5], np.float32)
    return AnnGraph(
        "pooled",
        (1, 1, 2),
        (
            InputAffine("in", half, half),
            Conv2d("a", frozen([[[[2.0]]]], np.float32), None),
            Relu("a.relu"),
            AvgPool2d("pool", (1, 2), ConvGeometry((1, 2))),
            Flatten("flat"),
            Dense("b", frozen([[3.0], [-1.0]], np.float32), None),
            Relu("b.relu"),
            Dense("c", frozen([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], np.float32), None),
        ),
    )


def test_a_threshold_is_the_largest_current() -> None:
    """Pixels 1 and 0.5 spike always and never: every current is known."""
    images = frozen([[[[1.0, 0.5]]], [[[0.5, 0.5]]], [[[0.0, 0.0]]]], np.float32)
    found = balanced(pooled(), images, 5, seed=0)
    # Layer a gets 2 a step; at threshold 2 it fires from the second step on, after pooling 0.5.
    assert found.thresholds == (2.0, 1.5)
    # Layer b gets 0 once and 1.5 four times: fires at 3, 3 and 3 > 1.5, three times after the 1.5.
    assert answers(found, images, seed=0).tolist() == [[3, 0, 3], [0, 0, 0], [0, 0, 0]]


def test_thresholds_that_no_image_sets_are_1() -> None:
    found = unbalanced(pooled(), 5)
    assert found.thresholds == (1.0, 1.0) and found.timesteps == 5
    assert [layer.name for layer in found.graph.layers] == [one.name for one in pooled().layers]


def test_a_dead_layer_is_named() -> None:
    with pytest.raises(ModelError, match=r"a\.relu"):
        balanced(pooled(), frozen(np.zeros((2, 1, 1, 2)), np.float32), 5, seed=0)


def test_the_network_computed_layer_by_layer_is_that_step_by_step(converted: PrivateSnn) -> None:
    images = torch.from_numpy(load_dataset("digits", samples=6).images_nchw.copy())
    spikes = SignedPoisson(0).spikes(images, converted.timesteps)
    module = SpikingNetwork(converted)
    weights = list(module.weights.values())
    a, b, c = converted.thresholds
    states = [torch.zeros(6, 16, 8, 8), torch.zeros(6, 32, 4, 4), torch.zeros(6, 64)]
    sums = torch.zeros(6, 10)
    for step in spikes:
        outputs = step
        for layer, theta in enumerate((a, b, c)):
            if layer < 2:
                current = functional.conv2d(outputs, weights[layer], None, layer + 1, 1)
            else:
                current = outputs.flatten(1) @ weights[layer].T
            states[layer] += current
            outputs = (states[layer] > theta).float()
            states[layer] -= theta * outputs
        sums += outputs @ weights[3].T
    torch.testing.assert_close(module(spikes), sums, atol=1e-3, rtol=1e-4)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), channels=st.sampled_from([1, 2, 3]), groups=st.booleans())
def test_event_by_event_it_is_the_same_network(seed: int, channels: int, groups: bool) -> None:
    """Weights and thresholds of few binary digits: every sum is exact in any order."""
    draw = np.random.default_rng(seed)

    def weight(*shape: int) -> Array:
        return frozen(draw.integers(-24, 32, shape) / 16, np.float32)

    half = frozen(np.full(channels, 0.5), np.float32)
    shared = channels if groups else 1
    graph = AnnGraph(
        "drawn",
        (channels, 6, 5),
        (
            InputAffine("in", half, half),
            Conv2d("a", weight(4 * shared, channels // shared, 3, 3), None,
                   ConvGeometry((1, 1), ((1, 1), (1, 1)), groups=shared)),
            Relu("a.relu"),
            AvgPool2d("pool", (2, 2), ConvGeometry((2, 2))),
            Conv2d("b", weight(5, 4 * shared, 2, 2), None, ConvGeometry((1, 1), ((1, 0), (1, 0)))),
            Relu("b.relu"),
            Flatten("flat"),
            Dense("c", weight(3, 5 * 3 * 2), None),
        ),
    )  # fmt: skip
    network = PrivateSnn(graph, (1.5, 2.25), 12)
    images = draw.random((5, channels, 6, 5)).astype(np.float32)
    spikes = SignedPoisson(seed).spikes(torch.from_numpy(images), 12)
    outputs = list(SpikingNetwork(network).layer_outputs(spikes))
    assert np.array_equal(answers(network, images, seed), outputs[-1][1].flatten(1).numpy())
    fired = [found for layer, found in outputs if isinstance(layer, Relu)]
    assert 0 < float(fired[0].mean()) < 1
    *rates, _ = network.events.observed(torch.from_numpy(images), seed)
    for found, expected in zip(rates, fired, strict=True):
        np.testing.assert_allclose(found, expected.mean(0).numpy(), atol=1e-6)


def test_the_converted_network_reconverted_is_the_ann(ann: AnnGraph, converted: PrivateSnn) -> None:
    images = load_dataset("digits").images_nchw
    check_homogeneous(ann, converted, images)
    logits, found = run_ann(ann, images), run_ann(converted.reconverted("relu"), images)
    np.testing.assert_allclose(found * np.prod(converted.thresholds), logits, atol=1e-3)
    spoilt = replace(converted, graph=disturbed(converted.graph))
    with pytest.raises(AgreementError, match="not the ANN"):
        check_homogeneous(ann, spoilt, images)
    moved = moved_from(converted, spoilt)
    assert all(0.2 < distance.change < 0.4 for distance in moved.values())


def moved_from(before: PrivateSnn, after: PrivateSnn) -> dict[str, WeightDistance]:
    return weight_distances(float_subject("", after, 0), float_subject("", before, 0))


def disturbed(graph: AnnGraph) -> AnnGraph:
    rng = np.random.default_rng(0)
    layers = []
    for layer in graph.layers:
        if isinstance(layer, (Conv2d, Dense)):
            noise = 0.3 * layer.weight.std() * rng.standard_normal(layer.weight.shape)
            layer = replace(layer, weight=frozen(layer.weight + noise, np.float32))
        layers.append(layer)
    return graph.with_layers(tuple(layers))


def test_what_is_no_network_of_this_kind_is_listed(ann: AnnGraph) -> None:
    layers = list(ann.layers)
    layers[0] = InputAffine("normalisation", frozen([0.0], np.float32), frozen([1.0], np.float32))
    first = layers[1]
    assert isinstance(first, Conv2d)
    layers[1] = replace(first, bias=frozen(np.ones(16), np.float32))
    layers[2] = Relu("six", 6.0)
    with pytest.raises(ModelError) as raised:
        without_biases(ann.with_layers(tuple(layers)))
    text = str(raised.value)
    assert "(pixel - 0.5) / 0.5" in text and "a bias" in text and "ends at 6.0" in text


def test_training_lowers_the_loss_and_moves_the_weights(
    converted: PrivateSnn, synthetic: SyntheticSet
) -> None:
    for share in (0.0, 0.7):
        made = trained(converted, synthetic, Training(3, 16, distillation=share), seed=0)
        assert made.losses[-1] < 0.9 * made.losses[0]
        moved = moved_from(converted, made.network)
        assert all(0 < distance.change < 0.2 for distance in moved.values())
    again = trained(converted, synthetic, Training(3, 16, distillation=0.7), seed=0)
    assert again.losses == made.losses
    assert made.network.thresholds == converted.thresholds


def test_an_interrupted_training_ends_as_an_unbroken_one(
    converted: PrivateSnn, synthetic: SyntheticSet, tmp_path: Path
) -> None:
    schedule = Training(4, 48, milestones=(0.25, 0.5))
    unbroken = trained(converted, synthetic, schedule, seed=3)
    kept = Checkpoint(tmp_path / "state", "key")

    def interrupt(done: int, total: int) -> None:
        if done > 0.7 * total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(converted, synthetic, schedule, 3, interrupt, kept)
    heard: list[int] = []
    found = trained(converted, synthetic, schedule, 3, lambda done, total: heard.append(done), kept)
    assert len(heard) == 6 and heard[-1] == schedule.epochs * 128
    assert found.losses == unbroken.losses and found.agreement == unbroken.agreement
    assert all(
        np.array_equal(one.weight, other.weight)
        for one, other in zip(
            found.network.graph.layers, unbroken.network.graph.layers, strict=True
        )
        if isinstance(one, (Conv2d, Dense)) and isinstance(other, (Conv2d, Dense))
    )
    kept.path.write_bytes(b"half of it")
    assert kept.read() is None and Checkpoint(tmp_path / "state", "other").read() is None


@given(seed=st.integers(0, 2**32), before=st.integers(0, 9), steps=st.integers(1, 3))
@settings(max_examples=20, deadline=None)
def test_noise_goes_on_where_it_was(seed: int, before: int, steps: int) -> None:
    images = torch.full((1, 1, 3, 3), 0.8)
    one, other = SignedPoisson(seed), SignedPoisson(seed + 1)
    for _ in range(before):
        one.spikes(images, steps)
    other.go_on_from(one.state)
    for _ in range(3):
        assert torch.equal(one.spikes(images, steps), other.spikes(images, steps))


def test_the_loss_is_the_one_described() -> None:
    mine, theirs = torch.tensor([[2.0, 0.0, 1.0]]), torch.tensor([[3.0, 1.0, -1.0]])
    hard = -torch.log_softmax(mine, 1)[0, 0]
    p, q = torch.softmax(theirs / 20, 1), torch.softmax(mine / 20, 1)
    soft = 400 * (p * (p / q).log()).sum()
    found = objective(mine, theirs, Training())
    torch.testing.assert_close(found, 0.3 * hard + 0.7 * soft, rtol=1e-3, atol=1e-6)


def test_as_a_subject_it_answers_the_same_twice_and_can_be_watched(converted: PrivateSnn) -> None:
    subject = float_subject("encrypted", converted, seed=5)
    images = load_dataset("digits", samples=5).images_nchw
    found = subject.logits(images)
    assert found.shape == (5, 10) and np.array_equal(found, subject.logits(images))
    seen = subject.observe(torch.from_numpy(images.copy()))
    assert np.array_equal(seen.answers.numpy(), found.astype(np.float32))
    assert [tuple(rate.shape[1:]) for rate in seen.rates] == [(16, 8, 8), (32, 4, 4), (64, 1, 1)]
    assert all(float(rate.min()) >= 0 and float(rate.max()) <= 1 for rate in seen.rates)
    plain = run_ann(subject.reconverted("relu"), images)
    np.testing.assert_allclose(plain, run_ann(converted.reconverted("relu"), images), atol=1e-4)


def test_its_spiking_view_gives_a_gradient_for_the_image(converted: PrivateSnn) -> None:
    subject = float_subject("encrypted", converted, seed=5)
    images = torch.from_numpy(load_dataset("digits", samples=3).images_nchw.copy())
    images.requires_grad_()
    for surrogate in SURROGATES:
        logits = subject.module("spiking", surrogate, 8)(images)
        (gradient,) = torch.autograd.grad(logits[:, 1].sum(), images)
        assert gradient.shape == images.shape and bool(gradient.abs().sum((1, 2, 3)).min() > 0)

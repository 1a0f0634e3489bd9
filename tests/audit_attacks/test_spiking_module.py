"""Exact integers forward, surrogate gradients backward."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from audit.spiking import SpikingModule
from audit.subjects import Subject
from audit.surrogates import EXPONENTIAL, RECTANGULAR, SURROGATES, Surrogate, gradient_of_drive
from compiler.chip.neuron import run_neurons
from compiler.ir.chip import ChipGraph, CubaFields
from compiler.ir.snn import Encoding
from compiler.synthesis.start import start_images
from sim.reference import simulate


def pictures(count: int, seed: int = 0) -> torch.Tensor:
    return start_images(count, (1, 8, 8), torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("code", ["rate", "poisson", "latency"])
def test_forward_is_the_integer_simulator(encrypted: ChipGraph, code: str) -> None:
    graph = replace(encrypted, encoding=Encoding(code, seed=3))  # type: ignore[arg-type]
    images = pictures(40)
    expected = simulate(graph, images.numpy()).logits_nk
    np.testing.assert_array_equal(SpikingModule(graph)(images).numpy(), expected)


def test_leaky_neurons_too(encrypted: ChipGraph) -> None:
    leaky = [
        replace(layer, neuron=replace(layer.neuron, i_decay=2048, v_decay=256))
        for layer in encrypted.layers
    ]
    graph = replace(encrypted, layers=tuple(leaky))
    images = pictures(8)
    expected = simulate(graph, images.numpy()).logits_nk
    np.testing.assert_array_equal(SpikingModule(graph)(images).numpy(), expected)


@pytest.mark.parametrize("surrogate", SURROGATES, ids=lambda s: s.name)
@pytest.mark.parametrize("code", ["rate", "poisson", "latency"])
def test_following_the_gradient_raises_the_score(
    encrypted: ChipGraph, surrogate: Surrogate, code: str
) -> None:
    graph = replace(encrypted, encoding=Encoding(code))  # type: ignore[arg-type]
    module = SpikingModule(graph, surrogate)
    images, labels = pictures(20), torch.arange(20) % 10
    before = module(images).gather(1, labels[:, None]).mean()
    for _ in range(10):
        images.requires_grad_()
        score = module(images).gather(1, labels[:, None]).sum()
        (gradient,) = torch.autograd.grad(score, images)
        assert torch.isfinite(gradient).all() and (gradient != 0).any()
        length = gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1).clamp_min(1e-12)
        images = (images + 0.3 * gradient / length).detach().clamp(0, 1)
    after = module(images).gather(1, labels[:, None]).mean()
    spread = module(pictures(50, seed=1)).std()
    assert after > before + 0.5 * spread


def test_every_surrogate_has_area_one() -> None:
    x = np.linspace(-400, 400, 800_001)
    for surrogate in SURROGATES:
        w = surrogate.width
        values = {
            "exponential": np.exp(-np.abs(x) / w) / (2 * w),
            "linear": np.maximum(0, 1 - np.abs(x) / w) / w,
            "fast-sigmoid": 1 / (2 * w * (1 + np.abs(x) / w) ** 2),
            "arctan": 1 / (np.pi * w * (1 + (x / w) ** 2)),
            "rectangular": (np.abs(x) < w) / (2 * w),
        }[surrogate.name]
        assert np.trapz(values, x) == pytest.approx(1, abs=5e-3)
        assert kernel_at(surrogate, x[::1000]) == pytest.approx(values[::1000], rel=1e-4, abs=1e-6)


def kernel_at(surrogate: Surrogate, x: np.ndarray) -> np.ndarray:
    """h(x) read off the kernel: one step, no memory, threshold 100 mantissas."""
    theta = 100
    v = np.rint((x + 1) * (theta << 6)).astype(np.int32).reshape(1, 1, -1)
    ones = np.ones(v.shape, np.float32)
    silent = np.zeros(v.shape, np.uint8)
    found = gradient_of_drive(ones, v, silent, CubaFields(theta), surrogate)
    return found[0, 0] * theta


@pytest.mark.parametrize("fields", [CubaFields(101), CubaFields(101, 1024, 512)])
def test_backward_is_the_chain_rule_over_time(fields: CubaFields) -> None:
    """Against a plain sum over all pairs of steps, with the reset cutting the path."""
    rng = np.random.default_rng(0)
    drive = rng.integers(-60, 120, (9, 2, 5)).astype(np.float32)
    run = run_neurons(drive, np.zeros(5, np.int32), fields, traces=True)
    arriving = rng.standard_normal(drive.shape).astype(np.float32)
    assert run.v_tnm is not None and run.spikes_tnm.any()
    found = gradient_of_drive(arriving, run.v_tnm, run.spikes_tnm, fields, EXPONENTIAL)
    keep_u, keep_v = 1 - fields.i_decay / 4096, 1 - fields.v_decay / 4096
    theta = fields.v_th_mant << 6
    slope = np.exp(-np.abs(run.v_tnm / theta - 1)) / 2 / fields.v_th_mant
    expected = np.zeros(drive.shape)
    for start in range(9):
        of_u, of_v = np.ones((2, 5)), np.ones((2, 5))
        for t in range(start, 9):
            expected[start] += arriving[t] * slope[t] * of_v
            of_u = keep_u * of_u
            of_v = keep_v * of_v * (1 - run.spikes_tnm[t]) + of_u
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)


def test_noise_beyond_black_and_white_enters_clipped(encrypted: ChipGraph) -> None:
    module = SpikingModule(encrypted, RECTANGULAR)
    images = pictures(4)
    bright = torch.where(images > 0.5, images + 3, images - 3)
    np.testing.assert_array_equal(module(bright).numpy(), module(bright.clamp(0, 1)).numpy())


def test_fewer_steps_still_point_the_same_way(subjects: dict[str, Subject]) -> None:
    images = pictures(30).requires_grad_()
    gradients = []
    for timesteps in (None, 4):
        score = subjects["encrypted"].module("spiking", timesteps=timesteps)(images)[:, 3].sum()
        gradients.append(torch.autograd.grad(score, images)[0].flatten(1))
    assert torch.cosine_similarity(*gradients).mean() > 0.4

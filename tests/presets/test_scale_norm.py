"""The normalisation of training that leaves no bias."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.frontend.architectures import ARCHITECTURES
from compiler.presets import scale_norm
from compiler.presets.scale_norm import (
    EPSILON,
    ScaledConv2d,
    fold_scale_norm,
    scaled,
    with_scale_norm,
)
from compiler.presets.settings import TrainingSettings
from compiler.presets.training import accuracy, train


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 5), st.integers(0, 2**31))
def test_the_gradient_is_that_of_the_equation(batch, channels, side, seed):
    torch.manual_seed(seed)
    z = torch.randn(batch, channels, side, side, requires_grad=True)
    gain = torch.rand(channels, requires_grad=True)
    weights = torch.randn_like(z)
    y, mean_square = scaled(z, gain)
    found = torch.autograd.grad((y * weights).sum(), (z, gain))
    by_hand = z.square().mean((0, 2, 3))
    expected = z * (gain * torch.rsqrt(by_hand + EPSILON))[:, None, None]
    wanted = torch.autograd.grad((expected * weights).sum(), (z, gain))
    torch.testing.assert_close(mean_square, by_hand)
    torch.testing.assert_close(y, expected)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("rows", [7, 1 << 14])
def test_sums_over_places_do_not_depend_on_the_parts(monkeypatch, rows):
    monkeypatch.setattr(scale_norm, "_ROWS", rows)
    left, right = torch.randint(-9, 9, (2, 5, 3, 4, 6)).float()
    assert torch.equal(scale_norm._sums(left, right), (left * right).sum((0, 2, 3)))


@pytest.mark.parametrize("name", ["vgg5", "digits-cnn"])
def test_scales_are_folded_into_the_convolutions(name):
    torch.manual_seed(0)
    plain = ARCHITECTURES[name]((3, 8, 8), 3)
    names = list(plain.state_dict())
    network = with_scale_norm(plain)
    images = torch.randn(32, 3, 8, 8) + 1
    for _ in range(3):
        network(images)  # moves the running mean squares
    folded = fold_scale_norm(network)
    assert list(folded.state_dict()) == names
    assert not any(isinstance(part, ScaledConv2d) for part in folded.modules())
    torch.testing.assert_close(folded(images), network.eval()(images), rtol=1e-4, atol=1e-5)
    centred = [part.weight for part in folded.modules() if isinstance(part, torch.nn.Conv2d)][1:]
    assert all(weight.mean((1, 2, 3)).abs().max() < 1e-6 for weight in centred)


def test_a_network_without_biases_learns_and_has_none_afterwards():
    torch.manual_seed(0)
    labels = np.arange(192) % 3
    images = np.random.default_rng(0).random((192, 3, 8, 8), np.float32)
    images[np.arange(192), labels] += 0.5
    chosen = TrainingSettings(
        epochs=4, batch=32, optimizer="nesterov", learning_rate=0.1, norm="scale"
    )
    kept = train(ARCHITECTURES["vgg5"]((3, 8, 8), 3), images, labels, chosen)
    assert not any(name.endswith("bias") for name in kept.state_dict())
    assert accuracy(kept, images, labels) > 0.9


def test_a_bare_convolution_is_refused():
    with pytest.raises(TypeError, match="bare Conv2d"):
        with_scale_norm(torch.nn.Conv2d(1, 1, 3))

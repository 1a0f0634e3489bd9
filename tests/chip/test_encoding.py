"""The input codes, repeated number by number from the formulas of the documentation."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from compiler.chip.encoding import encode, rate_table
from compiler.chip.fields import TIMESTEP_CHOICES
from compiler.ir.snn import Encoding

RATE, LATENCY = Encoding("rate"), Encoding("latency")


def rate_by_formula(pixel: float, timesteps: int) -> list[int]:
    """k = round-half-even(x T); a spike at t iff floor((t + 1) k / T) > floor(t k / T)."""
    count = round(Fraction(pixel) * timesteps)
    return [int((t + 1) * count // timesteps > t * count // timesteps) for t in range(timesteps)]


@pytest.mark.parametrize("timesteps", [1, 4, 16, 32, 128])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rate_is_the_formula(timesteps: int, dtype: type) -> None:
    eighths_of_a_step = np.arange(8 * timesteps + 1) / (8 * timesteps)  # ties among them
    bytes_of_a_pixel = np.arange(256) / 255
    pixels = np.concatenate([eighths_of_a_step, bytes_of_a_pixel]).astype(dtype)
    spikes = encode(pixels.reshape(1, 1, 1, -1), timesteps, RATE)
    assert spikes.dtype == np.uint8 and spikes.shape == (timesteps, 1, 1, 1, len(pixels))
    for index, pixel in enumerate(pixels):
        found = spikes[:, 0, 0, 0, index].tolist()
        assert found == rate_by_formula(float(pixel), timesteps), pixel


@pytest.mark.parametrize("timesteps", (*TIMESTEP_CHOICES, 1, 7, 100, 1023))
def test_every_count_of_spikes_is_sent_and_spread_evenly(timesteps: int) -> None:
    table = rate_table(timesteps)
    counts = np.arange(timesteps + 1)
    np.testing.assert_array_equal(table.sum(1), counts)
    sent = np.cumsum(table, axis=1, dtype=np.int64)
    due = np.arange(1, timesteps + 1)[None] * counts[:, None]
    lag = due - sent * timesteps
    assert lag.min() >= 0 and lag.max() < timesteps


def test_rate_rounds_ties_to_the_even_count() -> None:
    images = np.array([0.5, 1.5, 2.5, 3.5]).reshape(1, 1, 1, 4) / 4
    assert encode(images, 4, RATE).sum(0).ravel().tolist() == [0, 2, 2, 4]


def poisson_by_formula(image: np.ndarray, timesteps: int, seed: int, index: int) -> np.ndarray:
    """u < x, one number after the other, in t, C, H, W order."""
    philox = np.random.Philox(key=np.array([seed, index], np.uint64))
    generator = np.random.Generator(philox)
    spikes = np.zeros((timesteps, *image.shape), np.uint8)
    for place in np.ndindex(spikes.shape):
        spikes[place] = generator.random() < image[place[1:]]
    return spikes


def test_poisson_is_the_formula() -> None:
    images = np.random.default_rng(0).random((3, 2, 3, 4)).astype(np.float32)
    images[0, 0, 0, :2] = 0, 1
    spikes = encode(images, 8, Encoding("poisson", seed=7), first_index=40)
    for offset, image in enumerate(images):
        expected = poisson_by_formula(image, 8, 7, 40 + offset)
        np.testing.assert_array_equal(spikes[:, offset], expected)


def test_poisson_depends_on_the_seed_and_the_index_and_on_no_batch() -> None:
    images = np.full((6, 1, 4, 4), 0.5, np.float32)
    code = Encoding("poisson", seed=3)
    whole = encode(images, 16, code)
    np.testing.assert_array_equal(encode(images[4:], 16, code, first_index=4), whole[:, 4:])
    assert (whole[:, 0] != whole[:, 1]).any()
    assert (encode(images, 16, Encoding("poisson", seed=4)) != whole).any()
    large = Encoding("poisson", seed=2**63 - 1)
    assert 0 < encode(images, 16, large).sum() < images.size * 16


@pytest.mark.parametrize("timesteps", [4, 32, 64])
@pytest.mark.parametrize("x_min", [0.0, 0.25])
def test_latency_is_the_formula(timesteps: int, x_min: float) -> None:
    """One spike at round-half-even((1 - x) (T - 1)) where x > x_min."""
    ties = 1 - (np.arange(timesteps - 1) + 0.5) / (timesteps - 1)
    pixels = np.concatenate([np.arange(256) / 255, ties, [x_min, x_min + 1e-6]])
    pixels = pixels.astype(np.float32)
    code = Encoding("latency", x_min=x_min)
    spikes = encode(pixels.reshape(1, 1, 1, -1), timesteps, code)[:, 0, 0, 0]
    for index, pixel in enumerate(pixels):
        expected = [0] * timesteps
        if pixel > x_min:
            expected[round((1 - float(pixel)) * (timesteps - 1))] = 1
        assert spikes[:, index].tolist() == expected, pixel


def test_a_bright_pixel_speaks_first_and_a_black_one_never() -> None:
    spikes = encode(np.array([1.0, 0.5, 0.01, 0.0]).reshape(1, 1, 1, 4), 32, LATENCY)
    assert spikes.sum(0).ravel().tolist() == [1, 1, 1, 0]
    assert spikes.argmax(0).ravel().tolist() == [0, 16, 31, 0]

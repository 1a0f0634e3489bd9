"""Random layers and the comparison that the tests of the passes share."""

import numpy as np
import pytest

from compiler.ir import AvgPool2d, BatchNorm, Conv2d, ConvGeometry, Dense
from compiler.ir.geometry import frozen
from compiler.ir.run_ann import run_ann


class Random:
    """Random layers from one seed."""

    def __init__(self, seed=0):
        self.generator = np.random.default_rng(seed)

    def normal(self, *shape):
        return frozen(self.generator.normal(size=shape), np.float32)

    def conv(self, name, out, inputs, kernel=(3, 3), geometry=None, bias=True):
        geometry = geometry or ConvGeometry()
        weight = self.normal(out, inputs // geometry.groups, *kernel)
        return Conv2d(name, weight, self.normal(out) if bias else None, geometry)

    def dense(self, name, out, inputs, bias=True):
        weight = frozen(self.generator.normal(size=(out, inputs)) / inputs**0.5, np.float32)
        return Dense(name, weight, self.normal(out) if bias else None)

    def norm(self, name, channels):
        return BatchNorm(name, self.normal(channels), self.normal(channels))

    def pool(self, name, size, **how):
        count = how.pop("count_include_pad", True)
        return AvgPool2d(name, (size, size), ConvGeometry(**{"stride": (size, size), **how}), count)


@pytest.fixture
def random():
    return Random()


@pytest.fixture
def random_from():
    return Random


@pytest.fixture
def assert_same():
    """Compare two graphs on random images with a negative range as well, in double precision."""

    def compare(first, second, tolerance=1e-5):
        generator = np.random.default_rng(11)
        images = np.concatenate(
            [generator.random((3, *first.input_shape)), np.ones((1, *first.input_shape))]
        )
        expected = run_ann(first, images, dtype="float64")
        found = run_ann(second, images, dtype="float64")
        scale = max(1.0, float(np.abs(expected).max()))
        np.testing.assert_allclose(found / scale, expected / scale, rtol=0, atol=tolerance)

    return compare

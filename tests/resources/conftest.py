"""Networks whose use of Loihi 2 Intel has printed, as shapes."""

from __future__ import annotations

import pytest

from compiler.ir.geometry import ConvGeometry, Pair, Shape
from compiler.resources.shapes import LayerShape, NetworkShape


def _conv(
    name: str, before: Shape, after: Shape, kernel: int, stride: Pair, padding: Pair
) -> LayerShape:
    geometry = ConvGeometry(stride, ((padding[0],) * 2, (padding[1],) * 2))
    return LayerShape(name, "conv", before, after, (kernel, kernel), geometry)


def _dense(name: str, inputs: int, outputs: int) -> LayerShape:
    return LayerShape(name, "dense", (inputs, 1, 1), (outputs, 1, 1))


@pytest.fixture
def conv_shape():
    return _conv


@pytest.fixture
def dense_shape():
    return _dense


@pytest.fixture
def pilotnet() -> NetworkShape:
    """lava-dl tutorials netx/pilotnet_snn, as its table of layers prints it."""
    return NetworkShape(
        "pilotnet",
        (
            LayerShape("input", "input", (3, 66, 200), (3, 66, 200)),
            _conv("conv0", (3, 66, 200), (24, 32, 99), 3, (2, 2), (0, 0)),
            _conv("conv1", (24, 32, 99), (36, 15, 49), 3, (2, 2), (0, 0)),
            _conv("conv2", (36, 15, 49), (48, 7, 24), 3, (2, 2), (0, 0)),
            _conv("conv3", (48, 7, 24), (64, 4, 22), 3, (2, 1), (1, 0)),
            _conv("conv4", (64, 4, 22), (64, 2, 20), 3, (1, 1), (0, 0)),
            _dense("dense0", 2560, 100),
            _dense("dense1", 100, 50),
            _dense("dense2", 50, 10),
            _dense("dense3", 10, 1),
        ),
        16,
    )


@pytest.fixture
def yolo_kp() -> NetworkShape:
    """lava-dl tutorials netx/yolo_kp, as its table of layers prints it; 448 x 448 x 3 in."""
    sizes = [448, 224, 112, 56, 28, 28, 14, 14, 14, 14, 14]
    channels = [3, 16, 32, 64, 128, 256, 256, 512, 256, 512, 48]
    kernels = [3, 3, 3, 3, 3, 3, 3, 1, 3, 1]
    layers = []
    for i, kernel in enumerate(kernels):
        before = (channels[i], sizes[i], sizes[i])
        after = (channels[i + 1], sizes[i + 1], sizes[i + 1])
        step = sizes[i] // sizes[i + 1]
        layers.append(_conv(f"conv{i}", before, after, kernel, (step, step), (kernel // 2,) * 2))
    return NetworkShape("yolo_kp", tuple(layers), 32)

"""Every layer of an AnnGraph against torch's own functional operators."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from compiler.ir import (
    AnnGraph,
    AvgPool2d,
    BatchNorm,
    Conv2d,
    ConvGeometry,
    Dense,
    Flatten,
    InputAffine,
    Relu,
)
from compiler.ir.run_ann import run_ann, run_ann_layers, run_layer, to_module

RNG = np.random.default_rng(7)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def as_torch(array):
    return torch.from_numpy(np.asarray(array, dtype=np.float64))


@pytest.mark.parametrize(
    "geometry",
    [
        ConvGeometry(),
        ConvGeometry(stride=(2, 1), padding=((1, 1), (2, 2))),
        ConvGeometry(padding=((0, 1), (2, 0)), dilation=(1, 2)),
        ConvGeometry(stride=(1, 2), padding=((1, 0), (0, 1)), groups=2),
    ],
)
def test_conv(geometry):
    x = normal(3, 4, 5, 7)
    weight, bias = normal(6, 4 // geometry.groups, 3, 2), normal(6)
    (top, bottom), (left, right) = geometry.padding
    expected = F.conv2d(
        F.pad(as_torch(x), (left, right, top, bottom)),
        as_torch(weight),
        as_torch(bias),
        geometry.stride,
        0,
        geometry.dilation,
        geometry.groups,
    ).numpy()
    np.testing.assert_allclose(
        run_layer(Conv2d("c", weight, bias, geometry), x), expected, atol=1e-12
    )


def test_conv_with_a_bias_for_every_place():
    x, weight = normal(2, 1, 4, 6), normal(3, 1, 2, 3)
    bias = normal(3, 3, 4)
    plain = run_layer(Conv2d("c", weight, None), x)
    placed = run_layer(Conv2d("c", weight, bias), x)
    np.testing.assert_allclose(placed - plain, np.broadcast_to(bias, placed.shape), atol=1e-12)


@pytest.mark.parametrize("count_include_pad", [True, False])
@pytest.mark.parametrize("stride,padding", [((2, 2), 1), ((1, 3), 0)])
def test_average_pool(count_include_pad, stride, padding):
    x = normal(2, 3, 7, 9)
    pool = AvgPool2d(
        "p", (3, 2), ConvGeometry(stride=stride, padding=((padding,) * 2,) * 2), count_include_pad
    )
    expected = F.avg_pool2d(
        as_torch(x), (3, 2), stride, padding, count_include_pad=count_include_pad
    ).numpy()
    np.testing.assert_allclose(run_layer(pool, x), expected, atol=1e-12)


def test_average_pool_with_a_ragged_end_divides_by_the_pixels_present():
    x = normal(2, 1, 5, 5)
    pool = AvgPool2d("p", (2, 2), ConvGeometry((2, 2), ((0, 1), (0, 1))), False)
    expected = F.avg_pool2d(as_torch(x), 2, 2, ceil_mode=True).numpy()
    np.testing.assert_allclose(run_layer(pool, x), expected, atol=1e-12)


def test_dense_reads_channel_row_column_order():
    x, weight, bias = normal(2, 2, 3, 4), normal(5, 24), normal(5)
    expected = x.reshape(2, 24).astype(np.float64) @ weight.T + bias
    out = run_layer(Dense("d", weight, bias), x)
    assert out.shape == (2, 5, 1, 1)
    np.testing.assert_allclose(out[:, :, 0, 0], expected, atol=1e-12)
    np.testing.assert_array_equal(run_layer(Flatten("f"), x)[:, :, 0, 0], x.reshape(2, 24))


def test_elementwise_layers():
    x = normal(2, 3, 2, 2)
    a, b = normal(3), np.abs(normal(3)) + 0.5
    np.testing.assert_allclose(
        run_layer(InputAffine("i", a, b), x),
        (x - a[:, None, None].astype(float)) / b[:, None, None],
        atol=1e-12,
    )
    np.testing.assert_allclose(
        run_layer(BatchNorm("n", a, b), x),
        x * a[:, None, None].astype(float) + b[:, None, None],
        atol=1e-12,
    )
    np.testing.assert_array_equal(run_layer(Relu("r"), x), np.maximum(x, 0))
    np.testing.assert_array_equal(run_layer(Relu("r", 0.5), x), np.clip(x, 0, 0.5))


@pytest.fixture
def graph():
    return AnnGraph(
        "small",
        (1, 5, 7),
        (
            Conv2d("c", normal(2, 1, 3, 2), normal(2), ConvGeometry(padding=((1, 1), (0, 0)))),
            Relu("r"),
            Flatten("f"),
            Dense("d", normal(4, 60), None),
        ),
    )


def test_batches_and_layers_agree_with_the_whole(graph):
    x = RNG.random((11, 1, 5, 7), dtype=np.float32)
    logits = run_ann(graph, x)
    assert logits.shape == (11, 4) and logits.dtype == np.float32
    np.testing.assert_allclose(run_ann(graph, x, batch=3), logits, atol=1e-5)
    layers = list(run_ann_layers(graph, x, batch=4))
    assert [layer.name for layer, _ in layers] == ["c", "r", "f", "d"]
    assert [out.shape[1:] for _, out in layers] == list(graph.shapes)
    np.testing.assert_allclose(layers[-1][1].reshape(11, 4), logits, atol=1e-5)


def test_gradients_flow_to_the_images(graph):
    x = torch.rand(2, 1, 5, 7, requires_grad=True)
    module = to_module(graph)
    module(x).sum().backward()
    assert x.grad is not None and float(x.grad.abs().sum()) > 0
    assert list(module.parameters()) == []
    outputs = [tuple(out.shape) for _, out in module.layer_outputs(x)]
    assert outputs[-1] == (2, 4, 1, 1)

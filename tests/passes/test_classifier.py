"""What no compile is begun with, and heads of convolutions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.errors import ModelError
from compiler.ir import AnnGraph, Conv2d, ConvGeometry, Dense, Flatten, Relu
from compiler.ir.geometry import frozen
from compiler.ir.run_ann import run_ann
from compiler.passes import check_classifier
from compiler.passes.last_conv_to_dense import last_conv_to_dense


def network(random, classes=3, hidden=True, factor=1.0):
    def dense(name, out, inputs):
        layer = random.dense(name, out, inputs)
        return Dense(name, frozen(layer.weight * factor, np.float32), layer.bias)

    before = [dense("h", 7, 18), Relu("r")] if hidden else []
    last = dense("last", classes, 7 if hidden else 18)
    return AnnGraph("net", (2, 3, 3), (Flatten("f"), *before, last))


def test_an_ordinary_network_passes(random):
    check_classifier(network(random))


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"classes": 1}, "last: found a single output"),
        ({"hidden": False}, "net: found one layer alone"),
        ({"classes": 1, "hidden": False}, "(?s)a single output.*one layer alone"),
        ({"factor": 0.0}, "last: found weights that are all 0"),
        ({"factor": 1e25}, "last: found outputs beyond the range of float32"),
    ],
)
def test_what_would_be_compiled_for_nothing(random, how, said):
    with pytest.raises(ModelError, match=said):
        check_classifier(network(random, **how))


def test_a_map_of_answers_is_no_answer(random):
    layers = (random.conv("a", 4, 2, (2, 2)), Relu("r"), random.conv("last", 3, 4, (1, 1)))
    with pytest.raises(ModelError, match="last: found an output of 3 x 2 x 2"):
        check_classifier(AnnGraph("net", (2, 3, 3), layers))


@settings(max_examples=60, deadline=None)
@given(
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(*[st.tuples(st.integers(0, 1), st.integers(0, 2))] * 2),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    groups=st.sampled_from([1, 2]),
    seed=st.integers(0, 2**16),
)
def test_a_last_convolution_is_the_dense_layer_that_replaces_it(
    kernel, padding, dilation, stride, groups, seed
):
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    size = [max(1, r - sum(pair)) for r, pair in zip(reach, padding, strict=True)]
    generator = np.random.default_rng(seed)
    weight = frozen(generator.normal(size=(4, 2 // groups, *kernel)), np.float32)
    geometry = ConvGeometry(stride, padding, dilation, groups)
    conv = Conv2d("last", weight, frozen(generator.normal(size=4), np.float32), geometry)
    graph = AnnGraph("net", (2, *size), (conv,))
    found = last_conv_to_dense(graph)
    one_place = graph.shapes[-1][1:] == (1, 1)
    assert isinstance(found.layers[-1], Dense) == one_place
    images = generator.normal(size=(3, 2, *size))
    expected = run_ann(graph, images, dtype="float64")
    np.testing.assert_allclose(run_ann(found, images, dtype="float64"), expected, atol=1e-6)

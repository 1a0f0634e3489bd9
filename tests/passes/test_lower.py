"""All passes together: random networks keep their output, and misfits are listed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.errors import ModelError
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
from compiler.ir.geometry import frozen
from compiler.ir.probe import probe_images
from compiler.ir.run_ann import run_ann
from compiler.passes import POOLS_AS_NEURONS, lower
from compiler.passes.fold_pool import fold_pool_back, fold_pool_forward

few = st.integers(0, 1)


@st.composite
def geometries(draw, groups=1):
    pads = draw(st.tuples(*[st.integers(0, 2)] * 4))
    strides, dilations = st.tuples(*[st.integers(1, 2)] * 2), st.tuples(*[st.integers(1, 2)] * 2)
    padding = (pads[:2], pads[2:])
    return ConvGeometry(draw(strides), padding, draw(dilations), groups)


@st.composite
def pools(draw, name):
    kernel = draw(st.tuples(*[st.integers(1, 3)] * 2))
    stride = draw(st.tuples(*[st.integers(1, 3)] * 2))
    pads = draw(st.tuples(*[st.integers(0, 1)] * 2))
    return AvgPool2d(name, kernel, ConvGeometry(stride, tuple((one, one) for one in pads)))


@st.composite
def networks(draw):
    """Draw a network that must come through: blocks of everything that folds."""
    generator = np.random.default_rng(draw(st.integers(0, 2**16)))

    def normal(*shape):
        return frozen(generator.normal(size=shape), np.float32)

    def norm(name, channels):
        return [BatchNorm(name, normal(channels), normal(channels))] * draw(few)

    channels = draw(st.sampled_from([1, 2]))
    graph = AnnGraph("net", (channels, draw(st.integers(9, 12)), draw(st.integers(8, 10))), ())
    if draw(few):
        graph = graph.with_layers((InputAffine("i", normal(channels), abs(normal(channels)) + 1),))
    for block in range(draw(st.integers(1, 2))):
        groups = draw(st.sampled_from([1, channels]))
        out = 2 * channels
        kernel = draw(st.tuples(*[st.integers(1, 3)] * 2))
        bias = normal(out) if draw(few) else None
        weight = normal(out, channels // groups, *kernel)
        layers = [
            *norm(f"a{block}", channels),
            Conv2d(f"c{block}", weight, bias, draw(geometries(groups))),
            *norm(f"b{block}", out),
            Relu(f"r{block}"),
            *[draw(pools(f"p{block}"))] * draw(few),
            *norm(f"d{block}", out),
        ]
        try:
            graph = graph.with_layers(graph.layers + tuple(layers))
        except ModelError:
            break  # the image has become too small for another block
        channels = out
    features = int(np.prod(graph.shapes[-1])) if graph.layers else int(np.prod(graph.input_shape))
    head = [Flatten("f"), Dense("x", normal(5, features) / features, None), *norm("n", 5)]
    return graph.with_layers(graph.layers + tuple(head))


@given(networks())
@settings(max_examples=60, deadline=None)
def test_lowering_preserves_the_output(graph):
    result = lower(graph)
    assert {type(layer) for layer in result.graph.layers} <= {Conv2d, Dense, Relu, Flatten}
    convs = [layer for layer in result.graph.layers if isinstance(layer, Conv2d)]
    assert all(conv.geometry.symmetric for conv in convs)
    images = np.random.default_rng(5).random((4, *graph.input_shape))
    expected = run_ann(graph, images, dtype="float64")
    found = run_ann(result.graph, images, dtype="float64")
    scale = max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(found / scale, expected / scale, rtol=0, atol=1e-5)
    largest = np.abs(run_ann(graph, probe_images(graph.input_shape, 0), dtype="float64")).max()
    assert result.largest_difference * largest <= 1e-5 * max(1.0, largest)


@given(pools("p"), geometries(), st.integers(0, 2**16), st.booleans())
@settings(max_examples=150, deadline=None)
def test_folding_a_pool_is_exact_or_left_alone(pool, geometry, seed, back):
    generator = np.random.default_rng(seed)
    weight = frozen(generator.normal(size=(3, 2, 2, 3)), np.float32)
    conv = Conv2d("c", weight, frozen([1, 2, 3], np.float32), geometry)
    layers = (conv, pool) if back else (pool, conv)
    try:
        graph = AnnGraph("net", (2, 9, 8), layers)
    except ModelError:
        return  # nothing is left of the image
    folded = (fold_pool_back if back else fold_pool_forward)(graph)
    images = generator.normal(size=(2, 2, 9, 8))
    expected = run_ann(graph, images, dtype="float64")
    assert folded.shapes[-1] == graph.shapes[-1]
    np.testing.assert_allclose(run_ann(folded, images, dtype="float64"), expected, atol=1e-5)
    unpadded = pool.geometry.padding == ((0, 0), (0, 0))
    plain = geometry.padding == ((0, 0), (0, 0))
    assert (len(folded.layers) == 1) or not (unpadded if back else plain)


def test_every_change_is_checked_and_a_wrong_pass_is_caught(random):
    graph = AnnGraph(
        "net", (2, 6, 6), (random.conv("c", 3, 2), Relu("r"), random.dense("d", 4, 48))
    )

    def forget_bias(one):
        conv, *rest = one.layers
        return one.with_layers((Conv2d(conv.name, conv.weight, None), *rest))

    with pytest.raises(ModelError, match=r"forget_bias.*relative difference"):
        lower(graph, passes=(forget_bias,))

    def nan(one):
        conv, *rest = one.layers
        bias = frozen([np.nan] * 3, np.float32)
        return one.with_layers((Conv2d(conv.name, conv.weight, bias), *rest))

    with pytest.raises(ModelError, match="relative difference of nan"):
        lower(graph, passes=(nan,))
    normed = graph.with_layers((*graph.layers, random.norm("n", 4)))
    checks = lower(normed).checks
    assert [check.name for check in checks if check.changed] == ["fold_batch_norm"]


def test_a_mistake_at_the_border_alone_is_caught(random):
    padded = ConvGeometry(padding=((1, 1), (1, 1)))
    conv = random.conv("c", 3, 2, geometry=padded)
    graph = AnnGraph("net", (2, 6, 6), (conv, Relu("r"), random.dense("d", 4, 108)))

    def wrong_corner(one):
        bias = np.broadcast_to(conv.bias[:, None, None], (3, 6, 6)).copy()
        bias[:, -1, -1] += 1
        first = Conv2d("c", conv.weight, frozen(bias, np.float32), padded)
        return one.with_layers((first, *one.layers[1:]))

    with pytest.raises(ModelError, match="wrong_corner"):
        lower(graph, passes=(wrong_corner,))


def test_pools_that_do_not_fold_and_clipped_relus_are_noted(random):
    graph = AnnGraph(
        "net",
        (2, 9, 7),
        (
            random.conv("c", 3, 2, geometry=ConvGeometry(padding=((1, 1), (1, 1)))),
            Relu("r", 6.0),
            random.pool("p", 2),
            random.conv("e", 2, 3, geometry=ConvGeometry(padding=((1, 1), (1, 1)))),
            Relu("s"),
            random.dense("d", 4, 24),
        ),
    )
    notes = lower(graph).notes
    assert len(notes) == 2 and notes[0].startswith("p: ") and "clipped at 6" in notes[1]


def test_pools_as_neurons_on_request(random):
    graph = AnnGraph(
        "net",
        (2, 8, 8),
        (
            random.conv("c", 3, 2),
            Relu("r"),
            random.pool("p", 2),
            Flatten("f"),
            random.dense("d", 4, 27),
        ),
    )
    result = lower(graph, passes=POOLS_AS_NEURONS)
    assert [layer.name for layer in result.graph.layers] == ["c", "r", "p", "p.relu", "f", "d"]
    assert len(lower(graph).graph.layers) == 4


def test_all_misfits_are_listed(random):
    graph = AnnGraph(
        "net",
        (2, 9, 9),
        (
            Relu("first", 0.5),
            random.conv("c", 3, 2),
            random.conv("e", 3, 3),
            random.pool("p", 2, padding=((1, 1), (1, 1)), count_include_pad=False),
            random.conv("g", 3, 3, (1, 1)),
            Relu("last"),
        ),
    )
    with pytest.raises(ModelError) as caught:
        lower(graph)
    found = {problem.layer: problem.found for problem in caught.value.problems}
    assert set(found) == {"first", "e", "p", "last"}
    assert "divisors" in found["p"] and "cannot be merged" in found["e"]
    assert all(problem.remedy for problem in caught.value.problems)


def test_more_groups_than_lava_holds_are_joined_and_noted(random):
    depthwise = ConvGeometry(padding=((1, 2), (1, 1)), groups=128)
    graph = AnnGraph(
        "net",
        (2, 4, 4),
        (
            random.conv("c", 128, 2, (1, 1)),
            Relu("r"),
            random.conv("d", 128, 128, geometry=depthwise),
            Relu("s"),
            random.conv("e", 3, 128, (1, 1)),
            Relu("t"),
            random.dense("f", 4, 60),
        ),
    )
    lowered = lower(graph)
    assert [layer.geometry.groups for layer in lowered.graph.layers[::2][:3]] == [1, 64, 1]
    assert [check.name for check in lowered.checks if check.changed][-1] == "join_groups"
    (note,) = lowered.notes
    assert "128 groups became 64" in note and "2 times the weights" in note


@pytest.mark.parametrize(
    ("kernel", "geometry", "found"),
    [
        ((1, 128), ConvGeometry(), "kernel 128"),
        ((1, 1), ConvGeometry(stride=(1, 128)), "stride 128"),
        ((1, 2), ConvGeometry(padding=((0, 0), (128, 128))), "padding 128"),
        ((1, 2), ConvGeometry(dilation=(1, 128)), "dilation 128"),
    ],
)
def test_what_lava_cannot_hold_is_told_before_any_long_work(random, kernel, geometry, found):
    conv = random.conv("c", 1, 1, kernel, geometry)
    graph = AnnGraph("net", (1, 1, 130), (conv, Relu("r")))
    features = int(np.prod(graph.shapes[-1]))
    with pytest.raises(ModelError) as caught:
        lower(graph.with_layers((*graph.layers, random.dense("d", 4, features))))
    (problem,) = caught.value.problems
    assert (problem.layer, problem.found) == ("c", found) and "127" in problem.allowed


def test_probe_images_are_pixels_of_every_kind():
    images = probe_images((3, 5, 7))
    assert images.shape[1:] == (3, 5, 7) and images.min() == 0 and images.max() == 1
    assert any(np.all(image[:, 1:-1, 1:-1] == 0) and image[:, 0].all() for image in images)
    np.testing.assert_array_equal(images, probe_images((3, 5, 7)))
    assert probe_images((4, 1, 1)).shape[1:] == (4, 1, 1)

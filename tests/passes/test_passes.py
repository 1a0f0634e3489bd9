"""Every pass on its own: the graph gets the form promised and computes the same."""

import numpy as np
import pytest

from compiler.chip.fields import LAVA_CONV_LIMIT
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
from compiler.ir.run_ann import run_ann_layers
from compiler.passes import algebra
from compiler.passes.affine_to_conv import affine_to_conv
from compiler.passes.bounds import largest_activation
from compiler.passes.drop_identity import drop_identity
from compiler.passes.fold_affine import fold_affine
from compiler.passes.fold_batch_norm import fold_batch_norm
from compiler.passes.fold_pool import fold_pool_back, fold_pool_forward
from compiler.passes.join_groups import join_groups, notes_on_joining
from compiler.passes.merge_linear import merge_linear
from compiler.passes.place_flatten import place_flatten
from compiler.passes.pool_to_conv import pool_to_conv
from compiler.passes.symmetric_padding import symmetric_padding

SHAPE = (2, 8, 6)
ONE = ((1, 1), (1, 1))


def kinds(graph):
    return [type(layer).__name__ for layer in graph.layers]


def graph_of(*layers, shape=SHAPE):
    return AnnGraph("net", shape, layers)


class TestPlaceFlatten:
    def test_moves_behind_relu_and_batch_norm(self, random, assert_same):
        norm = BatchNorm(
            "n", frozen(np.repeat([2.0, 3.0], 48), np.float32), frozen(np.ones(96), np.float32)
        )
        graph = graph_of(Flatten("f"), Relu("r"), norm, Flatten("g"), random.dense("d", 4, 96))
        moved = place_flatten(graph)
        assert kinds(moved) == ["Relu", "BatchNorm", "Flatten", "Dense"]
        assert moved.layers[1].scale.shape == (2,)
        assert_same(graph, moved)

    def test_stays_before_a_batch_norm_of_every_place(self, random, assert_same):
        graph = graph_of(Flatten("f"), random.norm("n", 96), random.dense("d", 4, 96))
        moved = place_flatten(graph)
        assert kinds(moved) == ["Flatten", "BatchNorm", "Dense"]
        assert_same(graph, moved)

    def test_drops_a_flatten_of_a_vector_and_at_the_end(self, random):
        graph = graph_of(random.dense("d", 4, 96), Flatten("f"), random.conv("c", 2, 4, (1, 1)))
        assert kinds(place_flatten(graph)) == ["Dense", "Conv2d"]
        assert kinds(place_flatten(graph_of(random.conv("c", 2, 2), Flatten("f")))) == ["Conv2d"]


class TestDropIdentity:
    def test_drops_what_does_nothing_and_no_more(self, random, assert_same):
        ones, zeros = frozen(np.ones(2), np.float32), frozen(np.zeros(2), np.float32)
        graph = graph_of(
            InputAffine("i", zeros, ones),
            BatchNorm("n", ones, zeros),
            random.pool("p", 1),
            random.conv("c", 2, 2),
            Relu("r", 3.0),
            Relu("s", 0.5),
            BatchNorm("m", ones, ones),
            random.pool("q", 1, stride=(2, 2)),
        )
        dropped = drop_identity(graph)
        assert [layer.name for layer in dropped.layers] == ["c", "r", "m", "q"]
        assert dropped.layers[1].maximum == 0.5
        assert_same(graph, dropped)


class TestFoldBatchNorm:
    @pytest.mark.parametrize("bias", [True, False])
    def test_into_conv_and_dense(self, random, assert_same, bias):
        graph = graph_of(
            random.conv("c", 4, 2, geometry=ConvGeometry(padding=ONE, groups=2), bias=bias),
            random.norm("n", 4),
            random.norm("o", 4),
            Relu("r"),
            random.dense("d", 5, 192, bias=bias),
            random.norm("m", 5),
        )
        folded = fold_batch_norm(graph)
        assert kinds(folded) == ["Conv2d", "Relu", "Dense"]
        assert_same(graph, folded)

    def test_into_a_conv_with_a_bias_for_every_place(self, random, assert_same):
        conv = Conv2d("c", random.normal(3, 2, 3, 3), random.normal(3, 6, 4))
        graph = graph_of(conv, random.norm("n", 3))
        assert_same(graph, fold_batch_norm(graph))

    def test_through_a_pool_of_real_pixels_only(self, random, assert_same):
        conv = random.conv("c", 3, 2)
        inside = graph_of(conv, random.pool("p", 2), random.norm("n", 3))
        assert kinds(fold_batch_norm(inside)) == ["Conv2d", "AvgPool2d"]
        assert_same(inside, fold_batch_norm(inside))
        uncounted = random.pool("p", 2, padding=ONE, count_include_pad=False)
        ragged = graph_of(conv, uncounted, random.norm("n", 3))
        assert kinds(fold_batch_norm(ragged)) == ["Conv2d", "AvgPool2d"]
        assert_same(ragged, fold_batch_norm(ragged))
        padded = graph_of(conv, random.pool("p", 2, padding=ONE), random.norm("n", 3))
        assert kinds(fold_batch_norm(padded)) == ["Conv2d", "AvgPool2d", "BatchNorm"]

    def test_not_through_a_relu(self, random):
        graph = graph_of(random.conv("c", 3, 2), Relu("r"), random.norm("n", 3))
        assert fold_batch_norm(graph).layers == graph.layers


class TestFoldPool:
    @pytest.mark.parametrize(
        "conv,pool",
        [
            ({}, {}),
            ({"stride": (2, 1), "padding": ((1, 0), (2, 1))}, {"stride": (1, 2)}),
            ({"dilation": (2, 1), "padding": ONE, "groups": 2}, {}),
            ({"padding": ONE}, {"dilation": (2, 1), "stride": (1, 1)}),
        ],
    )
    def test_back_into_the_conv_before(self, random, assert_same, conv, pool):
        graph = graph_of(
            random.conv("c", 4, 2, (3, 2), ConvGeometry(**conv)), random.pool("p", 2, **pool)
        )
        folded = fold_pool_back(graph)
        assert kinds(folded) == ["Conv2d"] and folded.shapes[-1] == graph.shapes[-1]
        assert_same(graph, folded)

    def test_back_with_a_bias_for_every_place(self, random, assert_same):
        conv = Conv2d("c", random.normal(3, 2, 3, 3), random.normal(3, 6, 4))
        graph = graph_of(conv, random.pool("p", 2))
        assert_same(graph, fold_pool_back(graph))

    def test_a_padded_pool_stays(self, random):
        graph = graph_of(random.conv("c", 3, 2), random.pool("p", 2, padding=ONE))
        assert fold_pool_back(graph).layers == graph.layers

    @pytest.mark.parametrize(
        "pool,conv",
        [
            ({}, {}),
            ({}, {"padding": ONE}),
            ({"stride": (2, 3)}, {"stride": (2, 1)}),
            ({}, {"padding": ((0, 1), (1, 0)), "dilation": (2, 1), "stride": (1, 2)}),
            ({"stride": (1, 1)}, {"groups": 2}),
            ({"padding": ONE}, {"padding": ONE}),
        ],
    )
    def test_forward_into_the_conv_behind(self, random, assert_same, pool, conv):
        graph = graph_of(
            Relu("r"),
            random.pool("p", 2, **pool),
            random.conv("c", 4, 2, (2, 2), ConvGeometry(**conv)),
        )
        folded = fold_pool_forward(graph)
        assert kinds(folded) == ["Relu", "Conv2d"] and folded.shapes[-1] == graph.shapes[-1]
        assert_same(graph, folded)

    @pytest.mark.parametrize(
        "shape,pool,padding",
        [
            ((2, 9, 7), {}, ONE),  # a row is left over, which the padding would let in
            ((2, 8, 6), {"stride": (1, 1)}, ONE),  # windows overlap, so that padding is not zero
            ((2, 8, 6), {"padding": ONE, "count_include_pad": False}, ((0, 0), (0, 0))),
        ],
    )
    def test_forward_refused_where_it_is_not_exact(self, random, shape, pool, padding):
        graph = graph_of(
            random.pool("p", 2, **pool),
            random.conv("c", 3, 2, (3, 3), ConvGeometry(padding=padding)),
            shape=shape,
        )
        assert fold_pool_forward(graph).layers == graph.layers

    def test_a_row_left_over_does_no_harm_without_padding(self, random, assert_same):
        graph = graph_of(random.pool("p", 2), random.conv("c", 3, 2), shape=(2, 9, 7))
        folded = fold_pool_forward(graph)
        assert kinds(folded) == ["Conv2d"]
        assert_same(graph, folded)

    @pytest.mark.parametrize("how", [{}, {"padding": ONE, "count_include_pad": False}])
    def test_forward_into_dense_whatever_the_divisor(self, random, assert_same, how):
        pool = random.pool("p", 2, **how)
        features = int(np.prod(graph_of(pool).shapes[-1]))
        graph = graph_of(pool, Flatten("f"), random.dense("d", 3, features))
        folded = fold_pool_forward(graph)
        assert kinds(folded) == ["Flatten", "Dense"]
        assert_same(graph, folded)
        straight = graph_of(pool, random.dense("d", 3, features, bias=False))
        assert fold_pool_forward(straight).layers[-1].bias is None
        assert_same(straight, fold_pool_forward(straight))

    def test_two_pools_in_a_row(self, random, assert_same):
        graph = graph_of(random.pool("p", 2), random.pool("q", 2), random.conv("c", 3, 2, (1, 1)))
        folded = fold_pool_forward(graph)
        assert kinds(folded) == ["Conv2d"]
        assert_same(graph, folded)

    def test_a_global_pool_at_the_end_becomes_the_last_layer(self, random, assert_same):
        pool = AvgPool2d("p", (8, 6), ConvGeometry((8, 6)))
        graph = graph_of(Relu("r"), pool)
        folded = fold_pool_forward(graph)
        assert kinds(folded) == ["Relu", "Flatten", "Dense"]
        assert_same(graph, folded)


class TestPoolToConv:
    def test_neurons_of_its_own_behind_a_relu(self, random, assert_same):
        graph = graph_of(Relu("r"), random.pool("p", 2, padding=ONE), random.conv("c", 3, 2))
        converted = pool_to_conv(graph)
        assert kinds(converted) == ["Relu", "Conv2d", "Relu", "Conv2d"]
        assert_same(graph, converted)

    def test_no_relu_where_values_may_be_negative(self, random, assert_same):
        graph = graph_of(random.conv("c", 3, 2), random.pool("p", 2, padding=ONE))
        assert kinds(pool_to_conv(graph)) == ["Conv2d", "Conv2d"]
        assert_same(graph, pool_to_conv(graph))

    @pytest.mark.parametrize(
        "how", [{"stride": (2, 2), "padding": ONE}, {"stride": (1, 2), "padding": ((0, 1), (0, 1))}]
    )
    def test_windows_with_other_divisors_have_channels_of_their_own(self, random, assert_same, how):
        graph = graph_of(
            random.conv("a", 4, 2, geometry=ConvGeometry(padding=ONE)),
            Relu("r"),
            random.pool("p", 2, count_include_pad=False, **how),
            random.conv("c", 6, 4, geometry=ConvGeometry(groups=2, padding=ONE)),
        )
        converted = pool_to_conv(graph)
        assert kinds(converted) == ["Conv2d", "Relu", "Conv2d", "Relu", "Conv2d"]
        pooled = converted.layers[2]
        divisors = pooled.weight.shape[0] // 4
        assert divisors == len(np.unique(pooled.weight)) > 1
        assert_same(graph, converted)
        outputs = [output for _, output in run_ann_layers(converted, np.ones((1, *SHAPE)))]
        active = (outputs[3].reshape(4, divisors, -1) > 0).sum(1)
        assert active.max() == 1  # at every place one divisor alone

    @pytest.mark.parametrize("channels", [127, 128, 131])
    @pytest.mark.parametrize("count", [True, False])
    def test_no_more_groups_than_lava_holds_once_they_are_joined(
        self, random, assert_same, channels, count
    ):
        graph = graph_of(
            random.conv("a", channels, 2),
            Relu("r"),
            random.pool("p", 2, padding=ONE, count_include_pad=count),
            random.conv("c", 3, channels),
        )
        converted = join_groups(pool_to_conv(graph))
        groups = converted.layers[2].geometry.groups
        assert groups == {127: 127, 128: 64, 131: 1}[channels] and groups <= LAVA_CONV_LIMIT
        assert_same(graph, converted)

    def test_other_divisors_stay_where_values_may_be_negative(self, random):
        pool = random.pool("p", 2, padding=ONE, count_include_pad=False)
        graph = graph_of(random.conv("c", 3, 2), pool, random.conv("d", 3, 3))
        assert pool_to_conv(graph).layers == graph.layers


class TestJoinGroups:
    @pytest.mark.parametrize(
        ("groups", "joined"), [(2, 2), (127, 127), (128, 64), (131, 1), (254, 127), (1000, 125)]
    )
    def test_as_few_as_it_takes(self, random, groups, joined):
        shape = (groups, 4, 3)
        conv = random.conv(
            "c", 2 * groups, groups, (3, 2), ConvGeometry(padding=ONE, groups=groups)
        )
        graph = graph_of(conv, Relu("r"), shape=shape)
        found = join_groups(graph)
        assert found.layers[0].geometry.groups == joined <= LAVA_CONV_LIMIT
        if groups == joined:
            assert found.layers[0] is conv and not notes_on_joining(graph, found)
            return
        assert found.layers[0].weight.size == groups // joined * conv.weight.size
        (note,) = notes_on_joining(graph, found)
        assert note.startswith(f"c: {groups} groups became {joined},")
        assert note.endswith(f"stores {groups // joined} times the weights")

    @pytest.mark.parametrize("seed", range(4))
    def test_every_sum_is_the_same_to_the_last_bit(self, random_from, seed):
        """On spikes, with whole weights; groups of several channels, a bias at every place."""
        generator = np.random.default_rng(seed)
        groups, inputs, outputs = 130 * (1 + seed % 2), 1 + seed, 4 - seed
        geometry = ConvGeometry((2, 1), ((1, 1), (2, 2)), (1, 2), groups)
        weight = frozen(generator.integers(-256, 255, (groups * outputs, inputs, 2, 3)), np.float32)
        graph = graph_of(Conv2d("c", weight, None, geometry), shape=(groups * inputs, 5, 4))
        bias = random_from(seed).normal(*graph.shapes[-1])
        graph = graph_of(Conv2d("c", weight, bias, geometry), shape=graph.input_shape)
        spikes = generator.integers(0, 2, (3, *graph.input_shape))
        expected, found = (
            next(iter(run_ann_layers(one, spikes, dtype="float64")))[1]
            for one in (graph, join_groups(graph))
        )
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("seed", range(3))
def test_no_image_exceeds_the_bound(random_from, seed):
    random = random_from(seed)
    graph = graph_of(
        InputAffine("i", frozen([0.4, 0.6], np.float32), frozen([0.2, 0.3], np.float32)),
        random.conv("a", 4, 2, geometry=ConvGeometry(padding=ONE)),
        random.norm("n", 4),
        Relu("r", 2.0 if seed else None),
        random.pool("p", 2),
        random.conv("c", 3, 4),
    )
    corners = np.random.default_rng(seed).integers(0, 2, (256, *SHAPE))
    for place, (_, output) in enumerate(run_ann_layers(graph, corners, dtype="float64")):
        assert output.max() <= largest_activation(graph, place) * (1 + 1e-9)


class TestFoldAffine:
    @pytest.mark.parametrize(
        "geometry",
        [
            ConvGeometry(padding=((1, 2), (0, 1)), stride=(2, 1)),
            ConvGeometry(padding=ONE, dilation=(2, 1), groups=2),
        ],
    )
    def test_the_padded_border_gets_a_bias_of_its_own(self, random, assert_same, geometry):
        graph = graph_of(
            InputAffine("i", frozen([0.4, 0.6], np.float32), frozen([0.2, 0.3], np.float32)),
            random.conv("c", 4, 2, geometry=geometry),
        )
        folded = fold_affine(graph)
        assert kinds(folded) == ["Conv2d"]
        assert folded.layers[0].bias.shape == folded.shapes[0]
        assert_same(graph, folded)

    def test_one_bias_a_channel_without_padding_or_mean(self, random, assert_same):
        conv = random.conv("c", 4, 2)
        graph = graph_of(random.norm("n", 2), conv)
        assert fold_affine(graph).layers[0].bias.shape == (4,)
        assert_same(graph, fold_affine(graph))
        no_shift = BatchNorm("n", random.normal(2), frozen([0, 0], np.float32))
        padded = random.conv("c", 4, 2, geometry=ConvGeometry(padding=ONE))
        scaled = fold_affine(graph_of(no_shift, padded))
        assert scaled.layers[0].bias.shape == (4,)

    def test_into_dense_with_and_without_flatten(self, random, assert_same):
        for flatten in ((), (Flatten("f"),)):
            graph = graph_of(random.norm("n", 2), *flatten, random.dense("d", 3, 96))
            assert kinds(fold_affine(graph)) == [*(["Flatten"] if flatten else []), "Dense"]
            assert_same(graph, fold_affine(graph))

    def test_two_in_a_row(self, random, assert_same):
        mean_std = frozen([0.5, 0.25], np.float32)
        conv = random.conv("c", 3, 2, geometry=ConvGeometry(padding=ONE))
        graph = graph_of(InputAffine("i", mean_std, mean_std), random.norm("n", 2), conv)
        assert kinds(fold_affine(graph)) == ["Conv2d"]
        assert_same(graph, fold_affine(graph))


class TestIntoDense:
    """A linear layer and the dense layer behind it as one, a block of rows at a time."""

    def folded(self, random, monkeypatch, most):
        blocks = []

        def backwards(module, shape, rows):
            blocks.append(len(rows))
            return original(module, shape, rows)

        original = algebra._backwards
        monkeypatch.setattr(algebra, "_ROWS_AT_A_TIME", most)
        with monkeypatch.context() as patch:
            patch.setattr(algebra, "_backwards", backwards)
            conv = random.conv("c", 4, 2, geometry=ConvGeometry(padding=ONE, groups=2))
            return algebra.into_dense(conv, SHAPE, random.dense("d", 150, 192)), blocks

    def test_blocks_give_the_bits_of_the_whole(self, random_from, monkeypatch):
        usual = algebra._ROWS_AT_A_TIME
        found, blocks = self.folded(random_from(3), monkeypatch, usual)
        whole, one = self.folded(random_from(3), monkeypatch, 150)
        assert blocks == [64, 64, 22] and one == [150]
        np.testing.assert_array_equal(found.weight, whole.weight)
        np.testing.assert_array_equal(found.bias, whole.bias)
        assert found.weight.dtype == np.float32 and not found.weight.flags.writeable


class TestTheRest:
    def test_affine_to_conv(self, random, assert_same):
        graph = graph_of(random.norm("n", 2), Relu("r"), random.dense("d", 3, 96))
        assert kinds(affine_to_conv(graph)) == ["Conv2d", "Relu", "Dense"]
        assert_same(graph, affine_to_conv(graph))

    def test_merge_dense_layers_and_conv_into_dense(self, random, assert_same):
        graph = graph_of(
            random.conv("c", 3, 2, geometry=ConvGeometry(padding=ONE)),
            Flatten("f"),
            random.dense("d", 5, 144),
            random.dense("e", 4, 5, bias=False),
        )
        merged = merge_linear(graph)
        assert kinds(merged) == ["Flatten", "Dense"]
        assert_same(graph, merged)

    @pytest.mark.parametrize("groups", [1, 2])
    def test_merge_a_pointwise_convolution(self, random, assert_same, groups):
        depthwise = ConvGeometry(padding=ONE, groups=2)
        pointwise = random.conv("q", 6, 4, (1, 1), ConvGeometry(groups=groups))
        for bias in (random.normal(4), random.normal(4, 8, 6), None):
            first = Conv2d("c", random.normal(4, 1, 3, 3), bias, depthwise)
            graph = graph_of(first, pointwise)
            merged = merge_linear(graph)
            assert kinds(merged) == ["Conv2d"]
            assert_same(graph, merged)

    def test_other_convolutions_are_not_merged(self, random):
        graph = graph_of(random.conv("c", 3, 2), random.conv("d", 3, 3))
        assert merge_linear(graph).layers == graph.layers

    @pytest.mark.parametrize("stride", [(1, 1), (2, 2), (3, 1)])
    @pytest.mark.parametrize("padding", [((0, 1), (1, 2)), ((1, 0), (3, 0)), ((0, 3), (0, 1))])
    @pytest.mark.parametrize("dilation", [(1, 1), (2, 1), (2, 2)])
    def test_symmetric_padding(self, random, assert_same, stride, padding, dilation):
        geometry = ConvGeometry(stride, padding, dilation)
        graph = graph_of(random.conv("c", 3, 2, (3, 2), geometry))
        even = symmetric_padding(graph)
        assert even.layers[0].geometry.symmetric
        assert even.shapes[-1] == graph.shapes[-1]
        assert_same(graph, even)

    def test_symmetric_padding_adds_as_little_as_it_can(self, random):
        same = ConvGeometry((2, 2), ((0, 1), (0, 1)))
        even = symmetric_padding(graph_of(random.conv("c", 3, 2, (3, 3), same)))
        assert even.layers[0].weight.shape[2:] == (4, 4)
        assert even.layers[0].geometry.padding == ONE
        unused = ConvGeometry((2, 2), ((0, 1), (0, 1)))
        even = symmetric_padding(graph_of(random.conv("c", 3, 2, (2, 2), unused)))
        assert even.layers[0].weight.shape[2:] == (2, 2)
        dilated = ConvGeometry((1, 1), ((0, 1), (1, 1)), (2, 2))
        even = symmetric_padding(graph_of(random.conv("c", 3, 2, (2, 2), dilated)))
        assert even.layers[0].weight.shape[2:] == (4, 2)
        assert even.layers[0].geometry == ConvGeometry((1, 1), ONE, (1, 2))

    def test_dense_of_the_wrong_size_is_still_refused(self, random):
        from compiler.errors import ModelError

        with pytest.raises(ModelError, match="96 input features"):
            graph_of(Flatten("f"), Dense("d", random.normal(3, 95), None))

"""Tiles cover a layer once; memory, axons and messages against counting them one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.ir.geometry import ConvGeometry
from compiler.resources import CHIPS, estimate, message_traffic
from compiler.resources.memory import (
    Tile,
    conv_words_loihi1,
    dense_words_loihi1,
    index_bits,
    kernel_crops,
    list_words,
    read_range,
)
from compiler.resources.partition import (
    CoreUse,
    Grid,
    cut,
    input_axons,
    output_axons,
    partition,
    shared_places,
)
from compiler.resources.shapes import LayerShape, NetworkShape


@st.composite
def conv_layers(draw):
    kernel = (draw(st.integers(1, 4)), draw(st.integers(1, 3)))
    geometry = ConvGeometry(
        (draw(st.integers(1, 3)), draw(st.integers(1, 2))),
        ((draw(st.integers(0, 2)), draw(st.integers(0, 2))), (draw(st.integers(0, 2)),) * 2),
        (draw(st.integers(1, 2)), draw(st.integers(1, 2))),
        draw(st.sampled_from([1, 2])),
    )
    size = (draw(st.integers(8, 13)), draw(st.integers(8, 13)))
    out = geometry.output_size(size, kernel)
    channels, outputs = 2 * draw(st.integers(1, 3)), 2 * draw(st.integers(1, 5))
    return LayerShape("conv", "conv", (channels, *size), (outputs, *out), kernel, geometry)


def reached(layer: LayerShape) -> np.ndarray:
    """Boolean (rows of input, columns of input, rows of output, columns of output)."""
    (_, height, width), (_, rows, columns) = layer.input_shape, layer.shape
    found = np.zeros((height, width, rows, columns), bool)
    geometry = layer.geometry
    for row, column, k, m in np.ndindex(rows, columns, *layer.kernel):
        y = row * geometry.stride[0] + k * geometry.dilation[0] - geometry.padding[0][0]
        x = column * geometry.stride[1] + m * geometry.dilation[1] - geometry.padding[1][0]
        if 0 <= y < height and 0 <= x < width:
            found[y, x, row, column] = True
    return found


@settings(max_examples=40, deadline=None)
@given(conv_layers(), st.integers(1, 12), st.integers(12, 200), st.booleans())
def test_tiles_cover_every_neuron_once(layer, depth, cap, strips):
    tiles = cut(layer, depth, cap, strips)
    covered = np.zeros(layer.shape, int)
    for tile in tiles:
        covered[slice(*tile.channels), slice(*tile.rows), slice(*tile.columns)] += 1
        assert tile.neurons <= cap
        assert tile.depth <= depth
    np.testing.assert_array_equal(covered, 1)


@settings(max_examples=25, deadline=None)
@given(conv_layers(), st.integers(1, 40))
def test_what_a_tile_reads_and_which_crops_it_stores(layer, cap):
    connected = reached(layer)
    for tile in cut(layer, layer.shape[0], max(cap, layer.shape[0]), False)[:4]:
        part = connected[:, :, slice(*tile.rows), slice(*tile.columns)]
        read_rows = np.flatnonzero(part.any((1, 2, 3)))
        first, last = read_range(layer, 0, tile.rows)
        if read_rows.size:
            assert first <= read_rows[0] and read_rows[-1] < last
            if layer.geometry.stride[0] == layer.geometry.dilation[0] == 1:
                assert (first, last) == (read_rows[0], read_rows[-1] + 1)
        crops = kernel_crops(layer.geometry, 0, layer.kernel[0], layer.input_shape[1], tile.rows)
        assert sorted(crops) == sorted(distinct_row_crops(layer, tile))


def distinct_row_crops(layer: LayerShape, tile: Tile) -> list[int]:
    """Sizes of the distinct sets of kernel rows that one input row uses, by trying all."""
    geometry, found = layer.geometry, set()
    for y in range(layer.input_shape[1]):
        used = [
            k
            for k in range(layer.kernel[0])
            for row in range(*tile.rows)
            if row * geometry.stride[0] + k * geometry.dilation[0] - geometry.padding[0][0] == y
        ]
        if used:
            found.add(tuple(sorted(used)))
    return [len(used) for used in found]


@settings(max_examples=15, deadline=None)
@given(conv_layers(), st.integers(4, 60), st.integers(4, 60))
def test_output_axons_are_the_sum_over_the_cores_reached(after, cap, cap_before):
    before = LayerShape("source", "conv", after.input_shape, after.input_shape)
    sources = cut(before, 3, cap_before, False)
    targets = cut(after, 2, cap, False)
    for source in sources[:6]:
        one_by_one = sum(
            len(shared.rows) * len(shared.columns)
            for target in targets
            if (shared := shared_places(source, after, target)) is not None
        )
        assert output_axons(CHIPS["loihi1"], source, after, Grid.of(targets)) == one_by_one


def test_a_list_of_synapses_is_rounded_up_block_by_block():
    assert list_words(0, 8) == 0
    assert list_words(6, 8) == 1  # 58 bits
    assert list_words(7, 8) == 2  # 66 bits
    assert list_words(64, 8) == 9  # 522 bits
    assert list_words(65, 8) == 10
    assert dense_words_loihi1(3136, 38, 8) == 3136 * 5


def test_loihi1_stores_one_list_a_distinct_crop():
    """3 x 3 with padding 1 on 5 x 5: rows use 2, 3 or 2 elements, so that there are 9 crops."""
    geometry = ConvGeometry(padding=((1, 1), (1, 1)))
    layer = LayerShape("conv", "conv", (4, 5, 5), (8, 5, 5), (3, 3), geometry)
    tile = Tile((0, 8), (0, 5), (0, 5))
    assert sorted(kernel_crops(geometry, 0, 3, 5, (0, 5))) == [2, 2, 3]
    bits = 8 + index_bits(200)
    assert index_bits(200) == 8
    wanted = list_words(4 * 8 * 9, bits) + 4 * list_words(4 * 8 * 6, bits)
    wanted += 4 * list_words(4 * 8 * 4, bits)
    assert conv_words_loihi1(layer, tile, 8) == wanted


def test_index_bits_are_those_that_exist():
    assert [index_bits(n) for n in (1, 2, 64, 65, 1024, 4096)] == [0, 6, 6, 7, 10, 12]


@pytest.mark.parametrize("chip", ["loihi1", "loihi2"])
def test_no_core_is_overfull_and_the_map_is_complete(pilotnet, chip):
    report = estimate(pilotnet, chip)
    limits = CHIPS[chip]
    for use in report.core_map:
        assert use.neurons <= limits.neurons.value
        assert use.words <= limits.words.value
        assert use.input_axons <= limits.input_axons.value
        assert use.output_axons <= limits.output_axons.value
    assert [use.core for use in report.core_map] == list(range(report.cores))
    assert sum(use.neurons for use in report.core_map) == report.neurons
    assert not [violation for violation in report.violations if violation.hard]


def test_a_source_with_too_many_output_axons_is_cut_finer(dense_shape):
    """1000 neurons to 40 cores are 40,000 axons; Loihi 1 has 4096 a core."""
    network = NetworkShape("wide", (dense_shape("a", 10, 1000), dense_shape("b", 1000, 5000)))
    uses = partition(network, CHIPS["loihi1"], 8)
    targets = sum(use.layer == "b" for use in uses)
    sources = [use for use in uses if use.layer == "a"]
    assert targets > 4
    assert len(sources) > 1
    assert all(use.output_axons == use.neurons * targets <= 4096 for use in sources)


def test_messages_and_hops_are_counted_core_by_core(dense_shape):
    """Two source cores (0, 1: tile 0), five target cores (2..6: tiles 0, 0, 1, 1, 1)."""
    network = NetworkShape("n", (dense_shape("a", 4000, 80), dense_shape("b", 80, 5000)))
    report = estimate(network, "loihi1")
    by_layer = [use.layer for use in report.core_map]
    assert by_layer == ["a"] * 3 + ["b"] * 5
    spikes = np.arange(80).reshape(80, 1, 1)
    traffic = message_traffic(report, {"a": spikes, "b": np.ones((5000, 1, 1))}, samples=2)
    total = spikes.sum() / 2
    assert traffic["a"]["messages"] == total * 5
    assert traffic["a"]["hops_east_west"] == total * 4  # core 3 on tile 0, 4..7 on tile 1
    assert traffic["a"]["hops_north_south"] == 0
    assert traffic["b"] == {"messages": 0.0, "hops_east_west": 0.0, "hops_north_south": 0.0}


def square(channels: int, side: int) -> tuple[int, int, int]:
    return (channels, side, side)


def same_size(name: str, channels: int, side: int, kernel: int, groups: int = 1) -> LayerShape:
    reach = (kernel // 2, kernel // 2)
    geometry = ConvGeometry(padding=(reach, reach), groups=groups)
    shape = square(channels, side)
    return LayerShape(name, "conv", shape, shape, (kernel, kernel), geometry)


def cores(*layers: LayerShape) -> list[CoreUse]:
    network = NetworkShape("net", layers, timesteps=32)
    return partition(network, CHIPS["loihi1"], 8)


def test_a_channel_whose_kernel_crops_fit_no_core_lies_on_several() -> None:
    """5 x 5 on 8 x 8 places of 512 channels: 43,320 words for a whole map, 1,800 for a place."""
    (limit,) = {CHIPS["loihi1"].words.value}
    found = cores(same_size("wide", 512, 8, 5))
    assert max(use.words for use in found) <= limit
    assert sum(use.neurons for use in found) == 512 * 64


@pytest.mark.parametrize(("groups", "axons"), [(1, 4096), (2, 2048), (8, 512)])
def test_a_grouped_convolution_takes_axons_of_the_channels_it_reads(
    groups: int, axons: int
) -> None:
    first = LayerShape("first", "conv", square(256, 8), square(512, 8), (1, 1), ConvGeometry())
    found = cores(first, same_size("grouped", 512, 8, 3, groups))
    ranges = {use.tile.channels for use in found if use.layer == "first"}
    area = {use.input_axons for use in found if use.layer == "grouped"}
    assert max(area) <= min(axons, 4096)
    whole = [use for use in found if use.layer == "grouped" and use.tile.positions == 64]
    for use in whole:
        size = 512 // groups
        low, high = use.tile.channels[0] // size * size, -(-use.tile.channels[1] // size) * size
        reached = sum(first < high and low < last for first, last in ranges)
        assert use.input_axons == reached * 64


def test_a_tile_that_reads_padding_alone_reads_no_negative_number_of_places() -> None:
    geometry = ConvGeometry(padding=((2, 2), (2, 2)))
    layer = LayerShape("pad", "conv", (1, 4, 4), (1, 8, 8), (1, 1), geometry)
    for row in range(8):
        tile = Tile((0, 1), (row, row + 1), (0, 8))
        assert input_axons(CHIPS["loihi1"], layer, tile, Grid.of(())) == 4 * (2 <= row < 6)

"""The memory formulas against the utilisation tables that Intel's compiler printed."""

from __future__ import annotations

import pytest

from compiler.resources import CHIPS, estimate
from compiler.resources.memory import conv_words_loihi2, dense_words_loihi2

# lava-dl tutorials netx/mnist/run.ipynb, 784-128-64-10, 8-bit weights, printed in per cent:
# inputs, neurons of the core, AxonIn, Neurons, Synapses.
MNIST_ROWS = [
    (784, 50, "4.90", "1.22", "78.40"),
    (128, 64, "0.80", "1.56", "16.80"),
    (64, 10, "0.40", "0.24", "1.60"),
]


@pytest.mark.parametrize(("inputs", "neurons", "axons", "of_neurons", "synapses"), MNIST_ROWS)
def test_mnist_dense_rows_are_reproduced(inputs, neurons, axons, of_neurons, synapses):
    chip = CHIPS["loihi2"]
    words = dense_words_loihi2(inputs, neurons, weight_bits=8)
    assert f"{100 * words / chip.words.value:.2f}" == synapses
    assert f"{100 * inputs / chip.input_axons.value:.2f}" == axons
    assert f"{100 * neurons / chip.neurons.value:.2f}" == of_neurons


def test_oxford_row_is_reproduced():
    assert dense_words_loihi2(256, 200, weight_bits=7) == 16128


@pytest.mark.parametrize(
    ("inputs", "kernel", "channels_on_core", "weight_bits", "printed"),
    [
        # lava-dl tutorials netx/pilotnet_snn/benchmark.ipynb
        (3, 3, 24, 8, 81),
        (24, 3, 36, 7, 864),
        (36, 3, 48, 6, 1620),
        (48, 3, 64, 5, 2160),
        (64, 3, 64, 5, 2880),
        # lava-dl tutorials netx/yolo_kp/run.ipynb, in per cent of 16,000
        (3, 3, 16, 8, 54),
        (16, 3, 32, 8, 576),
        (32, 3, 64, 6, 1728),
        (256, 3, 64, 5, 11520),
        (256, 3, 64, 6, 13824),
        (512, 1, 48, 8, 3072),
    ],
)
def test_conv_rows_are_reproduced(inputs, kernel, channels_on_core, weight_bits, printed):
    assert conv_words_loihi2(inputs * kernel**2, channels_on_core, weight_bits) == printed


def test_mnist_network_takes_five_cores(dense_shape):
    from compiler.resources.shapes import NetworkShape

    layers = (dense_shape("a", 784, 128), dense_shape("b", 128, 64), dense_shape("c", 64, 10))
    report = estimate(NetworkShape("mnist", layers, 32), "loihi2")
    assert [layer.cores for layer in report.layers] == [3, 1, 1]
    assert report.fits


def test_yolo_takes_574_cores_layer_by_layer(yolo_kp):
    """Every layer as printed; the table lists them from the last to the first."""
    report = estimate(yolo_kp, "loihi2")
    assert [layer.cores for layer in report.layers] == [224, 112, 56, 28, 56, 16, 32, 14, 32, 4]
    assert report.cores == 574
    assert not report.fits
    assert report.chips == 5


def test_pilotnet_takes_74_cores_within_a_quarter(pilotnet):
    """Every strip as printed but for the first dense layer: 12 there, with a smaller memory."""
    report = estimate(pilotnet, "loihi2")
    cores = [layer.cores for layer in report.layers]
    assert cores[:6] == [13, 25, 13, 3, 3, 2]
    assert cores[7:] == [1, 1, 1]
    assert abs(report.cores - 74) <= 74 / 4
    assert report.neurons == 39600 + 158509 - 39600  # as the tutorial counts, input included


def test_pilotnet_tiles_are_the_printed_ones(pilotnet):
    """Neurons of a whole strip: 3168, 3072, 2160, 2688, 2048, 2048."""
    report = estimate(pilotnet, "loihi2")
    fullest = {}
    for use in report.core_map:
        fullest[use.layer] = max(fullest.get(use.layer, 0), use.neurons)
    strips = [fullest[name] for name in ("input", "conv0", "conv1", "conv2", "conv3", "conv4")]
    assert strips == [3168, 3072, 2160, 2688, 2048, 2048]


def test_what_is_inferred_is_labelled():
    loihi2 = CHIPS["loihi2"]
    inferred = [loihi2.neurons, loihi2.words, loihi2.input_axons, loihi2.output_axons]
    assert all(limit.inferred for limit in inferred)
    loihi1 = CHIPS["loihi1"]
    limits = [loihi1.cores, loihi1.neurons, loihi1.words, loihi1.input_axons, loihi1.output_axons]
    assert not any(limit.inferred for limit in limits)
    assert all(limit.source for chip in CHIPS.values() for limit in (chip.words, chip.neurons))

"""Two published CIFAR-10 networks reach the accuracy that their authors' files have."""

from pathlib import Path

import numpy as np
import pytest

from compiler.frontend import load_model
from compiler.ir.run_ann import run_ann
from compiler.passes import lower
from sim.datasets import load_dataset

SHARED = Path(__file__).parents[3] / "shared"
ARCHIVE = SHARED / "data" / "cifar10.zip"
# file, options, accuracy in per cent on all 10,000 test images, as measured by others
NETWORKS = [
    ("cifar10_small.onnx", {}, 63.14),
    ("cifar_base_kw.onnx", {"mean": [0.485, 0.456, 0.406], "std": [0.225] * 3}, 58.53),
]
pytestmark = pytest.mark.skipif(not ARCHIVE.exists(), reason="the networks and images are absent")


def accuracy(file, options, samples):
    lowered = lower(load_model(SHARED / "models" / file, **options))
    assert lowered.largest_difference < 1e-5
    data = load_dataset(f"imagefolder:{ARCHIVE}", (3, 32, 32), samples)
    predictions = run_ann(lowered.graph, data.images_nchw).argmax(1)
    return 100 * float(np.mean(predictions == data.labels))


@pytest.mark.parametrize("file,options,expected", NETWORKS)
def test_a_thousand_images(file, options, expected):
    # The standard deviation of 1,000 draws is 1.6 points.
    assert abs(accuracy(file, options, 1000) - expected) < 4


@pytest.mark.slow
@pytest.mark.parametrize("file,options,expected", NETWORKS)
def test_all_images(file, options, expected):
    assert round(accuracy(file, options, None), 2) == expected

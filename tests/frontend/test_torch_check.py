"""The graph is run beside the module: what tracing does not show is noticed."""

import numpy as np
import pytest
import torch
from torch import nn

from compiler.errors import ModelError
from compiler.frontend.chain import ChainBuilder
from compiler.frontend.torch_check import check_same
from compiler.frontend.torch_fx import read_module

SHAPE = (2, 4, 4)


class Net(nn.Module):
    """`before`, a dense layer, `after`."""

    def __init__(self, before=None, after=None):
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(32, 3)
        self.before = before or (lambda x: x.flatten(1))
        self.after = after or (lambda x: x)

    def forward(self, x):
        return self.after(self.head(self.before(x)))


def augmented(x):
    same = x
    x += 0.5
    return same.flatten(1)


def per_image(x):
    return (x / x.shape[0]).flatten(1)


def two_images(x):
    return x.reshape(2, 32)


@pytest.mark.parametrize(
    "module,said",
    [
        (Net(augmented), "outputs that differ by up to"),
        (Net(per_image), "outputs that differ by up to"),
        (Net(two_images), "on 4 images RuntimeError"),
        (Net(after=lambda x: (x, x)), "an output that is a tuple"),
        (Net(after=lambda x: x.to(torch.float16)), "outputs that differ by up to"),
        (Net(after=lambda x: x.div(1, rounding_mode="floor")), "outputs that differ by up to"),
    ],
)
def test_what_computes_something_else_is_refused(module, said):
    with pytest.raises(ModelError, match=said):
        read_module(module, SHAPE, "net")


def test_a_patched_layer_is_refused_with_the_difference_and_a_remedy():
    module = Net()
    module.head.forward = lambda x: 2 * nn.functional.linear(x, module.head.weight)
    with pytest.raises(ModelError) as caught:
        read_module(module, SHAPE, "net")
    (problem,) = caught.value.problems
    assert problem.layer == "net" and "their spread being" in problem.found
    assert "0.0001" in problem.allowed and "ONNX" in problem.remedy


@pytest.mark.parametrize("ending", [nn.Softmax(1), nn.LogSoftmax(-1)])
def test_a_soft_max_at_the_end_is_part_of_the_comparison(ending):
    assert read_module(nn.Sequential(Net(), ending), SHAPE, "net").classes == 3
    patched = nn.Sequential(Net(), ending)
    patched[0].head.forward = lambda x: 2 * nn.functional.linear(x, patched[0].head.weight)
    with pytest.raises(ModelError, match="outputs that differ"):
        read_module(patched, SHAPE, "net")


def test_normalisation_of_the_pixels_is_part_of_the_comparison():
    scale_and_shift = np.array([2.0, 4.0]), np.array([-1.0, 0.5])
    assert read_module(Net(), SHAPE, "net", scale_and_shift).classes == 3


def test_the_callers_random_numbers_stay_as_they_were():
    module = nn.Sequential(nn.Dropout(), nn.Flatten(), nn.Linear(32, 3)).train()
    before = torch.get_rng_state()
    read_module(module, SHAPE, "net")
    assert torch.equal(torch.get_rng_state(), before)


def test_equal_logits_of_every_image_are_no_difference():
    module = nn.Sequential(nn.Flatten(), nn.Linear(32, 3))
    nn.init.zeros_(module[1].weight)
    nn.init.constant_(module[1].bias, 0.1)
    assert read_module(module, SHAPE, "net").classes == 3


class Exact(nn.Module):
    """Hidden neurons that are all the first pixel, summed in double precision."""

    def __init__(self, weight):
        super().__init__()
        self.factor = torch.from_numpy(weight).double().sum(1)

    def forward(self, x):
        return (x[:, :1, 0, 0].double() * self.factor).float()


def test_what_rounding_alone_makes_is_allowed():
    generator = np.random.default_rng(0)
    weight = (generator.normal(size=(2, 64)) * 1e6).astype(np.float32)
    weight[:, -1] -= weight.sum(1)
    first = np.zeros((64, 32), np.float32)
    first[:, 0] = 1 / 3
    builder = ChainBuilder("net", SHAPE)
    builder.dense("one", first, None)
    builder.dense("two", weight, None)
    graph = builder.build()
    check_same(Exact(weight / 3), graph, SHAPE)
    with pytest.raises(ModelError, match="outputs that differ"):
        check_same(Exact(weight / 3 + 1), graph, SHAPE)

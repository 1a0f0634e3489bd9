"""Changes in place: followed where every reader is known, refused where one may be missed."""

import pytest
import torch
from torch import fx, nn
from torch.nn import functional as F

from compiler.errors import ModelError
from compiler.frontend.torch_fx import read_module
from compiler.ir import Relu

SHAPE = (2, 5, 5)


def silence(x):
    x[:, 0] = 0


fx.wrap("silence")


class Net(nn.Module):
    """A convolution, `change` of its output, a dense layer."""

    def __init__(self, change):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(2, 4, 3)
        self.relu = nn.ReLU(inplace=True)
        self.limit = nn.ReLU6(inplace=True)
        self.drop = nn.Dropout()
        self.scale = nn.Parameter(torch.ones(1))
        self.head = nn.Linear(36, 3)
        self.change = change

    def forward(self, x):
        return self.head(self.change(self, self.conv(x)).flatten(1))


def module_alone(net, x):
    net.relu(x)
    return x


def limit_alone(net, x):
    net.limit(x)
    return x


def function_alone(net, x):
    F.relu(x, inplace=True)
    return x


def function_with_underscore(net, x):
    F.relu_(x)
    return x


def method_alone(net, x):
    x.clamp_(min=0)
    return x


def written_out(net, x):
    torch.clamp(x, 0, None, out=x)
    return x


def several_changes(net, x):
    x.sub_(0.5).div_(0.25)
    x.add_(0.1)
    x.relu_()
    return x


def result_and_name(net, x):
    changed = x.mul_(2)
    net.relu(changed)
    return x


def same_tensor_by_another_name(net, x):
    other = net.drop(x)
    other.relu_()
    return x


def sum_with_itself(net, x):
    before = x
    net.relu(x)
    return x + before


def view_alone(net, x):
    flat = x.flatten(1)
    net.relu(flat)
    return flat


@pytest.mark.parametrize(
    "change",
    [
        module_alone,
        limit_alone,
        function_alone,
        function_with_underscore,
        method_alone,
        written_out,
        several_changes,
        result_and_name,
        same_tensor_by_another_name,
        sum_with_itself,
        view_alone,
    ],
)
def test_changes_that_are_followed(assert_reads, change):
    graph = assert_reads(Net(change), SHAPE)
    assert sum(isinstance(layer, Relu) for layer in graph.layers) == 1


def test_normalisation_in_place(assert_reads):
    class Normalised(Net):
        def forward(self, x):
            x = x.clone()
            x.sub_(0.5).div_(0.1)
            return super().forward(x)

    assert_reads(Normalised(module_alone), SHAPE)


def view_read(net, x):
    flat = x.flatten(1)
    net.relu(x)
    return flat


def base_read(net, x):
    x.flatten(1).relu_()
    return x


def part_changed(net, x):
    x[:, 0].mul_(2)
    return x


def data_changed(net, x):
    x.data.clamp_(min=0)
    return x


def nothing_returned(net, x):
    silence(x)
    return x


def parameter_changed(net, x):
    net.scale.clamp_(min=0)
    return net.relu(x)


@pytest.mark.parametrize(
    "change,layer,said",
    [
        (view_read, "relu", "conv, whose memory another tensor shares"),
        (base_read, "relu_", "flatten, whose memory another tensor shares"),
        (part_changed, "mul_", "getitem, whose memory another tensor shares"),
        (data_changed, "clamp_", "whose memory another tensor shares"),
        (nothing_returned, "silence", "conv, which is read later but not returned"),
        (parameter_changed, "clamp_", "scale, which is a parameter or a buffer"),
    ],
)
def test_changes_that_are_refused(change, layer, said):
    with pytest.raises(ModelError) as caught:
        read_module(Net(change), SHAPE, "net")
    problems = {problem.layer: problem.found for problem in caught.value.problems}
    assert said in problems[layer]


def test_changes_stand_beside_the_other_problems():
    def both(net, x):
        flat = x.flatten(1)
        net.relu(x)
        return torch.tanh(flat)

    with pytest.raises(ModelError) as caught:
        read_module(Net(both), SHAPE, "net")
    assert {"relu", "tanh"} <= {problem.layer for problem in caught.value.problems}

"""Torch modules through torch.fx: what is read, and that all that is not is listed."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import prune

from compiler.errors import ModelError
from compiler.frontend.torch_fx import read_module
from compiler.ir import AvgPool2d, BatchNorm, Conv2d, InputAffine, Relu


def randomised(module):
    torch.manual_seed(0)
    for part in module.modules():
        if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.normal_(part.running_mean)
            nn.init.uniform_(part.running_var, 0.5, 2)
            nn.init.normal_(part.weight)
            nn.init.normal_(part.bias)
    return module


def kinds(graph):
    return [type(layer).__name__ for layer in graph.layers]


def test_every_supported_module(assert_reads):
    module = nn.Sequential(
        nn.ConstantPad2d((1, 0, 2, 1), 0.5),
        nn.Conv2d(3, 6, (3, 2), stride=(1, 2), padding=(1, 2), dilation=(2, 1), groups=3),
        nn.BatchNorm2d(6),
        nn.ReLU6(),
        nn.Dropout2d(0.5),
        nn.AvgPool2d(2, padding=1, stride=1, count_include_pad=False),
        nn.ZeroPad2d((0, 1, 0, 0)),
        nn.Conv2d(6, 4, 2, padding="same", bias=False),
        nn.Hardtanh(0, 2.5),
        nn.Identity(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 7),
        nn.BatchNorm1d(7),
        nn.ReLU(inplace=True),
        nn.Dropout(),
        nn.Linear(7, 5, bias=False),
        nn.LogSoftmax(1),
    )
    body = module[:-1]
    randomised(module)
    graph = assert_reads(body)
    assert [layer.maximum for layer in graph.layers if isinstance(layer, Relu)] == [6.0, 2.5, None]
    assert graph.layers[0].bias.ndim == 3
    norm = next(layer for layer in graph.layers if isinstance(layer, BatchNorm))
    assert norm.running_mean.shape == (6,)
    assert kinds(read_module(module, (3, 9, 8), "net")) == kinds(graph)


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.weight = nn.Parameter(torch.randn(5, 4, 3, 3))
        self.head = nn.Linear(5, 6)
        self.register_buffer("mean", torch.tensor([0.1, 0.2, 0.3])[None, :, None, None])

    def forward(self, x):
        x = (x - self.mean) / 0.25
        x = 2 * x + 1
        x = F.pad(x, (1, 1, 0, 1))
        x = torch.relu(self.norm(self.conv(x)))
        x = F.avg_pool2d(x, 2, stride=1)
        x = F.relu6(F.conv2d(x, self.weight, padding=1)).clamp(min=0, max=3)
        x = F.dropout(x, training=self.training)
        x = x.mean((2, 3))
        x = x.view(x.size(0), -1)
        return F.softmax(F.linear(x, self.head.weight, self.head.bias), dim=1)


def test_functional_calls_are_seen():
    module = randomised(Functional().eval())
    graph = read_module(module, (3, 9, 8), "net")
    assert kinds(graph) == [
        "InputAffine", "Conv2d", "BatchNorm", "Relu", "AvgPool2d", "Conv2d", "Relu", "Relu",
        "AvgPool2d", "Dense",
    ]  # fmt: skip


def test_functional_network_computes_the_same(assert_reads):
    module = randomised(Functional())
    inner = module.forward

    def logits(x):
        return torch.log(inner(x))

    torch.manual_seed(2)
    graph = read_module(module.eval(), (3, 9, 8), "net")
    images = torch.rand(3, 3, 9, 8)
    from compiler.ir.run_ann import run_ann

    with torch.no_grad():
        expected = logits(images)
    found = F.log_softmax(torch.from_numpy(run_ann(graph, images.numpy())), 1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("size", [8, 9, 10])
@pytest.mark.parametrize("kernel,stride,padding", [(2, 2, 0), (3, 2, 0), (3, 3, 1), (2, 3, 0)])
@pytest.mark.parametrize("count", [True, False])
def test_ceil_mode(assert_reads, size, kernel, stride, padding, count):
    pool = nn.AvgPool2d(kernel, stride, padding, ceil_mode=True, count_include_pad=count)
    features = pool(torch.zeros(1, 1, size, size)).numel()
    module = nn.Sequential(pool, nn.Flatten(), nn.Linear(features, 2))
    floor = nn.AvgPool2d(kernel, stride, padding)
    ragged = floor(torch.zeros(1, 1, size, size)).numel() != features
    if padding and count and ragged:
        with pytest.raises(ModelError, match="ceil_mode"):
            read_module(module, (1, size, size), "net")
    else:
        assert_reads(module, (1, size, size))


class Vector(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 2)

    def forward(self, x):
        return self.conv(x.reshape(-1, 2, 3, 4)).flatten(1)


def test_an_image_given_as_a_vector():
    graph = read_module(Vector(), (24, 1, 1), "net")
    assert graph.input_shape == (2, 3, 4) and kinds(graph) == ["Conv2d", "Flatten"]


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x):
        return F.relu(self.conv(x) + x)


class Everything(nn.Module):
    def __init__(self):
        super().__init__()
        self.block = Block()
        self.pool = nn.MaxPool2d(2)
        self.up = nn.ConvTranspose2d(3, 3, 2, stride=2)
        self.act = nn.GELU()
        self.norm = nn.GroupNorm(1, 6)
        self.head = nn.Linear(6 * 8 * 8, 4)

    def forward(self, x):
        x = self.up(self.pool(self.block(x)))
        x = torch.cat([x, x], 1)
        x = torch.sigmoid(self.norm(self.act(x)))
        return F.leaky_relu(self.head(x.flatten(1)))


def test_everything_unsupported_is_listed_at_once():
    with pytest.raises(ModelError) as caught:
        read_module(Everything(), (3, 8, 8), "net")
    problems = {problem.layer: problem for problem in caught.value.problems}
    found = {layer: problem.found for layer, problem in problems.items()}
    assert found["add"] == "add of 2 tensors"
    assert found["pool"] == "MaxPool2d"
    assert found["up"] == "ConvTranspose2d"
    assert found["act"] == "GELU"
    assert found["norm"] == "GroupNorm"
    assert found["sigmoid"] == "sigmoid"
    assert found["leaky_relu"] == "leaky_relu"
    assert any(name.startswith("cat") for name in found)
    assert len(problems) == 8
    assert "average pooling" in problems["pool"].remedy
    assert "skip connections" in problems["add"].remedy
    assert "ReLU" in problems["act"].remedy


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(8, 4, batch_first=True)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        out, _ = self.lstm(x[:, 0])
        return self.head(out[:, -1])


def test_recurrent_layers_are_refused():
    with pytest.raises(ModelError) as caught:
        read_module(Recurrent(), (1, 6, 8), "net")
    assert "recurrent" in next(
        problem.remedy for problem in caught.value.problems if problem.layer == "lstm"
    )


class Branch(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(1, 2, 1)
        self.b = nn.Conv2d(1, 2, 1)

    def forward(self, x):
        return self.a(x) * self.b(x)


class Dynamic(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class Clamp(nn.Module):
    def __init__(self, low, high):
        super().__init__()
        self.register_buffer("low", low)
        self.register_buffer("high", high)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(torch.clamp(x, self.low, self.high).flatten(1))


class OwnLimit(nn.Module):
    def forward(self, x):
        return torch.clamp(x, 0, x.shape[2])


class Shift(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.head((1 / (x + 1)).flatten(1))


@pytest.mark.parametrize(
    "module,said",
    [
        (Branch(), "second branch"),
        (Dynamic(), "cannot be traced"),
        (Shift(), "truediv that is not"),
        (nn.Sequential(nn.Conv2d(5, 2, 1)), "0: found Given groups=1"),
        (nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(5, 2, 1)), "MaxPool2d"),
        (nn.Sequential(nn.Conv2d(1, 2, 1, padding=1, padding_mode="reflect")), "'reflect'"),
        (nn.Sequential(nn.BatchNorm2d(1, track_running_stats=False)), "running statistics"),
        (nn.Sequential(nn.Linear(2, 3)), "over the last axis"),
        (nn.Sequential(nn.AvgPool2d(2, divisor_override=3)), "divisor_override=3"),
        (nn.Sequential(nn.AvgPool2d(1), nn.Softmax(1), nn.Conv2d(1, 1, 1)), "inside the network"),
        (nn.Sequential(nn.Conv2d(1, 2, 1), nn.AdaptiveAvgPool2d((2, 2))), None),
        (nn.Sequential(nn.Upsample(size=3), nn.AdaptiveAvgPool2d((2, 2))), "adaptive pooling"),
        (nn.Sequential(nn.Hardtanh(-1, 1)), "clip to -1"),
        (nn.Sequential(nn.ConstantPad2d(1, 2.0), nn.Flatten(), nn.Linear(16, 1)), "padding that"),
        (nn.Sequential(nn.ZeroPad2d(-1)), "padding"),
        (nn.Sequential(nn.ReLU()), "no layer with weights"),
        (Clamp(torch.zeros(2), torch.ones(2)), r"a clip to limits of shape \(2,\)"),
        (Clamp(torch.tensor(0.0), torch.ones(2)), r"0.0 .. limits of shape \(2,\)"),
        (OwnLimit(), "0 .. a computed "),
    ],
)
def test_refusals(module, said):
    if said is None:
        read_module(module, (1, 2, 2), "net")
        return
    with pytest.raises(ModelError, match=said):
        read_module(module, (1, 2, 2), "net")


def test_padding_joins_the_layer_behind(assert_reads):
    module = nn.Sequential(
        nn.ZeroPad2d((1, 2, 0, 1)), nn.ZeroPad2d(1), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(3, 2, 2)
    )
    graph = assert_reads(module)
    assert kinds(graph) == ["Relu", "AvgPool2d", "Conv2d"]
    assert isinstance(graph.layers[1], AvgPool2d) and graph.layers[1].count_include_pad
    constant = nn.Sequential(
        nn.Conv2d(3, 3, 1), nn.ConstantPad2d(1, -1.0), nn.ReLU(), nn.Conv2d(3, 2, 2)
    )
    assert all(layer.bias.ndim == 1 for layer in assert_reads(constant).layers[::2])


def test_normalisation_comes_first():
    import numpy as np

    module = nn.Sequential(nn.Conv2d(3, 2, 1))
    graph = read_module(module, (3, 2, 2), "net", (np.full(3, 4.0), np.full(3, -2.0)))
    affine = graph.layers[0]
    assert isinstance(affine, InputAffine) and isinstance(graph.layers[1], Conv2d)
    np.testing.assert_allclose(affine.mean, 0.5)
    np.testing.assert_allclose(affine.std, 0.25)


def test_torchvision_normalize():
    transforms = pytest.importorskip("torchvision.transforms")
    module = nn.Sequential(
        transforms.Normalize([0.5, 0.4, 0.3], [0.1, 0.2, 0.3]), nn.Conv2d(3, 2, 1)
    )
    graph = read_module(module, (3, 2, 2), "net")
    assert [round(float(value), 5) for value in graph.layers[0].std] == [0.1, 0.2, 0.3]


class Head(nn.Module):
    """`change` of the image, a dense layer, `ending`."""

    def __init__(self, change, ending=None):
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(24, 4)
        self.register_buffer("one", torch.tensor(1.5))
        self.shift = nn.Parameter(torch.tensor([0.1, 0.2]))
        self.register_buffer("mean", torch.tensor([0.1, 0.2])[:, None, None])
        self.change = change
        self.ending = ending or (lambda x: x)

    def forward(self, x):
        return self.ending(self.head(self.change(self, x).flatten(1)))


@pytest.mark.parametrize(
    "change",
    [
        lambda net, x: x.to(torch.float32),
        lambda net, x: x.to("cpu"),
        lambda net, x: x.to(dtype=torch.float64).float(),
        lambda net, x: x.to(net.mean),
        lambda net, x: x + x.shape[1],
        lambda net, x: x * x.size(2) - x.size(1),
        lambda net, x: x / (x.size(2) * x.size(3)),
        lambda net, x: net.one - x,
        lambda net, x: net.mean - x,
        lambda net, x: F.alpha_dropout(F.dropout(x, 0.5, net.training)),
    ],
)
def test_conversions_sizes_and_constants(assert_reads, change):
    assert_reads(Head(change), (2, 3, 4))


@pytest.mark.parametrize(
    "change,said",
    [
        (lambda net, x: (x * 255).to(torch.uint8).float() / 255, r"to, which makes torch\.uint8"),
        (lambda net, x: x.to(torch.int64).to(torch.float32), r"to, which makes torch\.int64"),
        (lambda net, x: x.to(dtype=torch.bool).float(), r"to, which makes torch\.bool"),
        (lambda net, x: x - net.shift.view(1, 2, 1, 1), "sub of 2 tensors"),
        (lambda net, x: F.dropout(x), "dropout that is active outside training"),
        (lambda net, x: torch.dropout(x, 0.5, True), "dropout that is active outside training"),
    ],
)
def test_conversions_and_constants_that_are_refused(change, said):
    with pytest.raises(ModelError, match=said):
        read_module(Head(change), (2, 3, 4), "net")


def test_limits_in_a_tensor(assert_reads):
    graph = assert_reads(Clamp(torch.zeros(1), torch.tensor(0.5)), (1, 2, 2))
    assert graph.layers[0].maximum == 0.5


@pytest.mark.parametrize(
    "ending,axis",
    [
        (nn.Softmax(0), 0),
        (nn.LogSoftmax(-2), 0),
        (lambda x: F.softmax(x, 0), 0),
        (lambda x: F.log_softmax(x[:, None, :], dim=1), 1),
    ],
)
def test_a_soft_max_over_another_axis_than_the_classes(ending, axis):
    with pytest.raises(ModelError, match=f"over axis {axis} of|getitem"):
        read_module(Head(lambda net, x: x, ending), (2, 3, 4), "net")


def test_hooks_are_refused_wherever_they_are():
    module = nn.Sequential(nn.Conv2d(2, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(18, 4))
    module[0].register_forward_hook(lambda layer, inputs, output: output * 3)
    module[3].register_forward_pre_hook(lambda layer, inputs: (inputs[0] + 1,))
    module.register_forward_hook(lambda layer, inputs, output: -output)
    with pytest.raises(ModelError) as caught:
        read_module(module, (2, 3, 4), "net")
    assert [problem.layer for problem in caught.value.problems] == ["net", "0", "3"]
    assert all("hook" in problem.found for problem in caught.value.problems)


def test_hooks_of_a_part_that_is_traced_are_read(assert_reads):
    part = nn.Sequential(nn.Conv2d(2, 3, 2), nn.ReLU())
    part.register_forward_hook(lambda layer, inputs, output: output * 3)
    graph = assert_reads(nn.Sequential(part, nn.Flatten(), nn.Linear(18, 4)), (2, 3, 4))
    assert kinds(graph) == ["Conv2d", "Relu", "BatchNorm", "Flatten", "Dense"]


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    "prepare",
    [
        nn.utils.weight_norm,
        nn.utils.spectral_norm,
        nn.utils.parametrizations.weight_norm,
        nn.utils.parametrizations.spectral_norm,
        lambda layer: prune.l1_unstructured(layer, "weight", 0.5),
    ],
)
def test_weights_that_a_hook_or_a_parametrisation_makes(assert_reads, prepare):
    torch.manual_seed(0)
    layers = [prepare(layer) for layer in (nn.Conv2d(2, 3, 2), nn.Linear(18, 4))]
    assert_reads(nn.Sequential(layers[0], nn.ReLU(), nn.Flatten(), layers[1]), (2, 3, 4))

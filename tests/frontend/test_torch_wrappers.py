"""Modules as they come from training: wrapped, pruned, on no device."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from compiler.errors import ModelError
from compiler.frontend import load_model
from compiler.ir.run_ann import run_ann

SHAPE = (2, 3, 4)


def network(prepare=lambda layer: layer) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [prepare(layer) for layer in (nn.Conv2d(2, 3, 2), nn.Linear(18, 4))]
    return nn.Sequential(layers[0], nn.ReLU(), nn.Flatten(), layers[1])


def factory() -> nn.Module:
    module = torch.compile(network())
    module.input_shape = SHAPE
    return module


def assert_same(module: nn.Module) -> None:
    images = torch.rand(2, *SHAPE)
    with torch.no_grad():
        expected = module(images).numpy()
    graph = load_model(module, input_shape=SHAPE)
    np.testing.assert_allclose(run_ann(graph, images.numpy()), expected, atol=1e-6)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    "prepare",
    [
        nn.utils.weight_norm,
        nn.utils.spectral_norm,
        nn.utils.parametrizations.weight_norm,
        lambda layer: prune.l1_unstructured(layer, "weight", 0.5),
    ],
)
def test_a_module_whose_weights_are_computed_is_copied(prepare):
    module = network(prepare).eval()
    module(torch.rand(1, *SHAPE))
    assert module[0].weight.grad_fn is not None
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    assert_same(module)
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())


def test_a_module_for_several_gpus_is_read():
    assert_same(nn.DataParallel(network().eval()))


def test_a_compiled_module_is_read():
    graph = load_model(torch.compile(network()), input_shape=SHAPE)
    plain = load_model(network(), input_shape=SHAPE)
    images = np.random.default_rng(0).random((2, *SHAPE), np.float32)
    np.testing.assert_array_equal(run_ann(graph, images), run_ann(plain, images))
    assert graph.name == plain.name == "Sequential"
    made = load_model(f"{__name__}:factory")
    np.testing.assert_array_equal(run_ann(made, images), run_ann(plain, images))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_cannot_be_read_is_told():
    with pytest.raises(ModelError, match=r"before torch\.jit\.script"):
        load_model(torch.jit.script(network()), input_shape=SHAPE)
    with torch.device("meta"):
        module = network()
    with pytest.raises(ModelError, match=r"0\.weight on the meta device"):
        load_model(module, input_shape=SHAPE)

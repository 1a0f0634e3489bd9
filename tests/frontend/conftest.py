"""Comparisons that the tests of the front ends share."""

import numpy as np
import pytest
import torch

from compiler.frontend.torch_fx import read_module
from compiler.ir.run_ann import run_ann


@pytest.fixture
def assert_reads():
    """Read a torch module and compare logits; returns the graph."""

    def check(module, shape=(3, 9, 8)):
        torch.manual_seed(1)
        module = module.eval()
        graph = read_module(module, shape, "net")
        images = torch.rand(3, *shape)
        with torch.no_grad():
            expected = module(images).reshape(3, -1).numpy()
        np.testing.assert_allclose(run_ann(graph, images.numpy()), expected, rtol=0, atol=1e-4)
        return graph

    return check

"""Images made from the network alone."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from compiler.config import SynthesisConfig
from compiler.errors import ModelError
from compiler.frontend import ARCHITECTURES, load_model
from compiler.ir import AnnGraph, Relu
from compiler.ir.ann_module import AnnModule
from compiler.ir.run_ann import run_ann
from compiler.passes import lower, pools_as_neurons
from compiler.steps import _quicker
from compiler.store import save
from compiler.synthesis import synthesize
from compiler.synthesis.optimize import smoother

ROOT = Path(__file__).parents[2]


def cross_entropy(targets: np.ndarray, logits: np.ndarray, temperature: float) -> float:
    scaled = logits / temperature
    shifted = scaled - scaled.max(1, keepdims=True)
    log_probability = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return float(-(targets * log_probability).sum(1).mean())


def test_what_comes_out(network: AnnGraph, config: SynthesisConfig) -> None:
    made = synthesize(network, config, seed=0)
    assert made.images_nchw.dtype == np.uint8 and made.images_nchw.shape == (96, 2, 6, 5)
    assert made.soft_targets_nk.shape == made.logits_nk.shape == (96, 4)
    assert made.held_out == 16
    assert len(made.pixels(made.training)) == 80 and len(made.pixels(made.validation)) == 16
    expected = run_ann(network, made.images_nchw.astype(np.float32) / np.float32(255))
    np.testing.assert_allclose(made.logits_nk, expected, rtol=1e-4, atol=1e-4)
    assert len(np.unique(made.images_nchw.reshape(96, -1), axis=0)) == 96


def test_the_same_seed_gives_the_same_bytes(network: AnnGraph, config: SynthesisConfig) -> None:
    """Whatever numpy and torch drew before."""
    first = synthesize(network, config, seed=3)
    np.random.seed(99)
    torch.manual_seed(99)
    second = synthesize(network, config, seed=3)
    other = synthesize(network, config, seed=4)
    for name in ("images_nchw", "soft_targets_nk", "logits_nk"):
        assert getattr(first, name).tobytes() == getattr(second, name).tobytes(), name
        assert getattr(first, name).tobytes() != getattr(other, name).tobytes(), name


def test_smoothed_steps_change_an_image_in_its_low_frequencies(
    network: AnnGraph, config: SynthesisConfig
) -> None:
    start = synthesize(network, replace(config, steps=1, learning_rate=1e-9), seed=0)
    detail, losses = [], []
    for smoothness in (0.0, 6.0):
        made = synthesize(network, replace(config, steps=40, smoothness=smoothness), seed=0)
        change = made.pixels(slice(None)) - start.pixels(slice(None))
        detail.append(np.abs(np.diff(change, axis=3)).mean() / np.abs(change).mean())
        losses.append(cross_entropy(made.soft_targets_nk, made.logits_nk, 2.0))
    assert detail[1] < 0.7 * detail[0]
    assert losses[1] < cross_entropy(start.soft_targets_nk, start.logits_nk, 2.0)


def test_smoothing_is_a_gaussian_that_keeps_a_plain_image() -> None:
    smoothed = smoother(1.0, (2, 32, 64))
    assert smoothed is not None and smoother(0.0, (2, 32, 64)) is None
    torch.testing.assert_close(
        smoothed(torch.full((1, 2, 32, 64), 0.3)), torch.full((1, 2, 32, 64), 0.3)
    )
    dot = torch.zeros(1, 2, 32, 64)
    dot[0, 1, 10, 20] = 1
    found = smoothed(dot)
    assert not found[0, 0].any() and float(found.sum()) == pytest.approx(1)
    assert float(found[0, 1, 10, 21] / found[0, 1, 10, 20]) == pytest.approx(np.exp(-0.5))
    assert float(found[0, 1, 12, 20] / found[0, 1, 10, 20]) == pytest.approx(np.exp(-2))


def test_the_loss_falls(network: AnnGraph, config: SynthesisConfig) -> None:
    losses = []
    for steps in (1, 8, 60):
        made = synthesize(network, replace(config, steps=steps), seed=0)
        losses.append(cross_entropy(made.soft_targets_nk, made.logits_nk, 2.0))
    floor = float(-(made.soft_targets_nk * np.log(made.soft_targets_nk + 1e-30)).sum(1).mean())
    assert losses[0] > losses[1] > losses[2]
    assert losses[2] - floor < 0.5 * (losses[0] - floor)


def test_images_are_made_in_batches(
    network: AnnGraph, config: SynthesisConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    forward = AnnModule.forward

    def counted(self: AnnModule, images: torch.Tensor) -> torch.Tensor:
        sizes.append(len(images))
        return forward(self, images)

    monkeypatch.setattr(AnnModule, "forward", counted)
    told: list[tuple[int, int]] = []
    synthesize(network, config, 0, lambda done, total: told.append((done, total)))
    assert set(sizes) == {config.batch}
    assert len(sizes) <= 3 * (config.steps + 1)
    assert told[-1] == (96, 96)


def test_a_last_batch_may_be_smaller(network: AnnGraph, config: SynthesisConfig) -> None:
    made = synthesize(network, replace(config, batch=40, steps=2), seed=0)
    assert len(made.images_nchw) == 96 and np.isfinite(made.logits_nk).all()


def test_a_last_layer_without_weights_is_refused(
    network: AnnGraph, config: SynthesisConfig
) -> None:
    ends_in_relu = network.with_layers((*network.layers, Relu("last")))
    with pytest.raises(ModelError, match="last: found a last layer of kind Relu"):
        synthesize(ends_in_relu, config, seed=0)


WITHOUT_DATA = """
import os, sys
from pathlib import Path
import torch, numpy
from compiler.config import SynthesisConfig
from compiler.ir import AnnGraph
from compiler.store import load
import compiler.synthesis
from compiler.synthesis import synthesize
from compiler.synthesis.optimize import smoother
graph = load(AnnGraph, Path(sys.argv[1]))

found = []
PYTHON = (sys.prefix, sys.base_prefix, "/proc", "/sys", "/dev")

def tell(event, arguments):
    where = str(arguments[0])
    code = where.startswith(PYTHON) and "/data/" not in where
    code = code or where.endswith((".py", ".pyc", ".nbi", ".nbc"))
    if event == "open" and not code and not arguments[2] & (os.O_WRONLY | os.O_RDWR):
        found.append(where)
    if event in ("socket.connect", "socket.getaddrinfo", "subprocess.Popen"):
        found.append(event)

sys.addaudithook(tell)
config = SynthesisConfig(count=16, held_out=4, steps=2, batch=8)
made = synthesize(graph, config, 0)
print(found, len(made.images_nchw), "sklearn" in sys.modules, "sim.datasets" in sys.modules)
"""


def test_nothing_is_read_but_the_network(network: AnnGraph, tmp_path: Path) -> None:
    save(network, tmp_path / "network.safetensors")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_DATA, str(tmp_path / "network.safetensors")],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert done.stdout == "[] 16 False False\n"


@pytest.mark.parametrize(("name", "neurons"), [("vgg9", True), ("cifar-cnn", False)])
def test_pools_stay_unfolded_where_that_is_clearly_less_work(name: str, neurons: bool) -> None:
    """A 2 x 2 pool folded into a 3 x 3 kernel makes it 4 x 4; one before a small layer is cheap."""
    shape = (3, 32, 32)
    graph = load_model(ARCHITECTURES[name](shape, 10), input_shape=shape)
    folded = lower(graph).graph
    pools = pools_as_neurons(graph, folded)
    assert pools is not None
    assert _quicker(folded, pools.graph) is (pools.graph if neurons else folded)
    assert _quicker(folded, None) is folded

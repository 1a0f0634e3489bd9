"""What runs on a GPU where there is one: on a device with memory of its own, with equal results.

The device stands for the GPU that the machine of the tests does not have. Its tensors cannot be
mixed with the CPU's, nor be read by numpy, just as a GPU's cannot; what is computed of them is
computed by the CPU. To torch they are of the device type `meta`, which takes part in autograd
without a driver.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from audit.privatesnn.balance import balanced
from audit.privatesnn.settings import SYNTHESIS, Training
from audit.privatesnn.training import trained as trained_as_published
from compiler.config import ConversionConfig, EncryptionConfig, SynthesisConfig
from compiler.conversion import convert
from compiler.encryption import network as blocks
from compiler.encryption.train import encrypt
from compiler.frontend.architectures import ARCHITECTURES
from compiler.ir.snn import Encoding
from compiler.presets import load_preset
from compiler.presets.settings import TrainingSettings
from compiler.presets.training import train
from compiler.synthesis import synthesize

DEVICE = torch.device("meta")

COPIES = ("aten::_to_copy", "aten::copy_")
"""Operations that bring a tensor from one device to another."""

CPU_INDICES = ("aten::index", "aten::index_put_", "aten::_index_put_impl_")
"""Operations whose indices may lie on the CPU, on a GPU too."""

TO_NUMBERS = ("aten::_local_scalar_dense", "aten::equal")


class OnDevice(torch.Tensor):
    """A tensor of the device; `inner` is what it holds."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> OnDevice:
        made: OnDevice = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=DEVICE,
        )
        made.inner = inner
        return made

    @property
    def is_cuda(self) -> bool:
        """So that what is not for a GPU is not for this device."""
        return True

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(func, args, kwargs or {})


class _EveryOperation(TorchDispatchMode):
    """Those too that have no tensor of the device yet: a new one, a copy of the CPU's."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(func, args, kwargs or {})


def computed(func: Any, args: Any, kwargs: Any) -> Any:
    """The operation on the CPU; RuntimeError where a GPU would refuse its arguments."""
    name, tensors = func._schema.name, [
        leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)
    ]  # fmt: skip
    here = [tensor for tensor in tensors if isinstance(tensor, OnDevice)]
    if here and name not in COPIES:
        indices = list(args[1]) if name in CPU_INDICES else []
        for tensor in tensors:
            allowed = not tensor.dim() or any(tensor is index for index in indices)
            if not isinstance(tensor, OnDevice) and not allowed:
                raise RuntimeError(f"{name}: tensors on the device and on the CPU")
    out = func(*tree_map(_unwrapped, args), **tree_map(_unwrapped, kwargs))
    asked = kwargs.get("device")
    if name in TO_NUMBERS or not (here if asked is None else asked == DEVICE):
        return out
    if name == "aten::copy_":
        return args[0]
    known = {id(tensor.inner): tensor for tensor in here}

    def wrapped(one: Any) -> Any:
        if not isinstance(one, torch.Tensor):
            return one
        return known[id(one)] if id(one) in known else OnDevice(one)

    return tree_map(wrapped, out)


def _unwrapped(value: Any) -> Any:
    if isinstance(value, OnDevice):
        return value.inner
    on_device = isinstance(value, torch.device) and value == DEVICE
    return torch.device("cpu") if on_device else value


@contextmanager
def second_device() -> Iterator[None]:
    """Whatever asks compiler.ir.device where to compute is told: on the device."""
    with pytest.MonkeyPatch.context() as patch, _EveryOperation():
        for module in list(sys.modules.values()):
            if getattr(module, "__name__", "").split(".")[0] in ("compiler", "audit", "sim"):
                patch.setattr(module, "compute_device", lambda: DEVICE, raising=False)
        yield


IMAGES = SynthesisConfig(count=48, held_out=16, steps=3, batch=32)


@pytest.fixture(scope="module")
def ann() -> Any:
    return load_preset("digits")


def test_the_device_refuses_what_a_gpu_refuses() -> None:
    with second_device():
        there = torch.ones(3, device=DEVICE)
        copied = torch.arange(3.0).to(DEVICE)
        assert isinstance(there, OnDevice) and isinstance(copied, OnDevice)
        assert torch.equal((there + copied).cpu(), torch.tensor([1.0, 2.0, 3.0]))
        assert float((there * torch.tensor(2.0)).sum()) == 6
        with pytest.raises(RuntimeError, match="on the device and on the CPU"):
            there + torch.ones(3)
        with pytest.raises(RuntimeError, match="numpy"):
            there.numpy()


@pytest.mark.parametrize("smoothness", [0.0, 1.0])
def test_images_are_synthesized(ann: Any, smoothness: float) -> None:
    config = replace(IMAGES, smoothness=smoothness)
    expected = synthesize(ann, config, 0)
    with second_device():
        found = synthesize(ann, config, 0)
    assert np.array_equal(found.images_nchw, expected.images_nchw)
    assert np.array_equal(found.logits_nk, expected.logits_nk)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"reconversion_weight": 0.5},
        {"current_decay": 1000, "voltage_decay": 100},
        {"surrogate": "linear", "lowest_contrast": 0.5},
        {"memory_gb": 0.01},
    ],
    ids=lambda changes: next(iter(changes), "defaults"),
)
def test_it_trains_in_the_spiking_domain(
    ann: Any, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    images = synthesize(ann, IMAGES, 0)
    thresholds = ConversionConfig(timesteps=8, images=32)
    converted = convert(ann, images, thresholds, Encoding()).graph
    config = EncryptionConfig(epochs=1, batch=16, **changes)
    with second_device():
        found = encrypt(ann, converted, images, config, 0)
    monkeypatch.setattr(blocks.SlayerNetwork, "_quickest", lambda self: "torch")
    expected = encrypt(ann, converted, images, config, 0)
    assert found.epochs == expected.epochs
    for one, other in zip(found.graph.layers, expected.graph.layers, strict=True):
        assert np.array_equal(one.weight, other.weight)
        assert np.array_equal(one.bias, other.bias)


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "sgd", "milestones": (0.5,)},
        {"optimizer": "nesterov", "norm": "batch", "average": 0.9},
        {"optimizer": "nesterov", "norm": "scale", "label_smoothing": 0.1},
        {"optimizer": "adamw", "dropout": 0.2},
    ],
    ids=["sgd", "batch-norm", "scale", "adamw"],
)
def test_anns_are_trained(changes: dict[str, Any]) -> None:
    generator = np.random.default_rng(0)
    images = generator.random((40, 3, 8, 8), np.float32)
    labels = generator.integers(0, 3, 40)
    settings = TrainingSettings(epochs=2, batch=16, flip=True, shift=1, erase=2, **changes)

    def weights() -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        module = ARCHITECTURES["digits-cnn"]((3, 8, 8), 3)
        return train(module, images, labels, settings).state_dict()

    expected = weights()
    with second_device():
        found = weights()
        for name, tensor in found.items():
            assert not isinstance(tensor, OnDevice)
            assert torch.equal(tensor, expected[name]), name


def test_the_published_method_balances_and_trains(ann: Any) -> None:
    from audit.privatesnn.build import load_ann
    from compiler.presets import find_preset

    graph = load_ann(find_preset("digits"), None, None)
    images = synthesize(graph, replace(SYNTHESIS, count=48, held_out=16), seed=0)

    def answers() -> Any:
        network = balanced(graph, images.pixels(images.training), 8, seed=0)
        return trained_as_published(network, images, Training(epochs=1, batch=16), seed=0)

    expected = answers()
    with second_device():
        found = answers()
    assert found.network.thresholds == expected.network.thresholds
    assert found.losses == expected.losses and found.agreement == expected.agreement

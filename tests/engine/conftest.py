"""Random networks, a model in plain int64, and the two engines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from compiler.chip.engine.build import ENGINE_VARIABLE
from compiler.chip.engine.plan import plan_layers
from compiler.chip.engine.run import Wanted, engine, run_spikes, spikes_of
from compiler.ir.chip import ChipLayer, CubaFields
from compiler.ir.geometry import ConvGeometry, frozen

TOP = 1 << 23


@pytest.fixture(params=["c++", "numba"])
def each_engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a test with the compiled kernel, and without."""
    use(request.param, monkeypatch)
    return str(request.param)


def use(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "numba":
        monkeypatch.setenv(ENGINE_VARIABLE, "numba")
    else:
        monkeypatch.delenv(ENGINE_VARIABLE, raising=False)
    if engine().name != name:
        pytest.skip(f"no C++ compiler here: {engine().reason}")


@pytest.fixture
def use_engine(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    return lambda name: use(name, monkeypatch)


@pytest.fixture(scope="session")
def random_layers() -> Callable[..., list[ChipLayer]]:
    return _random_layers


def _random_layers(seed: int, loud: bool = False, groups: int = 1) -> list[ChipLayer]:
    """A chain of two convolutions and two dense layers with everything that a layer can have.

    loud: weights and decays that drive u and v beyond 24 bits.
    """
    generator = np.random.default_rng(seed)
    pick = lambda low, high: int(generator.integers(low, high + 1))  # noqa: E731
    shape = (groups * (pick(8, 10) if loud else pick(1, 3)), pick(3, 7), pick(3, 7))
    layers: list[ChipLayer] = []
    for index in range(2):
        geometry = ConvGeometry(
            (pick(1, 3), pick(1, 3)),
            ((pick(0, 2), pick(0, 2)), (pick(0, 2), pick(0, 2))),
            (pick(1, 2), pick(1, 2)),
            groups,
        )
        kernel = (pick(1, 2), pick(1, 2))
        outputs = groups * pick(1, 20)
        size = (outputs, shape[0] // groups, *kernel)
        after = (outputs, *geometry.output_size(shape[1:], kernel))
        if min(after) < 1:  # the kernel reaches beyond the image
            geometry, kernel = ConvGeometry(groups=groups), (1, 1)
            size, after = (*size[:2], 1, 1), (outputs, *shape[1:])
        layers.append(_layer(f"conv{index}", "conv", shape, after, size, generator, loud, geometry))
        shape = after
    for index in range(2):
        after = (pick(1, 40), 1, 1)
        size = (after[0], int(np.prod(shape)))
        layers.append(_layer(f"dense{index}", "dense", shape, after, size, generator, loud))
        shape = after
    return layers


def _layer(
    name: str,
    kind: str,
    before: Any,
    after: Any,
    size: tuple[int, ...],
    generator: np.random.Generator,
    loud: bool,
    geometry: ConvGeometry | None = None,
) -> ChipLayer:
    pick = lambda low, high: int(generator.integers(low, high + 1))  # noqa: E731
    weight = generator.integers(-256, 256, size)
    if loud:
        weight = np.where(generator.random(size[0]).reshape(-1, *[1] * (len(size) - 1)) < 0.5,
                          np.abs(weight) + 200, -np.abs(weight) - 200)  # fmt: skip
    forms: list[Any] = [None, after[:1], after]
    form = forms[pick(0, 2)]
    bias = None if form is None else frozen(generator.integers(-4096, 4096, form), np.int32)
    if loud:
        neuron = CubaFields(pick(60_000, 131_071), pick(0, 3), pick(0, 3))
    else:
        neuron = CubaFields(
            pick(1, 600), *((4096, 0) if pick(0, 1) else (pick(0, 4096), pick(0, 4096)))
        )
    delay = None
    if kind == "dense" and pick(0, 2) == 0:
        delay = frozen(generator.integers(0, 12, size), np.int32)
    return ChipLayer(
        name, kind, before, after, frozen(weight, np.int32), bias, neuron,
        geometry or ConvGeometry(), delay,
    )  # fmt: skip


@pytest.fixture(scope="session")
def plain() -> Callable[..., dict[str, Any]]:
    return _plain


def _plain(layer: ChipLayer, spikes_tnchw: Any) -> dict[str, Any]:
    """One layer in int64: the sum of every neuron written out, then the neuron step by step."""
    steps, samples = spikes_tnchw.shape[:2]
    arriving = np.zeros((steps, samples, *layer.shape), np.int64)
    for lag, weight in _by_delay(layer):
        if lag < steps:
            arriving[lag:] += _sums(layer, weight, spikes_tnchw[: steps - lag])
    keep_u, keep_v = 4096 - layer.neuron.i_decay, 4096 - layer.neuron.v_decay
    bias = np.zeros(1, np.int64) if layer.bias is None else np.asarray(layer.bias, np.int64)
    bias = bias.reshape(-1, 1, 1) if bias.ndim == 1 else bias
    u = np.zeros((samples, *layer.shape), np.int64)
    v, clips, wraps = u.copy(), np.zeros(samples, np.int64), 0
    spikes = np.zeros((steps, *u.shape), np.uint8)
    for t in range(steps):
        u = _toward_zero(u * keep_u) + 64 * arriving[t]
        over = np.where(u > TOP, -2 * TOP, np.where(u <= -TOP, 2 * TOP, 0))
        u, wraps = u + over, wraps + np.count_nonzero(over)
        v = _toward_zero(v * keep_v) + u + 64 * bias
        clips += np.count_nonzero(np.abs(v) > TOP - 1, axis=(1, 2, 3))
        v = np.clip(v, 1 - TOP, TOP - 1)
        spikes[t] = v > 64 * layer.neuron.v_th_mant
        v = np.where(spikes[t], 0, v)
    return {"spikes": spikes, "v": v, "clips": clips, "wraps": wraps}


def _toward_zero(product: Any) -> Any:
    return np.sign(product) * (np.abs(product) // 4096)


def _by_delay(layer: ChipLayer) -> list[tuple[int, Any]]:
    if layer.delay is None:
        return [(0, layer.weight)]
    lags = range(int(layer.delay.max()) + 1)
    return [(lag, np.where(layer.delay == lag, layer.weight, 0)) for lag in lags]


def _sums(layer: ChipLayer, weight: Any, spikes_tnchw: Any) -> Any:
    spikes = spikes_tnchw.astype(np.int64)
    if layer.kind == "dense":
        flat = spikes.reshape(*spikes.shape[:2], -1) @ np.asarray(weight, np.int64).T
        return flat.reshape(*spikes.shape[:2], -1, 1, 1)
    g, (_, rows, columns) = layer.geometry, layer.shape
    (top, bottom), (left, right) = g.padding
    padded = np.pad(spikes, [(0, 0)] * 3 + [(top, bottom), (left, right)])
    out = np.zeros((*spikes.shape[:2], *layer.shape), np.int64)
    each = layer.shape[0] // g.groups
    for o, i, ky, kx in np.ndindex(layer.weight.shape):
        y, x = ky * g.dilation[0], kx * g.dilation[1]
        channel = o // each * layer.weight.shape[1] + i
        view = padded[:, :, channel, y : y + rows * g.stride[0] : g.stride[0],
                      x : x + columns * g.stride[1] : g.stride[1]]  # fmt: skip
        out[:, :, o] += int(weight[o, i, ky, kx]) * view[..., :rows, :columns]
    return out


@pytest.fixture(scope="session")
def run_chain() -> Callable[..., Any]:
    return _run_chain


def _run_chain(layers: list[ChipLayer], spikes_tnchw: Any) -> tuple[Any, Any]:
    """Output of the last of some layers, and its spikes (T, N, C, H, W)."""
    plans = plan_layers(layers, spikes_tnchw.shape[2:])
    output = run_spikes(plans, np.moveaxis(spikes_tnchw, 2, -1), Wanted(spikes=True))[-1]
    return output, np.moveaxis(spikes_of(output, plans[-1]), -1, 2)

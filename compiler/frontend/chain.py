"""Building an AnnGraph layer by layer, with every problem collected on the way."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from compiler.errors import ModelError, Problem
from compiler.ir.ann import (
    INPUT,
    AnnGraph,
    AnnLayer,
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Dense,
    Flatten,
    InputAffine,
    Relu,
    output_shape,
)
from compiler.ir.geometry import Array, ConvGeometry, Pair, Shape, frozen
from compiler.ir.run_ann import run_layer

NO_PADDING: tuple[Pair, Pair] = ((0, 0), (0, 0))


_MEAN_OF_BYTES, _STD_OF_BYTES = 10.0, 100.0
"""From here on they are of pixels from 0 to 255: of those in [0, 1] a mean is at most 1, a
standard deviation at most 0.5, and a division by 255 counts as 255."""


@dataclass(frozen=True)
class _Border:
    """Padding waiting for the convolution that takes it in; value: (C,)."""

    name: str
    padding: tuple[Pair, Pair]
    value: Array


class ChainBuilder:
    """Collects layers and problems; `build` returns the graph or raises all problems at once.

    `shape` is (C, H, W) after the layers so far, padding included, or None once a layer
    did not fit. Weights may come in any float type; they are kept as float32.
    """

    def __init__(self, name: str, input_shape: Shape) -> None:
        self.name = name
        self.input_shape = input_shape
        self.shape: Shape | None = input_shape
        self.layers: list[AnnLayer] = []
        self.problems: list[Problem] = []
        self._border: _Border | None = None
        self._names: set[str] = set()

    def problem(self, layer: str, found: str, allowed: str, remedy: str) -> None:
        """Note one thing that stands in the way."""
        self.problems.append(Problem(layer, found, allowed, remedy))

    def pad(self, name: str, padding: tuple[Pair, Pair], value: float = 0.0) -> None:
        """Pad the image with a constant; taken in by the convolution that follows."""
        if padding == NO_PADDING or self.shape is None:
            return
        if min(min(pair) for pair in padding) < 0:
            self.problem(name, f"padding {padding}", "0 or more", "cropping is not supported")
            return
        if self._border is not None and np.all(self._border.value == value):
            padding = _sum(padding, self._border.padding)
            self._uncover(self._border)
            self._border = None
        self._refuse_border(name)
        channels, height, width = self.shape
        self._border = _Border(name, padding, np.full(channels, value, np.float64))
        self.shape = (channels, height + sum(padding[0]), width + sum(padding[1]))

    def conv(self, name: str, weight: Array, bias: Array | None, geometry: ConvGeometry) -> None:
        """Append a convolution; waiting padding is taken in, exactly for any constant."""
        border, self._border = self._border, None
        if border is not None and self.shape is not None:
            if border.value.any():
                bias = self._border_bias(border, Conv2d(name, weight, bias, geometry))
            geometry = replace(geometry, padding=_sum(geometry.padding, border.padding))
            self._uncover(border)
        kept = None if bias is None else frozen(bias, np.float32)
        self._append(Conv2d(self._unique(name), frozen(weight, np.float32), kept, geometry))

    def dense(self, name: str, weight: Array, bias: Array | None) -> None:
        """Append a dense layer, behind a flatten layer where the image has height or width."""
        self._refuse_border(name)
        self.flatten(f"{name}.flatten")
        kept = None if bias is None else frozen(bias, np.float32)
        self._append(Dense(self._unique(name), frozen(weight, np.float32), kept))

    def pool(
        self, name: str, kernel: Pair, geometry: ConvGeometry, count_include_pad: bool
    ) -> None:
        """Append average pooling; waiting padding of zeros is taken in where that is exact."""
        border = self._border
        if border is not None and self.shape is not None:
            mixed = geometry.padding != NO_PADDING and not count_include_pad
            if border.value.any() or mixed:
                self._refuse_border(name)
            else:
                self._border = None
                self._uncover(border)
                padding = _sum(geometry.padding, border.padding)
                geometry, count_include_pad = replace(geometry, padding=padding), True
        self._append(AvgPool2d(self._unique(name), kernel, geometry, count_include_pad))

    def relu(self, name: str, maximum: float | None = None) -> None:
        """Append a ReLU, clipped at `maximum` where given."""
        if self._border is not None:
            value = np.clip(self._border.value, 0.0, maximum)
            self._border = replace(self._border, value=value)
        self._append(Relu(self._unique(name), maximum))

    def affine(
        self,
        name: str,
        scale: Array,
        shift: Array,
        running: tuple[Array, Array] | None = None,
    ) -> None:
        """Append y = scale * x + shift per channel; scale, shift: (C,).

        At the input it becomes (or joins) the input affine. A shift alone joins the bias
        of the layer before. running: mean and variance that a batch-norm recorded.
        """
        if self._border is not None:
            value = self._border.value * scale + shift
            self._border = replace(self._border, value=value)
        before = self.layers[-1] if self.layers else None
        if before is None or isinstance(before, InputAffine):
            self._normalise(name, scale, shift)
        elif isinstance(before, (Conv2d, Dense)) and running is None and np.all(scale == 1):
            self.layers[-1] = _with_shift(before, shift)
        else:
            mean, variance = (
                (frozen(part, np.float32) for part in running) if running else (None,) * 2
            )
            name = self._unique(name)
            self._append(
                BatchNorm(
                    name, frozen(scale, np.float32), frozen(shift, np.float32), mean, variance
                )
            )

    def shift_places(self, shift: Array) -> bool:
        """Add (C, H, W) to the bias of a convolution just appended; False where there is none."""
        before = self.layers[-1] if self.layers else None
        if not isinstance(before, Conv2d) or self._border is not None:
            return False
        bias = np.zeros(1) if before.bias is None else before.bias.astype(np.float64)
        if bias.ndim == 1:
            bias = bias[:, None, None]
        self.layers[-1] = replace(before, bias=frozen(bias + shift, np.float32))
        return True

    @property
    def behind_relu(self) -> bool:
        """Whether the last layer is a ReLU, and no padding behind it is negative."""
        padded = self._border is not None and bool((self._border.value < 0).any())
        return bool(self.layers) and isinstance(self.layers[-1], Relu) and not padded

    def flatten(self, name: str) -> None:
        """Append a flatten layer unless the image is a vector already."""
        if self.shape is None or self.shape[1:] != (1, 1):
            self._refuse_border(name)
            self._append(Flatten(self._unique(name)))

    def reshape_input(self, shape: Shape) -> bool:
        """Declare another input shape; False once there is more than an input affine."""
        uniform = [_uniform(layer, shape[0]) for layer in self.layers]
        if self._border is not None or any(layer is None for layer in uniform):
            return False
        self.layers = [layer for layer in uniform if layer is not None]
        self.input_shape = self.shape = shape
        return True

    def resume(self, shape: Shape) -> None:
        """Go on from a known shape behind a layer that was refused, to find more problems."""
        self.shape = shape

    def build(self, class_names: tuple[str, ...] = ()) -> AnnGraph:
        """Return the graph; raises ModelError with every problem found."""
        self._refuse_border("output")
        weights = any(isinstance(layer, (Conv2d, Dense)) for layer in self.layers)
        if not weights and not self.problems:
            self.problem(
                self.name, "no layer with weights", "at least one", "check that this is a network"
            )
        for layer in self.layers:
            self._check_finite(layer)
            if isinstance(layer, InputAffine):
                self._check_range(layer)
        classes = None if self.shape is None else math.prod(self.shape)
        if class_names and classes not in (None, len(class_names)):
            self.problem(
                "class_names",
                f"{len(class_names)} names",
                f"{classes}, one for each output",
                "name every class, in the order of the outputs, or none",
            )
        if self.problems:
            raise ModelError(f"{self.name} cannot be compiled", self.problems)
        return AnnGraph(self.name, self.input_shape, tuple(self.layers), class_names)

    def _check_finite(self, layer: AnnLayer) -> None:
        """Note numbers of a layer that are NaN or infinite."""
        arrays = [value for value in vars(layer).values() if isinstance(value, np.ndarray)]
        bad = sum(int(np.sum(~np.isfinite(array))) for array in arrays)
        if bad:
            self.problem(
                layer.name,
                f"{bad} of {sum(array.size for array in arrays)} numbers that are not finite",
                "finite weights and biases",
                "export the network again, from a checkpoint of before its training diverged",
            )

    def _check_range(self, affine: InputAffine) -> None:
        """Note a preprocessing that is of pixels from 0 to 255; ours are in [0, 1]."""
        if np.all(affine.mean >= _MEAN_OF_BYTES) or np.all(affine.std >= _STD_OF_BYTES):
            self.problem(
                affine.name,
                f"mean {affine.mean.tolist()} and std {affine.std.tolist()} of the pixels, which "
                "are of pixels from 0 to 255",
                "those of pixels in [0, 1]",
                f"if the network takes 0 to 255, say so with --mean 0 --std {1 / 255:.8f}",
            )

    def _append(self, layer: AnnLayer) -> None:
        self.layers.append(layer)
        if self.shape is None:
            return
        try:
            self.shape = output_shape(layer, self.shape)
        except ValueError as misfit:
            found, allowed = misfit.args
            self.problem(layer.name, found, allowed, "check the image's size, --input-shape C,H,W")
            self.shape = None

    def _unique(self, name: str) -> str:
        name = name or "layer"
        number, unique = 2, name
        while unique in self._names or unique == INPUT:
            unique, number = f"{name}_{number}", number + 1
        self._names.add(unique)
        return unique

    def _normalise(self, name: str, scale: Array, shift: Array) -> None:
        """Join y = scale * x + shift with the input affine (x - mean) / std."""
        if not np.all(scale):
            self.problem(name, "a factor 0 at the input", "non-zero factors", "check the constants")
            return
        mean, std = np.zeros(scale.shape), np.ones(scale.shape)
        if self.layers and isinstance(first := self.layers.pop(), InputAffine):
            mean, std, name = first.mean.astype(float), first.std.astype(float), first.name
        else:
            name = self._unique(name)
        joined_mean = mean - shift * std / scale
        affine = InputAffine(name, frozen(joined_mean, np.float32), frozen(std / scale, np.float32))
        self.layers.append(affine)

    def _uncover(self, border: _Border) -> None:
        """Take the padding out of `shape` again."""
        if self.shape is not None:
            channels, height, width = self.shape
            rows, columns = sum(border.padding[0]), sum(border.padding[1])
            self.shape = (channels, height - rows, width - columns)

    def _border_bias(self, border: _Border, layer: Conv2d) -> Array:
        """Return the bias (out, H, W) that stands for a constant border."""
        channels, height, width = self.shape or self.input_shape
        (top, bottom), (left, right) = border.padding
        image = np.broadcast_to(border.value[:, None, None], (channels, height, width)).copy()
        image[:, top : height - bottom, left : width - right] = 0
        bias: Array = run_layer(layer, image[None])[0]
        return bias

    def _refuse_border(self, name: str) -> None:
        if self._border is not None:
            self.problem(
                self._border.name,
                f"padding that meets {name} before a convolution",
                "padding in front of a convolution",
                "move the padding, or train without it",
            )
            self._border = None


def _sum(first: tuple[Pair, Pair], second: tuple[Pair, Pair]) -> tuple[Pair, Pair]:
    rows = (first[0][0] + second[0][0], first[0][1] + second[0][1])
    columns = (first[1][0] + second[1][0], first[1][1] + second[1][1])
    return (rows, columns)


def _with_shift(layer: Conv2d | Dense, shift: Array) -> Conv2d | Dense:
    """Add `shift` (C,) to the bias."""
    bias = np.zeros(shift.shape) if layer.bias is None else layer.bias.astype(np.float64)
    moved = bias + (shift if bias.ndim == 1 else shift[:, None, None])
    return replace(layer, bias=frozen(moved, np.float32))


def _uniform(layer: AnnLayer, channels: int) -> InputAffine | None:
    """Return an input affine spread over other channels, None where its channels differ."""
    if not isinstance(layer, InputAffine):
        return None
    if np.ptp(layer.mean) or np.ptp(layer.std):
        return None
    mean, std = np.resize(layer.mean, channels), np.resize(layer.std, channels)
    return replace(layer, mean=frozen(mean, np.float32), std=frozen(std, np.float32))

"""Images to what drives a network: input spikes by the formula in the file, or input biases."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from compiler.chip.encoding import encode
from compiler.chip.fields import BIAS_MANT_ANY, TIMESTEP_CHOICES
from compiler.errors import DataError, Problem, UsageError, one_problem
from compiler.ir.chip import ChipGraph, ChipInput
from compiler.ir.geometry import Array, Shape
from compiler.ir.snn import Encoding


@dataclass(frozen=True)
class Drive:
    """What enters a network for `timesteps` steps a sample: one of the two arrays.

    spikes_tnchw: binary uint8; bias_nchw: int32 mantissas of the input neurons, constant
    over the steps of a sample.
    """

    timesteps: int
    spikes_tnchw: Array | None = None
    bias_nchw: Array | None = None

    @property
    def samples(self) -> int:
        """Number of samples."""
        if self.spikes_tnchw is not None:
            return int(self.spikes_tnchw.shape[1])
        return 0 if self.bias_nchw is None else int(self.bias_nchw.shape[0])


def drive_from_images(
    graph: ChipGraph,
    images_nchw: npt.ArrayLike,
    timesteps: int | None = None,
    encoding: Encoding | None = None,
    first_index: int = 0,
) -> Drive:
    """Encode images for a network.

    images_nchw: float in [0, 1] (in a network with input neurons: any range whose bias fits
    13 bits); `timesteps` and `encoding` are needed where the graph has none, and prevail;
    `first_index` is the index of the first image in its set, for the `poisson` code.
    Raises DataError for images that do not fit, UsageError for missing settings.
    """
    images = check_shape(images_nchw, graph.input_shape)
    steps = timesteps_for(graph, timesteps)
    if graph.input_neurons is not None:
        return Drive(steps, bias_nchw=input_bias(images, graph.input_neurons))
    check_range(images)
    code = encoding_for(graph, encoding)
    return Drive(steps, spikes_tnchw=encode(images, steps, code, first_index))


def timesteps_for(graph: ChipGraph, timesteps: int | None) -> int:
    """The given number of steps, or the graph's; UsageError if neither or out of range.

    Any number of steps: that Loihi 2 resets after a power of two of them binds no simulator.
    """
    steps = timesteps if timesteps is not None else graph.timesteps
    if steps is None or not 1 <= steps <= TIMESTEP_CHOICES[-1]:
        found = "no number of time-steps" if steps is None else f"{steps} time-steps"
        allowed = f"1..{TIMESTEP_CHOICES[-1]}"
        raise one_problem(
            UsageError, "cannot simulate", graph.name, found, allowed, "give --timesteps"
        )
    return steps


def encoding_for(graph: ChipGraph, encoding: Encoding | None) -> Encoding:
    """The given input code, or the graph's; UsageError if neither."""
    code = encoding if encoding is not None else graph.encoding
    if code is not None and code.code == "host":
        raise one_problem(
            UsageError,
            "cannot simulate",
            graph.name,
            "a network whose first layers are kept elsewhere",
            "images go through both parts",
            "give the file of the first layers too: --host FILE",
        )
    if code is None:
        raise one_problem(
            UsageError,
            "cannot simulate",
            graph.name,
            "a file that does not name its input code",
            "rate, poisson, latency",
            "give --encoding",
        )
    return code


def check_shape(images: npt.ArrayLike, shape: Shape) -> Array:
    """Images as a float array (N, C, H, W); DataError if they have another shape."""
    array: Array = np.asarray(images)
    if array.dtype.kind in "iub":
        array = array.astype(np.float32)
    if array.ndim != 4 or array.shape[1:] != shape or not array.shape[0]:
        allowed = f"(N, {', '.join(str(size) for size in shape)}) with N at least 1"
        remedy = "resize or reorder the images to (N, C, H, W)"
        found = f"images of shape {array.shape}"
        raise one_problem(DataError, "the images do not fit", "input", found, allowed, remedy)
    if array.dtype.kind != "f":
        found = f"images of type {array.dtype}"
        raise one_problem(
            DataError, "the images do not fit", "input", found, "float", "convert them"
        )
    return array


def check_range(images: Array) -> None:
    """DataError unless every pixel is a number in [0, 1]."""
    outside = ~((images >= 0) & (images <= 1))
    if not outside.any():
        return
    numbers = images[~np.isnan(images)]
    span = f"{numbers.min():g}..{numbers.max():g}" if numbers.size else "no number at all"
    problems = [
        Problem(
            "input",
            f"{int(outside.sum())} pixels out of range (all are {span}, "
            f"{int(np.isnan(images).sum())} are not a number)",
            "0..1",
            "divide by 255, and leave normalisation to the network",
        )
    ]
    raise DataError("the images do not fit", problems)


def input_bias(images: Array, neurons: ChipInput) -> Array:
    """bias_mant = trunc(x * weight) + bias, int32; DataError where it leaves 13 bits."""
    if not np.all(np.isfinite(images)):
        check_range(images)
    bias: Array = np.trunc(images.astype(np.float64) * neurons.weight) + neurons.bias
    problems = BIAS_MANT_ANY.problems(neurons.name, bias, "scale the images down")
    if problems:
        raise DataError("the images do not fit", problems)
    return bias.astype(np.int32)

"""Comparing the graph that was read with the torch module itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from compiler.errors import ModelError, one_problem
from compiler.frontend.torch_common import Ending
from compiler.ir.ann import AnnGraph
from compiler.ir.geometry import Array, Shape
from compiler.ir.probe import probe_images
from compiler.ir.run_ann import run_ann

LARGEST_DIFFERENCE = 1e-4  # over the spread of the module's outputs
ROUNDING = 10  # how many times what float32 itself loses is allowed
STRIDE = 4  # of the probe images taken: one of each kind
SEED = 0
REMEDY = (
    "the forward does what its trace does not show (a change in place, random numbers, a patched "
    "layer, sizes that depend on the batch): write each result to a variable of its own and use "
    "plain layers, or export the network to ONNX and compile that"
)


def check_same(
    module: nn.Module,
    graph: AnnGraph,
    input_shape: Shape,
    normalise: tuple[Any, Any] | None = None,
    ending: Ending | None = None,
) -> None:
    """Run `module` and `graph` on a few probe images; raises ModelError where they differ.

    module: takes (N, *input_shape), in evaluation mode, float32, on the CPU. normalise: scale
    and shift per channel that the graph applies to the pixels and the module does not.
    ending: the soft-max of the module that the graph leaves out.
    """
    images = probe_images(input_shape)[::STRIDE].astype(np.float32)
    expected = _outputs(module, _normalised(images, normalise), graph)
    pixels = images.reshape(len(images), *graph.input_shape)
    found = _ended(run_ann(graph, pixels), ending)
    if expected.shape != found.shape:
        raise _different(
            graph,
            f"outputs of shape {expected.shape} where its layers make {found.shape}",
            "the classes' logits, one vector an image",
        )
    difference, spread = _largest(expected - found), float(np.ptp(expected))
    allowed = LARGEST_DIFFERENCE * spread
    if difference <= allowed:
        return
    precise = _ended(run_ann(graph, pixels, dtype="float64"), ending)
    if not difference <= allowed + ROUNDING * _rounding(found, precise):
        raise _different(
            graph,
            f"outputs that differ by up to {difference:.3g} from those of the layers read, "
            f"their spread being {spread:.3g}",
            f"a difference of {LARGEST_DIFFERENCE:g} of the spread at most",
        )


def _normalised(images_nchw: Array, normalise: tuple[Any, Any] | None) -> Array:
    if normalise is None:
        return images_nchw
    scale, shift = (np.asarray(part, np.float32)[:, None, None] for part in normalise)
    normalised: Array = images_nchw * scale + shift
    return normalised


def _outputs(module: nn.Module, images_nchw: Array, graph: AnnGraph) -> Array:
    """Return the module's outputs (N, classes)."""
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            result = module(torch.tensor(images_nchw))  # a copy: it may be changed
    except Exception as error:  # the user's forward runs here and may raise anything
        found = f"on {len(images_nchw)} images {type(error).__name__}: {error}".splitlines()[0]
        raise _different(graph, found, "a forward that takes any number of images") from error
    if not isinstance(result, torch.Tensor):
        raise _different(graph, f"an output that is a {type(result).__name__}", "the logits alone")
    outputs: Array = result.detach().cpu().double().numpy()
    return outputs.reshape(len(outputs), -1) if outputs.ndim else outputs


def _ended(logits: Array, ending: Ending | None) -> Array:
    values = torch.from_numpy(logits).double()
    ended: Array = (values if ending is None else ending(values, 1)).numpy()
    return ended


def _rounding(single: Array, precise: Array) -> float:
    """Return what float32 loses, no less than a unit in the last place of the largest output."""
    unit = float(np.finfo(np.float32).eps)
    return max(_largest(single - precise), unit * _largest(precise))


def _largest(values: Array) -> float:
    return float(np.abs(values).max())


def _different(graph: AnnGraph, found: str, allowed: str) -> Exception:
    summary = f"{graph.name} does not compute what was read of it"
    return one_problem(ModelError, summary, graph.name, found, allowed, REMEDY)

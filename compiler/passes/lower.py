"""Running the passes in order, and proving after each that the network is still the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from compiler.errors import ModelError, one_problem
from compiler.ir.ann import AnnGraph, AvgPool2d, Conv2d, Dense, Relu
from compiler.ir.geometry import Array
from compiler.ir.probe import probe_images
from compiler.ir.run_ann import run_ann
from compiler.passes.affine_to_conv import affine_to_conv
from compiler.passes.drop_identity import drop_identity
from compiler.passes.fold_affine import fold_affine
from compiler.passes.fold_batch_norm import fold_batch_norm
from compiler.passes.fold_pool import fold_pool_back, fold_pool_forward
from compiler.passes.join_groups import join_groups, notes_on_joining
from compiler.passes.last_conv_to_dense import last_conv_to_dense
from compiler.passes.lowered_form import lowered_problems
from compiler.passes.merge_linear import merge_linear
from compiler.passes.place_flatten import place_flatten
from compiler.passes.pool_to_conv import pool_to_conv
from compiler.passes.symmetric_padding import symmetric_padding

Pass = Callable[[AnnGraph], AnnGraph]

PASSES: tuple[Pass, ...] = (
    place_flatten,
    drop_identity,
    fold_batch_norm,
    fold_pool_back,
    fold_pool_forward,
    pool_to_conv,
    fold_batch_norm,  # again, for those behind a pool that has just become a convolution
    fold_affine,
    affine_to_conv,
    merge_linear,
    last_conv_to_dense,
    symmetric_padding,
    join_groups,
)
POOLS_AS_NEURONS: tuple[Pass, ...] = tuple(one for one in PASSES if one is not fold_pool_forward)
LARGEST_DIFFERENCE = 1e-4


@dataclass(frozen=True)
class PassCheck:
    """What a pass did: whether it changed the graph, and how far the logits moved.

    largest_difference: of any logit on the probe images, over the largest logit.
    """

    name: str
    changed: bool
    largest_difference: float


@dataclass(frozen=True)
class LoweredResult:
    """A network of conv, dense, ReLU and flatten alone, with the proof of every step.

    notes: what a user should know about layers that changed their kind.
    """

    graph: AnnGraph
    checks: tuple[PassCheck, ...]
    notes: tuple[str, ...] = ()

    @property
    def largest_difference(self) -> float:
        """The largest difference that any pass made."""
        return max((check.largest_difference for check in self.checks), default=0.0)


def lower(graph: AnnGraph, passes: tuple[Pass, ...] = PASSES, seed: int = 0) -> LoweredResult:
    """Rewrite `graph` until it consists of Conv2d, Dense, Relu and Flatten alone.

    Every linear layer but the last is followed by a ReLU, the last by none; padding is
    symmetric, and Lava can hold the numbers of every convolution. After every pass the logits
    are compared with the original's on random and border-heavy images in double precision; a
    relative difference above 1e-4 raises ModelError, and so does, with all problems listed,
    what cannot be brought into this form.
    """
    images_nchw = probe_images(graph.input_shape, seed)
    original = run_ann(graph, images_nchw, dtype="float64")
    lowered = graph
    checks: list[PassCheck] = []
    joined: tuple[str, ...] = ()
    for step in passes:
        rewritten = step(lowered)
        changed = _changed(lowered, rewritten)
        checks.append(_check(step, rewritten, images_nchw, original, changed))
        if step is join_groups:
            joined = notes_on_joining(lowered, rewritten)
        lowered = rewritten
    problems = lowered_problems(lowered)
    if problems:
        raise ModelError(f"{graph.name} cannot be brought into spiking form", problems)
    return LoweredResult(lowered, tuple(checks), _notes(graph, lowered) + joined)


def pools_as_neurons(graph: AnnGraph, folded: AnnGraph, seed: int = 0) -> LoweredResult | None:
    """`graph` lowered so that no pool is folded into the layer behind it, as in `folded` it is.

    None where that changes nothing or where a pool cannot have neurons of its own.
    """
    if not any(isinstance(layer, AvgPool2d) for layer in graph.layers):
        return None
    try:
        lowered = lower(graph, POOLS_AS_NEURONS, seed)
    except ModelError:
        return None
    synapses = [
        sum(isinstance(layer, (Conv2d, Dense)) for layer in network.layers)
        for network in (folded, lowered.graph)
    ]
    return lowered if synapses[1] > synapses[0] else None


def _changed(before: AnnGraph, after: AnnGraph) -> bool:
    """Return whether a pass replaced any layer; passes keep the layers they leave alone."""
    same = len(before.layers) == len(after.layers)
    pairs = zip(before.layers, after.layers, strict=same)
    return not same or any(one is not other for one, other in pairs)


def _check(
    step: Pass, rewritten: AnnGraph, images_nchw: Array, original: Array, changed: bool
) -> PassCheck:
    name = step.__name__
    if not changed:
        return PassCheck(name, False, 0.0)
    logits = run_ann(rewritten, images_nchw, dtype="float64")
    largest = float(np.abs(original).max())
    difference = float(np.abs(logits - original).max()) / (largest or 1.0)
    if not difference <= LARGEST_DIFFERENCE:
        raise one_problem(
            ModelError,
            "a pass changed what the network computes",
            name,
            f"a relative difference of {difference:.2g}",
            f"{LARGEST_DIFFERENCE:g} at most",
            "this is a mistake of the compiler or a network of extreme weights; please report it",
        )
    return PassCheck(name, True, difference)


def _notes(original: AnnGraph, lowered: AnnGraph) -> tuple[str, ...]:
    pools = {layer.name for layer in original.layers if isinstance(layer, AvgPool2d)}
    notes = [
        f"{layer.name}: average pooling became a layer of neurons of its own, since it could not "
        "be folded exactly; a hard reset loses a part of its sums"
        for layer in lowered.layers
        if isinstance(layer, Conv2d) and layer.name in pools
    ]
    notes += [
        f"{layer.name}: a ReLU clipped at {layer.maximum:g} becomes a plain spiking layer, which "
        "is clipped by its largest firing rate instead"
        for layer in lowered.layers
        if isinstance(layer, Relu) and layer.maximum is not None
    ]
    return tuple(notes)

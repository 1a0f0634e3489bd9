"""Design rules: functions whose names are the rules, one tuple that runs them all.

A rule gets the network, the chip and the map of cores, and returns what breaks it. A
hard violation means that the chip cannot hold or run the network as asked; the others
are warnings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from compiler.chip.fields import ACCUMULATOR_LIMIT, I_DECAY
from compiler.errors import Problem
from compiler.resources.chips import LARGEST_DELAY, Chip
from compiler.resources.partition import CoreUse
from compiler.resources.shapes import NetworkShape

_WIDEST_CONVOLUTION = 254
"""A printed warning of Intel's compiler: spikes from x = 256 n - 1 may be dropped
(lava-dl tutorials netx/yolo_kp/run.ipynb)."""


@dataclass(frozen=True)
class Violation:
    """A rule that is broken: its name, whether it is hard, and the problem in words."""

    rule: str
    hard: bool
    problem: Problem


Found = Iterator[tuple[bool, Problem]]
Rule = Callable[[NetworkShape, Chip, Sequence[CoreUse]], Found]


def synapses_of_one_neuron_fit_one_core(
    network: NetworkShape, chip: Chip, cores: Sequence[CoreUse]
) -> Found:
    """A neuron lies on one core with all its synapses, which that core's memory must hold."""
    for use in _worst_of_each_layer(cores, lambda use: use.words):
        if use.words > chip.words.value:
            yield (
                True,
                Problem(
                    use.layer,
                    f"{use.words:,} words of synapses for {use.neurons} neurons",
                    f"{chip.words.value:,} words on a core of {chip.title}",
                    "give the layer fewer inputs: pool or stride more before it",
                ),
            )


def input_axons_fit_one_core(network: NetworkShape, chip: Chip, cores: Sequence[CoreUse]) -> Found:
    """Every presynaptic neuron (or place) of a core takes an input axon there."""
    for use in _worst_of_each_layer(cores, lambda use: use.input_axons):
        if use.input_axons > chip.input_axons.value:
            yield (
                True,
                Problem(
                    use.layer,
                    f"{use.input_axons:,} input axons",
                    f"{chip.input_axons.value:,} on a core of {chip.title}",
                    "pool or stride more before the layer, so that it has fewer inputs",
                ),
            )


def output_axons_fit_one_core(network: NetworkShape, chip: Chip, cores: Sequence[CoreUse]) -> Found:
    """A core sends its spikes once to every core that needs them."""
    for use in _worst_of_each_layer(cores, lambda use: use.output_axons):
        if use.output_axons > chip.output_axons.value:
            yield (
                True,
                Problem(
                    use.layer,
                    f"{use.output_axons:,} output axons for {use.neurons} neurons",
                    f"{chip.output_axons.value:,} on a core of {chip.title}",
                    "make the next layer smaller, so that it lies on fewer cores",
                ),
            )


def timesteps_are_a_power_of_two(
    network: NetworkShape, chip: Chip, cores: Sequence[CoreUse]
) -> Found:
    """Loihi 2 resets every `reset_interval` steps, which must be a power of two."""
    steps = network.timesteps
    if chip.name == "loihi2" and steps is not None and (steps < 1 or steps & (steps - 1)):
        near = 1 << max(steps, 1).bit_length()
        yield (
            True,
            Problem(
                network.name,
                f"T = {steps}",
                "a power of two on Loihi 2",
                f"compile with --timesteps {near // 2} or {near}",
            ),
        )


def current_decays_on_loihi1(network: NetworkShape, chip: Chip, cores: Sequence[CoreUse]) -> Found:
    """iDecay 0, a current that never decays, exists on Loihi 2 only."""
    for layer in network.layers:
        if chip.name == "loihi1" and layer.i_decay < I_DECAY.low:
            yield (
                True,
                Problem(
                    layer.name,
                    f"iDecay {layer.i_decay}",
                    I_DECAY.describe(),
                    "use iDecay 1 or more, or compile for loihi2",
                ),
            )


def synaptic_delays_fit_the_field(
    network: NetworkShape, chip: Chip, cores: Sequence[CoreUse]
) -> Found:
    """A synapse can hold a spike back by 62 steps at most."""
    for layer in network.layers:
        if layer.largest_delay > LARGEST_DELAY:
            yield (
                True,
                Problem(
                    layer.name,
                    f"a delay of {layer.largest_delay} steps",
                    f"0..{LARGEST_DELAY} steps",
                    "train with shorter delays",
                ),
            )


def network_fits_one_chip(network: NetworkShape, chip: Chip, cores: Sequence[CoreUse]) -> Found:
    """More cores than a chip has need a board with several chips."""
    if len(cores) > chip.cores.value:
        chips = -(-len(cores) // chip.cores.value)
        yield (
            False,
            Problem(
                network.name,
                f"{len(cores)} cores",
                f"{chip.cores.value} on one {chip.title}",
                f"use a board with at least {chips} chips, or a smaller network",
            ),
        )


def one_step_sum_fits_the_accumulator(
    network: NetworkShape, chip: Chip, cores: Sequence[CoreUse]
) -> Found:
    """On Loihi 1 the weights that arrive in one step are summed in 16 bits and wrap beyond."""
    for layer in network.layers:
        worst = layer.worst_sum
        if chip.name == "loihi1" and worst is not None and worst >= ACCUMULATOR_LIMIT:
            yield (
                False,
                Problem(
                    layer.name,
                    f"weights of one sign that sum to {worst:,}",
                    f"less than {ACCUMULATOR_LIMIT:,} arriving in one step",
                    f"it wraps, and Lava does not show it, once more than "
                    f"{ACCUMULATOR_LIMIT / worst:.0%} of that arrive in one step: scale the layer "
                    "down",
                ),
            )


def convolution_is_narrower_than_the_address(
    network: NetworkShape, chip: Chip, cores: Sequence[CoreUse]
) -> Found:
    """Intel's compiler warns of dropped spikes where a convolution reads 255 columns or more."""
    for layer in network.layers:
        wide = layer.kind == "conv" and layer.input_shape[2] > _WIDEST_CONVOLUTION
        if chip.name == "loihi2" and wide:
            yield (
                False,
                Problem(
                    layer.name,
                    f"an input {layer.input_shape[2]} columns wide",
                    f"at most {_WIDEST_CONVOLUTION} columns",
                    "resize the images, or turn them so that the width is the shorter side",
                ),
            )


def convolution_kind_is_documented(
    network: NetworkShape, chip: Chip, cores: Sequence[CoreUse]
) -> Found:
    """Groups and dilation are in the file format; nothing is published about them on the chip."""
    for layer in network.layers:
        geometry = layer.geometry
        if chip.name == "loihi2" and (geometry.groups > 1 or geometry.dilation != (1, 1)):
            yield (
                False,
                Problem(
                    layer.name,
                    f"groups {geometry.groups}, dilation {geometry.dilation}",
                    "groups 1 and dilation (1, 1) are known to run",
                    "try the layer on the chip before relying on it",
                ),
            )


RULES: tuple[Rule, ...] = (
    synapses_of_one_neuron_fit_one_core,
    input_axons_fit_one_core,
    output_axons_fit_one_core,
    timesteps_are_a_power_of_two,
    current_decays_on_loihi1,
    synaptic_delays_fit_the_field,
    network_fits_one_chip,
    one_step_sum_fits_the_accumulator,
    convolution_is_narrower_than_the_address,
    convolution_kind_is_documented,
)


def check(network: NetworkShape, chip: Chip, cores: Sequence[CoreUse]) -> tuple[Violation, ...]:
    """Run every rule; hard violations first, in the order of the rules."""
    found = [
        Violation(rule.__name__, hard, problem)
        for rule in RULES
        for hard, problem in rule(network, chip, cores)
    ]
    return tuple(sorted(found, key=lambda violation: not violation.hard))


def _worst_of_each_layer(cores: Sequence[CoreUse], key: Callable[[CoreUse], int]) -> list[CoreUse]:
    worst: dict[str, CoreUse] = {}
    for use in cores:
        if use.layer not in worst or key(use) > key(worst[use.layer]):
            worst[use.layer] = use
    return list(worst.values())

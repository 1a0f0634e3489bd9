"""The chain of layers in a NIR graph, with everything that breaks the chain named."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import nir
import numpy as np

from compiler.errors import Problem
from compiler.ir.geometry import Array
from netx_export.nir_neurons import SILENT, SPIKING

SYNAPSES = (nir.Conv2d, nir.Affine, nir.Linear)

_REMEDIES = {
    "NIRGraph": "write the nodes of the subgraph out",
    "SumPool2d": "write it as a Conv2d of ones before a neuron, or fold it into the next Conv2d",
    "AvgPool2d": "fold it into the next Conv2d: kernel and stride multiplied, weights divided",
    "Scale": "multiply it into the weights of the synapse before it",
    "Threshold": "use a neuron that integrates, such as IF",
    "Delay": "leave delays out",
    "Conv1d": "write it as a Conv2d of height 1",
}


@dataclass(frozen=True)
class Link:
    """One layer: a synapse node, a neuron node, and what a pair of nodes adds at every place.

    border: float (C, H, W) or None. flattened: whether a Flatten stood before the synapse.
    """

    name: str
    synapse: nir.NIRNode
    neuron: nir.NIRNode
    border: Array | None
    flattened: bool


def read_links(graph: nir.NIRGraph) -> tuple[nir.Input | None, list[Link], list[Problem]]:
    """The input, the layers in order, and every problem that keeps the graph from being a chain."""
    problems = [_unknown(name, node) for name, node in graph.nodes.items() if not _known(node)]
    edges = [(str(one), str(other)) for one, other in graph.edges]
    problems += [
        Problem(name, "an edge to a node that is not there", "nodes of the graph", "add the node")
        for edge in edges
        for name in edge
        if name not in graph.nodes
    ]
    inputs = [name for name, node in graph.nodes.items() if isinstance(node, nir.Input)]
    if len(inputs) != 1:
        found = f"{len(inputs)} Input nodes"
        problems.append(Problem("graph", found, "one Input", "give the graph one input"))
    if problems:
        return None, [], problems
    borders = _borders(graph, edges)
    aside = {name for border in borders.values() for name in border.nodes}
    order, problems = _walk(graph, [e for e in edges if not aside & set(e)], inputs[0], aside)
    links, more = _links(graph, order, borders)
    return graph.nodes[inputs[0]], links, problems + more


def _known(node: nir.NIRNode) -> bool:
    ends = (nir.Input, nir.Output, nir.Flatten)
    return isinstance(node, (*ends, *SYNAPSES, *SPIKING, *SILENT))


def _unknown(name: str, node: nir.NIRNode) -> Problem:
    kind = type(node).__name__
    allowed = "Conv2d, Affine, Linear, Flatten, IF, LIF, CubaLIF; I, LI or CubaLI as the last"
    return Problem(name, f"a node {kind}", allowed, _REMEDIES.get(kind, "leave it out"))


@dataclass(frozen=True)
class _Border:
    """The names of both nodes, and what they add."""

    nodes: tuple[str, str]
    bias: Array


def _borders(graph: nir.NIRGraph, edges: list[tuple[str, str]]) -> dict[str, _Border]:
    """For neurons, by name, the pair of nodes that adds a bias of its own at every place.

    One Conv2d whose weights are 0 makes one constant pixel, another spreads it.
    """
    found: dict[str, _Border] = {}
    before: dict[str, list[str]] = {}
    for one, other in edges:
        before.setdefault(other, []).append(one)
    for neuron, sources in before.items():
        for name in sources if len(sources) > 1 else ():
            first = before.get(name, [])
            if len(first) == 1 and edges.count((name, neuron)) == 1:
                bias = _spread(graph.nodes[first[0]], graph.nodes[name])
                if bias is not None:
                    found[neuron] = _Border((first[0], name), bias)
    return found


def _spread(one: nir.NIRNode, spread: nir.NIRNode) -> Array | None:
    """What the pair adds, (C, H, W), if it is such a pair."""
    if not isinstance(one, nir.Conv2d) or not isinstance(spread, nir.Conv2d):
        return None
    if np.any(one.weight) or one.weight.shape[0] != 1 or spread.weight.shape[1] != 1:
        return None
    height, width = spread.weight.shape[2:]
    padded = tuple(int(size) for size in np.atleast_1d(spread.padding))
    seen = () if one.input_shape is None else tuple(int(size) for size in one.input_shape)
    covers = tuple(one.weight.shape[2:]) == seen
    if padded != (height - 1, width - 1) or not covers:
        return None
    turned = spread.weight[:, 0, ::-1, ::-1].astype(np.float64)
    bias: Array = turned * float(one.bias[0]) + spread.bias[:, None, None]
    return bias


def _walk(
    graph: nir.NIRGraph, edges: list[tuple[str, str]], start: str, aside: set[str]
) -> tuple[list[str], list[Problem]]:
    """Names from the input to the output; branches, loops and what is not reached."""
    problems = []
    for which, counts in (
        ("successors", Counter(one for one, _ in edges)),
        ("predecessors", Counter(other for _, other in edges)),
    ):
        problems += [
            Problem(name, f"{count} {which}", "a chain of layers", "residuals and recurrence "
                    "cannot be said in NetX; leave them out")
            for name, count in sorted(counts.items()) if count > 1
        ]  # fmt: skip
    following = dict(reversed(edges))
    order = [start]
    while order[-1] in following and following[order[-1]] not in order:
        order.append(following[order[-1]])
    if not isinstance(graph.nodes[order[-1]], nir.Output):
        found = "a chain that does not end in an Output"
        problems.append(Problem(order[-1], found, "one Output", "connect the last neuron to it"))
    lost = sorted(set(graph.nodes) - set(order) - aside) if not problems else []
    problems += [Problem(name, "not on the chain", "one chain", "take it out") for name in lost]
    return order, problems


def _links(
    graph: nir.NIRGraph, order: list[str], borders: dict[str, _Border]
) -> tuple[list[Link], list[Problem]]:
    links: list[Link] = []
    problems: list[Problem] = []
    synapse, flattened = "", False
    for name in order[1:]:
        node = graph.nodes[name]
        if isinstance(node, nir.Flatten):
            flattened = True
        elif isinstance(node, SYNAPSES):
            if synapse:
                problems.append(_pairing(synapse, "a synapse behind which no neuron stands"))
            synapse = name
        elif isinstance(node, (*SPIKING, *SILENT)):
            if not synapse:
                problems.append(_pairing(name, "a neuron before which no synapse stands"))
            else:
                border = borders[name].bias if name in borders else None
                given = str(node.metadata.get("name", name))
                links.append(Link(given, graph.nodes[synapse], node, border, flattened))
            synapse, flattened = "", False
    if synapse:
        problems.append(_pairing(synapse, "a synapse behind which no neuron stands"))
    silent = [link.name for link in links[:-1] if isinstance(link.neuron, SILENT)]
    problems += [
        Problem(name, "a neuron that never spikes", "at the end alone", "give it a threshold")
        for name in silent
    ]
    return links, problems


def _pairing(name: str, found: str) -> Problem:
    remedy = "merge synapses that follow each other, and give each a neuron"
    return Problem(name, found, "synapse, neuron, synapse, neuron, ...", remedy)

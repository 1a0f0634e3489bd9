"""Pools folded or with neurons of their own: both are tried, and the rule that chooses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from compiler.config import ConversionConfig, SynthesisConfig
from compiler.conversion import convert
from compiler.ir import AnnGraph, AvgPool2d, Conv2d, ConvGeometry, Dense, Flatten, Relu
from compiler.ir.geometry import frozen
from compiler.ir.snn import Encoding
from compiler.passes import lower, pools_as_neurons
from compiler.pools import FOLDED, NEURONS, PoolChoice, choose_pools
from compiler.synthesis import synthesize


@pytest.fixture(scope="module")
def pooled() -> AnnGraph:
    generator = np.random.default_rng(4)

    def normal(*shape: int) -> Any:
        return frozen(generator.normal(0, 1.5 * np.prod(shape[1:]) ** -0.5, shape), np.float32)

    around = ConvGeometry(padding=((1, 1), (1, 1)))
    return AnnGraph(
        "pooled",
        (1, 12, 12),
        (
            Conv2d("a", normal(6, 1, 3, 3), None, around),
            Relu("r1"),
            AvgPool2d("pool", (2, 2), ConvGeometry((2, 2))),
            Conv2d("b", normal(8, 6, 3, 3), None, ConvGeometry()),
            Relu("r2"),
            Flatten("f"),
            Dense("d", 2 * normal(4, 128), normal(4)),
        ),
    )


@pytest.fixture(scope="module")
def graphs(pooled: AnnGraph) -> dict[str, AnnGraph]:
    folded = lower(pooled).graph
    neurons = pools_as_neurons(pooled, folded)
    assert neurons is not None
    return {FOLDED: folded, NEURONS: neurons.graph}


@pytest.fixture(scope="module")
def chosen(graphs: dict[str, AnnGraph]) -> Any:
    images = synthesize(graphs[FOLDED], SynthesisConfig(count=192, held_out=96, batch=192), seed=0)
    config = ConversionConfig(timesteps=32, images=96, percentiles=(99.9,))

    def with_margin(margin: float) -> PoolChoice:
        return choose_pools(
            graphs,
            lambda graph: (convert(graph, images, config, Encoding("rate")), None),
            images.pixels(images.validation),
            margin,
        )

    return with_margin


def test_there_is_a_second_way_only_where_a_pool_was_folded(graphs: dict[str, AnnGraph]) -> None:
    kinds = [type(layer).__name__ for layer in graphs[NEURONS].layers]
    assert kinds.count("Conv2d") == 3 and len(graphs[FOLDED].layers) < len(kinds)
    assert pools_as_neurons(graphs[FOLDED], graphs[FOLDED]) is None


def test_neurons_are_chosen_where_they_cost_less_and_agree_as_well(chosen: Any) -> None:
    choice = chosen(1.0)
    rows = {row["way"]: row for row in choice.tried}
    assert rows[NEURONS]["synops_per_sample"] < rows[FOLDED]["synops_per_sample"]
    assert choice.way == NEURONS and choice.graph.layers[2].name == "pool"
    assert "given neurons" in choice.in_words()


def test_folding_stays_where_neurons_lose_too_much(chosen: Any) -> None:
    rows = {row["way"]: row for row in chosen(0.0).tried}
    lost = rows[FOLDED]["agreement"] - rows[NEURONS]["agreement"]
    assert chosen(lost + 1e-9).way == NEURONS
    assert chosen(lost - 1e-9).way == FOLDED

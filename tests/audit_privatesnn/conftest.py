"""The kept network for digits, and a conversion of it on few synthetic images."""

from __future__ import annotations

from dataclasses import replace

import pytest

from audit.privatesnn.balance import balanced
from audit.privatesnn.build import load_ann
from audit.privatesnn.network import PrivateSnn
from audit.privatesnn.settings import SYNTHESIS
from compiler.ir.ann import AnnGraph
from compiler.ir.synthetic import SyntheticSet
from compiler.presets import find_preset
from compiler.synthesis import synthesize

TIMESTEPS = 24


@pytest.fixture(scope="session")
def ann() -> AnnGraph:
    return load_ann(find_preset("digits"), None, None)


@pytest.fixture(scope="session")
def synthetic(ann: AnnGraph) -> SyntheticSet:
    return synthesize(ann, replace(SYNTHESIS, count=160, held_out=32), seed=0)


@pytest.fixture(scope="session")
def converted(ann: AnnGraph, synthetic: SyntheticSet) -> PrivateSnn:
    return balanced(ann, synthetic.pixels(synthetic.training), TIMESTEPS, seed=0)

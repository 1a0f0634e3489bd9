"""The prediction of what Lava does to dense weights, against Lava's own functions."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from netx_export.lava_weights import weights_in_lava


def _load(relative: str) -> ModuleType:
    """A module of lava by its path: importing the package would take ten seconds."""
    spec = importlib.util.find_spec("lava")
    assert spec is not None and spec.submodule_search_locations is not None
    for folder in spec.submodule_search_locations:
        path = Path(folder) / relative
        if path.is_file():
            found = importlib.util.spec_from_file_location(path.stem, path)
            assert found is not None and found.loader is not None
            module = importlib.util.module_from_spec(found)
            found.loader.exec_module(module)
            return module
    raise FileNotFoundError(relative)


@pytest.fixture(scope="module")
def modules() -> tuple[ModuleType, ModuleType]:
    return _load("lib/dl/netx/utils.py"), _load("utils/weightutils.py")


def _lava(modules: tuple[ModuleType, ModuleType], weight: Any) -> Any:
    """The weights that Lava multiplies with, or None where it does not load them."""
    netx, lava = modules
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            stored, bits, exponent, _ = netx.optimize_weight_bits(weight)
        except OverflowError:
            return None
        if exponent > 0:
            return None
        mode = lava.determine_sign_mode(stored)
        clipped = lava.clip_weights(stored, mode, num_bits=8)
        return np.right_shift(lava.truncate_weights(clipped, mode, bits), -exponent)


def test_the_prediction_is_exact(
    modules: tuple[ModuleType, ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    generator = np.random.default_rng(3)
    changed = 0
    for _ in range(2000):
        low, high = np.sort(generator.integers(-300, 300, 2))
        low, high = (low, min(high, 0)) if generator.random() < 0.3 else (low, high)
        low, high = (max(low, 0), high) if generator.random() < 0.3 else (low, high)
        weight = generator.integers(min(low, high), max(low, high) + 1, (3, 4))
        weight = weight // 2 * 2 if generator.random() < 0.5 else weight
        expected, found = _lava(modules, weight), weights_in_lava(weight)
        if expected is None:
            assert found is None
        else:
            np.testing.assert_array_equal(found, expected)
            changed += not np.array_equal(expected, weight)
    assert changed > 20
    capsys.readouterr()


def test_even_weights_of_both_signs_are_kept() -> None:
    generator = np.random.default_rng(4)
    for _ in range(300):
        weight = 2 * generator.integers(-128, 128, (5, 6)) // generator.integers(1, 40) * 2
        weight[0, :2] = (-2, 2)
        found = weights_in_lava(weight.clip(-256, 254))
        assert found is not None
        np.testing.assert_array_equal(found, weight.clip(-256, 254))

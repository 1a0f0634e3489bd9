"""The number of time-steps chosen by agreement with the ANN on held-out synthetic images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from compiler.config import CompileConfig, ConversionConfig, with_overrides
from compiler.conversion import TimestepChoice, auto, convert, convert_auto
from compiler.errors import UsageError
from compiler.ir import AnnGraph
from compiler.ir.snn import Encoding
from compiler.ir.synthetic import SyntheticSet
from compiler.store import save

RATE = Encoding("rate")
CONFIG = ConversionConfig(
    timesteps="auto", auto_timesteps=(32, 4, 8), images=64, percentiles=(99.0, 99.9)
)


@pytest.fixture(scope="module")
def choice(digits: AnnGraph, images_of_digits: SyntheticSet) -> TimestepChoice:
    return convert_auto(digits, images_of_digits, CONFIG, RATE)


def test_every_number_is_converted_anew(choice: TimestepChoice) -> None:
    assert [one.timesteps for one in choice.tried] == [4, 8, 32]
    agreement = [one.weighted_agreement for one in choice.tried]
    assert agreement[0] < agreement[-1]
    thresholds = {tuple(one.conversion.graph.layers[0].bias) for one in choice.tried}
    assert len(thresholds) == 3  # the half spike is spread over T


def test_the_smallest_within_the_margin_of_the_best_is_kept(choice: TimestepChoice) -> None:
    agreement = {one.timesteps: one.weighted_agreement for one in choice.tried}
    assert choice.best == max(agreement.values())
    assert choice.wanted == choice.best - 0.02
    assert choice.timesteps == min(t for t, share in agreement.items() if share >= choice.wanted)
    assert choice.conversion.graph.timesteps == choice.timesteps
    assert choice.conversion in [one.conversion for one in choice.tried]


@pytest.mark.parametrize(("margin", "timesteps"), [(0.9, 4), (0.11, 8), (0.05, 16), (0.0, 32)])
def test_the_margin_decides(
    digits: AnnGraph, images_of_digits: SyntheticSet, monkeypatch: pytest.MonkeyPatch,
    margin: float, timesteps: int,
) -> None:  # fmt: skip
    """Agreements 0.6, 0.85, 0.93 and 0.95, then less for the largest T."""
    shares = {4: 0.6, 8: 0.85, 16: 0.93, 32: 0.95, 64: 0.94}

    def made_up(*arguments: Any) -> Any:
        graph = type("Graph", (), {"timesteps": arguments[2].timesteps})()
        return type("Conversion", (), {"graph": graph})()

    monkeypatch.setattr(auto, "convert", made_up)
    monkeypatch.setattr(auto, "run_snn", lambda graph, images: np.eye(65)[[graph.timesteps]])
    monkeypatch.setattr(auto, "weighted_agreement", lambda answers, teacher: shares[answers[0]])
    config = ConversionConfig(timesteps="auto", auto_margin=margin)
    found = convert_auto(digits, images_of_digits, config, RATE)
    assert (found.timesteps, found.best) == (timesteps, 0.95)


def test_an_image_counts_as_much_as_the_ann_is_sure_of_it() -> None:
    """Leads of 0.8, 0.4 and 0 in softmax probability; the last is a tie and counts nothing."""
    likely = np.array([[0.9, 0.1], [0.3, 0.7], [0.5, 0.5]])
    for answers, wanted in (
        ([0, 1, 1], 1.0), ([0, 0, 0], 0.8 / 1.2), ([1, 1, 0], 0.4 / 1.2), ([1, 0, 0], 0.0),
    ):  # fmt: skip
        found = auto.weighted_agreement(np.array(answers), np.log(likely).astype(np.float32) + 7)
        assert found == pytest.approx(wanted, abs=1e-6)
    assert auto.weighted_agreement(np.array([0, 1]), np.zeros((2, 2))) == 0.5  # nothing is sure


def test_the_same_as_asking_for_that_number(
    choice: TimestepChoice, digits: AnnGraph, images_of_digits: SyntheticSet, tmp_path: Any
) -> None:
    config = ConversionConfig(timesteps=choice.timesteps, images=64, percentiles=(99.0, 99.9))
    save(convert(digits, images_of_digits, config, RATE).graph, tmp_path / "asked")
    save(choice.conversion.graph, tmp_path / "chosen")
    assert (tmp_path / "asked").read_bytes() == (tmp_path / "chosen").read_bytes()


def test_progress_runs_once_through_everything(
    digits: AnnGraph, images_of_digits: SyntheticSet
) -> None:
    told: list[tuple[int, int]] = []
    config = ConversionConfig(
        timesteps="auto", auto_timesteps=(4, 8), images=16, percentiles=(99.0,)
    )
    convert_auto(digits, images_of_digits, config, RATE, lambda *done: told.append(done))
    total = told[0][1]
    assert told == [(done, total) for done in range(1, total + 1)] and total >= 2


def test_settings_name_it_and_refuse_what_makes_no_sense() -> None:
    asked = with_overrides(CompileConfig(), {"convert": {"timesteps": "auto"}})
    assert asked.convert.timesteps == "auto" and asked.convert.most_timesteps == 64
    again = with_overrides(asked, {"convert": {"timesteps": 16, "auto_margin": 0}})
    assert again.convert.timesteps == 16 == again.convert.most_timesteps
    for wrong in (
        {"timesteps": "fewest"},
        {"timesteps": 12},
        {"auto_timesteps": [4, 9]},
        {"auto_timesteps": []},
        {"auto_margin": 1.5},
    ):
        with pytest.raises(UsageError):
            with_overrides(CompileConfig(), {"convert": wrong})

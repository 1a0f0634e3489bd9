"""`--timesteps auto` through the whole command: the file, the report, resuming."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from netx_export import read_netx

AUTO = """
[convert]
auto_timesteps = [4, 8, 16]
auto_margin = 0.3
"""


@pytest.fixture(scope="module")
def asked(settings: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Arguments of a quick compile that chooses T; the flag prevails over the file's 16."""
    text = settings.read_text().replace("[convert]\n", AUTO.lstrip())
    path = tmp_path_factory.mktemp("auto") / "auto.toml"
    path.write_text(text)
    return ["--config", str(path), "--lava-samples", "0", "--timesteps", "auto"]


@pytest.fixture(scope="module")
def chosen(asked: list[str], export: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("chosen") / "run"
    outcome = export(*asked, "--out", folder, "--eval", "digits", "--samples", 20)
    assert outcome.status == 0, outcome.err
    return folder, outcome.out, json.loads((folder / "report.json").read_text())


def test_every_stage_after_the_choice_takes_its_t(chosen: Any) -> None:
    folder, out, report = chosen
    choice = report["conversion"]["timestep_choice"]
    steps = choice["timesteps"]
    agreement = {row["timesteps"]: row["weighted_agreement"] for row in choice["tried"]}
    assert list(agreement) == [4, 8, 16]
    assert choice["wanted"] == max(agreement.values()) - 0.3
    assert steps == min(t for t, share in agreement.items() if share >= choice["wanted"]) < 16
    assert read_netx(folder / "model.net").graph.timesteps == steps == report["timesteps"]
    assert {stage["timesteps"] for stage in report["stages"]} == {None, steps}
    layers = len(report["layers"]) - 1
    assert {row["time_steps"] for row in report["latency"]} <= {steps + layers, None}
    updates = [row["neuron_updates_per_sample"] for row in report["layers"][1:]]
    assert updates == [row["neurons"] * (steps + layers) for row in report["layers"][1:]]
    assert report["accuracy_by_timestep"][-1]["timesteps"] == steps
    assert f"T = {steps}: agrees with the ANN by" in " ".join(out.split())
    assert f"T = {steps} was chosen: the smallest of 4, 8, 16" in " ".join(out.split())


def test_both_curves_are_on_the_page(chosen: Any) -> None:
    folder, _, report = chosen
    page = (folder / "report.html").read_text()
    section = page[page.index('id="timestep-choice"') : page.index('id="timesteps"')]
    assert section.count("<svg") == 2
    for row in report["conversion"]["timestep_choice"]["tried"]:
        assert f"<title>{row['timesteps']}: {row['weighted_agreement']:.1%}</title>" in section
        assert f"<title>loihi1-davies-2018, chip, {row['timesteps']}: " in section
    joules = [
        row["snn_joules"]["loihi1-davies-2018, chip"]
        for row in report["conversion"]["timestep_choice"]["tried"]
    ]
    assert joules == sorted(joules) and joules[0] > 0


def test_it_goes_on_where_it_was_and_gives_the_same_bytes_as_the_number_itself(
    chosen: Any, asked: list[str], export: Any, tmp_path: Path
) -> None:
    folder, _, report = chosen
    outcome = export(*asked, "--out", folder, "--eval", "digits", "--samples", 20)
    assert outcome.status == 0 and outcome.out.count("already done") >= 8
    given = [*asked[:-1], str(report["timesteps"])]
    outcome = export(*given, "--out", tmp_path / "given", "--eval", "none", "--to", "verify")
    assert outcome.status == 0, outcome.err
    same = (tmp_path / "given" / "model.net").read_bytes()
    assert same == (folder / "model.net").read_bytes()


def test_a_file_of_settings_can_ask_for_it(
    chosen: Any, asked: list[str], export: Any, tmp_path: Path
) -> None:
    text = Path(asked[1]).read_text().replace("timesteps = 16", 'timesteps = "auto"')
    (tmp_path / "auto.toml").write_text(text)
    outcome = export(
        "--config", tmp_path / "auto.toml", "--out", tmp_path / "run", "--to", "convert"
    )
    assert outcome.status == 0, outcome.err
    found = (tmp_path / "run" / "private" / "converted.safetensors").read_bytes()
    assert found == (chosen[0] / "private" / "converted.safetensors").read_bytes()


@pytest.mark.parametrize("wrong", ["fewest", "12", "-4", "1e2"])
def test_another_word_or_number_is_wrong_usage(export: Any, tmp_path: Path, wrong: str) -> None:
    outcome = export("--timesteps", wrong, "--out", tmp_path / "run", "--to", "load")
    assert outcome.status == 2
    assert "auto" in outcome.err

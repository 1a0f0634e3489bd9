"""Flags and settings in one TOML file: the same names, what wins, and the file printed back."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import tomli
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.configure import read_toml
from compiler.errors import UsageError
from compiler.export import export, run
from compiler.options import make_request
from compiler.parts import UNITS, parts
from compiler.request import CompileRequest
from compiler.settings import FILE_FLAGS, merged, read_assignment, settings_text

FILE = """
preset = "digits"
out = "somewhere"
timesteps = 16
encoding = "latency"
eval = "none"
samples = 40
lava-samples = 2
target = "loihi2"
pictures = true
seed = 5

[encrypt]
epochs = 3
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "all.toml"
    path.write_text(FILE)
    return path


def asked(**options: Any) -> CompileRequest:
    return make_request(options, "test")


def test_every_flag_may_stand_in_the_file(file: Path) -> None:
    request = asked(config=file)
    assert (request.model.preset, request.out) == ("digits", Path("somewhere"))
    assert (request.config.convert.timesteps, request.config.encoding.code) == (16, "latency")
    assert (request.evaluation, request.evaluation_optional) == (None, False)
    assert (request.samples, request.lava_samples, request.target) == (40, 2, "loihi2")
    assert request.pictures
    assert (request.config.seed, request.config.encrypt.epochs) == (5, 3)


def test_a_preset_takes_the_place_of_the_files_network_and_of_what_describes_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "own.toml"
    path.write_text('model = "own.onnx"\nmean = [0.5]\nstd = [0.5]\nout = "there"\nsamples = 7\n')
    own, preset = asked(config=path), asked(config=path, preset="digits")
    assert (own.model.spec, own.model.mean) == ("own.onnx", (0.5,))
    assert (preset.model.preset, preset.model.spec, preset.model.mean) == ("digits", None, None)
    assert (preset.out, preset.samples) == (Path("there"), 7)
    other = asked(config=path, model="other.onnx")
    assert (other.model.spec, other.model.mean) == ("other.onnx", (0.5,))


def test_names_in_the_file_are_those_of_the_flags() -> None:
    flags = {flag.removeprefix("--") for option in export.params for flag in option.opts}
    of_python_alone = {"input_shape", "class_names", "name"}
    assert set(FILE_FLAGS) - of_python_alone <= flags
    assert FILE_FLAGS["input_shape"] == FILE_FLAGS["input-shape"], "as Python calls it"
    of_one_run = {"from", "to", "config", "set", "json", "quiet", "doctor", "seed"}
    assert flags - {"h", "help"} == set(FILE_FLAGS) - of_python_alone | of_one_run


def test_everything_wrong_with_a_file_is_said_at_once(tmp_path: Path) -> None:
    """Values, names that nobody knows, with what may have been meant, and flags too far below."""
    path = tmp_path / "wrong.toml"
    path.write_text(
        'samples = "8"\nmeen = [0.5]\nlava_samples = 3\n'
        '[convert]\nmodel = "a.onnx"\nimages = 0\n[encrypt]\nepochs = "x"\n[convrt]\na = 1\n'
    )
    with pytest.raises(UsageError) as caught:
        asked(config=path)
    told = {problem.found: problem for problem in caught.value.problems}
    assert len(told) == len(caught.value.problems) == 7
    assert told["setting meen"].remedy == "write mean, if that was meant"
    assert "lava-samples" in told["setting lava_samples"].remedy
    assert "above the first table" in told["setting model"].allowed
    assert {"0", "'x'", "setting convrt", "samples = '8'"} <= set(told)


def test_everything_wrong_with_the_options_is_said_at_once() -> None:
    with pytest.raises(UsageError) as caught:
        asked(timesteps=5, target="loihi3", samples=0)
    assert {problem.found for problem in caught.value.problems} == {"5", "loihi3", "0"}


def test_the_size_of_the_images_is_a_flag(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    for name in ("input-shape", "input_shape"):
        path.write_text(f'model = "own.onnx"\n{name} = [1, 8, 8]\n')
        assert asked(config=path).model.input_shape == (1, 8, 8)
    assert tomli.loads(settings_text(asked(config=path)))["input-shape"] == [1, 8, 8]
    outcome = CliRunner().invoke(export, ["own.onnx", "--input-shape", "8,8"])
    assert outcome.exit_code == 2 and "no image size such as 3,32,32" in outcome.output


def test_flags_win_over_the_file(file: Path) -> None:
    request = asked(config=file, timesteps=8, samples=7, out=Path("here"), evaluation="digits")
    assert request.config.convert.timesteps == 8
    assert (request.samples, request.out, request.evaluation) == (7, Path("here"), "digits")


def test_a_model_that_is_given_takes_the_place_of_the_files(file: Path) -> None:
    request = asked(config=file, model="other.onnx")
    assert (request.model.spec, request.model.preset) == ("other.onnx", None)
    assert request.samples == 40


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('samples = "many"\npictures = 1', ["samples", "a whole number", "pictures", "true or"]),
        ("mean = [true]", ["numbers in [ ]"]),
        ("mean = 0.5", ["numbers in [ ]"]),
        ("timesteps = 8\n[convert]\ntimesteps = 16", ["timesteps in [convert]", "leave one out"]),
        ("lava_samples = 3", ["lava_samples"]),
        ("samples = 0", ["1 or more"]),
        ('target = "loihi3"', ["loihi1 or loihi2"]),
    ],
)
def test_what_is_wrong_in_the_file_is_said(tmp_path: Path, text: str, words: list[str]) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        asked(config=path)
    for word in words:
        assert word in str(caught.value)


def test_set_is_a_line_of_the_file() -> None:
    lines = ("encrypt.epochs=8", "convert.percentiles=[99,99.9]", "encoding.code=latency", "seed=3")
    config = asked(settings=lines).config
    assert (config.encrypt.epochs, config.convert.percentiles) == (8, (99.0, 99.9))
    assert (config.encoding.code, config.seed) == ("latency", 3)


def test_set_wins_over_the_file_and_flags_over_both(file: Path) -> None:
    config = asked(config=file, settings=("encrypt.epochs=9", "seed=6"), seed=7).config
    assert (config.encrypt.epochs, config.seed) == (9, 7)


@pytest.mark.parametrize("text", ["epochs", "=3", "epochs=", "a b=3"])
def test_set_that_is_none(text: str) -> None:
    with pytest.raises(UsageError, match=r"encrypt\.epochs=8"):
        read_assignment(text)


def test_set_of_what_does_not_exist() -> None:
    with pytest.raises(UsageError, match="epoch"):
        asked(settings=("encrypt.epoch=8",))


@pytest.mark.parametrize(
    "name",
    [
        "synthesize.learning_rate",
        "synthesize.temperature_high",
        "convert.readout_margin",
        "encrypt.learning_rate",
        "encrypt.distill_temperature",
        "encrypt.hidden_weight",
        "encrypt.reconversion_weight",
        "encrypt.surrogate_width",
        "encrypt.surrogate_height",
        "encrypt.memory_gb",
    ],
)
@pytest.mark.parametrize("value", ["inf", "nan", "1e7", "1" + 400 * "0"])
def test_numbers_have_bounds(name: str, value: str) -> None:
    with pytest.raises(UsageError, match=re.escape(name)):
        asked(settings=(f"{name}={value}",))


@pytest.mark.parametrize("name", ["synthesize.concentrations", "convert.threshold_scales"])
@pytest.mark.parametrize("value", ["inf", "nan", "1e7"])
def test_numbers_of_lists_have_bounds(name: str, value: str) -> None:
    with pytest.raises(UsageError, match=re.escape(name)):
        asked(settings=(f"{name}=[1.0,{value}]",))


@pytest.mark.parametrize(
    "name",
    ["synthesize.count", "synthesize.steps", "synthesize.batch", "convert.images",
     "convert.bias_passes", "encrypt.epochs", "encrypt.batch", "encrypt.patience"],
)  # fmt: skip
def test_whole_numbers_have_an_upper_bound(name: str) -> None:
    asked(settings=(f"{name}=1000000000",))
    with pytest.raises(UsageError, match=rf"{re.escape(name)}: found .*\.\.1000000000"):
        asked(settings=(f"{name}=1000000001",))


def test_what_is_wrong_in_every_table_is_listed_in_words(tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(
        "seed = -1\n[synthesize]\ncount = 3\nsteps = 'few'\n[convert]\ntimesteps = 3.5\n"
        "percentiles = 99\n[encrypt]\nepochs = 0\nschedule = 1\nlearning_rate = true\n"
    )
    with pytest.raises(UsageError) as caught:
        asked(config=path)
    said = str(caught.value)
    for words in (
        "compile.seed: found -1",
        "synthesize.count: found 3; allowed: 16..1000000000",
        "synthesize.steps: found 'few'; allowed: a whole number.",
        'convert.timesteps: found 3.5; allowed: a whole number or "auto".',
        "convert.percentiles: found 99; allowed: a list such as [99.9].",
        "encrypt.epochs: found 0",
        "encrypt.schedule: found 1; allowed: a text.",
        "encrypt.learning_rate: found true; allowed: a number.",
    ):
        assert words in said


def test_merging_keeps_what_is_not_named() -> None:
    assert merged({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"c": 4}}) == {
        "a": {"b": 1, "c": 4},
        "d": 3,
    }


def test_what_is_printed_back_asks_for_the_same(file: Path, tmp_path: Path) -> None:
    printed = tmp_path / "printed.toml"
    for request in (
        asked(config=file),
        asked(preset="digits"),
        asked(settings=("convert.timesteps=auto",), evaluation="digits"),
        asked(model="a.onnx", mean=(0.5, 0.25), std=(1.0, 2.0), layout="nhwc", evaluation="none"),
        asked(model="a.onnx", class_names=("x", "y"), input_shape=(1, 4, 4), name="n"),
    ):
        printed.write_text(settings_text(request))
        assert asked(config=printed) == request


def test_every_setting_is_printed() -> None:
    from dataclasses import asdict

    request = asked(preset="digits")
    tables = tomli.loads(settings_text(request))
    config = asdict(request.config)
    assert config.keys() <= tables.keys()
    for name, table in config.items():
        if isinstance(table, dict):
            assert table.keys() == tables[name].keys()


def test_what_was_given_in_python_is_said_to_be_missing() -> None:
    import numpy as np
    from torch import nn

    from sim.data_readers import labelled_arrays

    images = labelled_arrays(np.zeros((2, 1, 4, 4), np.float32), np.zeros(2, np.int64))
    module = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    text = settings_text(asked(module=module, input_shape=(1, 4, 4), evaluation=images))
    assert "network was given in Python" in text and "images to measure on were given" in text
    assert "eval" not in tomli.loads(text)


def test_the_command_line_takes_them(tmp_path: Path) -> None:
    arguments = ["--set", "encrypt.epochs=0", "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(export, arguments)
    assert isinstance(result.exception, UsageError) and "epochs" in str(result.exception)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--timesteps", "--5"], "neither a number"),
        (["--timesteps", "٣٢"], "neither a number"),
        ([""], "model: found an empty text"),
        (["--out", ""], "an empty text"),
        (["--config", ""], "an empty text"),
    ],
    ids=["two signs", "other digits", "MODEL", "--out", "--config"],
)
def test_texts_that_name_nothing(
    arguments: list[str],
    word: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == 2
    assert word in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_json_needs_a_report(tmp_path: Path) -> None:
    result = CliRunner().invoke(export, ["--json", "-", "--to", "load", "--out", str(tmp_path)])
    assert result.exit_code == 2 and "--json needs the stage `report`" in result.output


def test_a_file_that_is_read_is_toml(file: Path) -> None:
    assert read_toml(file)["samples"] == 40


@settings(max_examples=50)
@given(
    st.lists(st.floats(0, 1e6), min_size=1, max_size=6),
    st.data(),
)
def test_parts_move_one_bar_forwards(lengths: list[float], data: st.DataObject) -> None:
    told: list[tuple[int, int]] = []
    for part in parts(lambda done, total: told.append((done, total)), lengths):
        total = data.draw(st.integers(0, 5))
        for done in range(total + 1):
            part(done, total)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert {total for _, total in told} == {UNITS}
    assert (told[0][0] >= 0 and told[-1][0] in (0, UNITS)) or sum(lengths) == 0

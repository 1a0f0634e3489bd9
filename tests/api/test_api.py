"""compile_model: the command line's compile, its result, its errors, and its silence."""

from __future__ import annotations

import inspect
import io
import json
import subprocess
import sys
from contextlib import redirect_stdout
from copy import deepcopy
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compiler import CompileResult, Progress, compile_model, read_result
from compiler.errors import CompilerError, DataError, ModelError, UsageError
from compiler.export import export, run
from compiler.pipeline import STAGE_NAMES

ROOT = Path(__file__).parents[2]
SEED = 3
OF_THE_COMMAND_LINE = {"last", "settings", "quiet", "doctor", "json_file", "json_output", "as_json"}
"""Options that have no argument: to stop early, to be silent, to print, one setting."""


@pytest.fixture(scope="module")
def compiled(
    network: Any, quick: Any, digits: Any, tmp_path_factory: pytest.TempPathFactory
) -> tuple[CompileResult, list[Progress], str]:
    """A compile, what it told, and what it printed."""
    told: list[Progress] = []
    out = tmp_path_factory.mktemp("api") / "run"
    with redirect_stdout(io.StringIO()) as printed:
        result = compile_model(
            network.train(), input_shape=(1, 8, 8), name="small", out=out, config=quick,
            seed=SEED, timesteps=16, mean=[0.5], std=0.25, eval=digits, samples=20,
            lava_samples=0, progress=told.append,
        )  # fmt: skip
    return result, told, printed.getvalue()


@pytest.fixture(scope="module")
def result(compiled: Any) -> CompileResult:
    made: CompileResult = compiled[0]
    return made


def toml(tables: dict[str, Any]) -> str:
    """Tables of numbers and lists of numbers as TOML."""
    lines = []
    for name, table in tables.items():
        lines += [f"[{name}]", *(f"{key} = {_written(value)}" for key, value in table.items())]
    return "\n".join(lines)


def _written(value: Any) -> str:
    return str(list(value)) if isinstance(value, tuple) else str(value)


def test_the_same_bytes_as_the_command_line(
    result: CompileResult, quick: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The module given to Python, the factory and the TOML file to the command line."""
    code = (Path(__file__).parent / "conftest.py").read_text()
    (tmp_path / "factories.py").write_text(
        f"{code}\n\ndef small():\n    net = make_network()\n    net.input_shape = (1, 8, 8)\n"
        "    return net\n"
    )
    (tmp_path / "quick.toml").write_text(toml(quick))
    monkeypatch.syspath_prepend(tmp_path)
    arguments = [
        "factories:small", "--out", tmp_path / "run", "--config", tmp_path / "quick.toml",
        "--seed", SEED, "--timesteps", 16, "--mean", "0.5", "--std", "0.25", "--quiet",
        "--to", "verify", "--lava-samples", "0",
    ]  # fmt: skip
    assert run([str(argument) for argument in arguments]) == 0
    assert (tmp_path / "run" / "model.net").read_bytes() == result.model_net.read_bytes()


def test_every_option_of_the_command_line_has_its_argument() -> None:
    arguments = set(inspect.signature(compile_model).parameters)
    other = {"evaluation": "eval", "first": "from_stage"}
    options = {str(param.name) for param in export.params} - OF_THE_COMMAND_LINE
    assert {other.get(name, name) for name in options} <= arguments


def test_nothing_is_printed_and_the_module_stays_as_it_is(compiled: Any, network: Any) -> None:
    assert compiled[2] == ""
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_progress_tells_every_stage(compiled: Any) -> None:
    told = compiled[1]
    assert [event.stage for event in told if event.event == "begin"] == list(STAGE_NAMES)
    ends = [event for event in told if event.event == "end"]
    assert [event.number for event in ends] == list(range(1, 11))
    assert all(event.seconds >= 0 and str(event).endswith(" s") for event in ends)
    steps = [event for event in told if event.event == "progress"]
    assert {"synthesize", "encrypt"} <= {event.stage for event in steps}
    assert all(0 <= event.done <= event.total for event in steps)


def test_the_result_has_every_field_of_the_report(result: CompileResult) -> None:
    report = json.loads((result.folder / "report.json").read_text())
    assert result.report == report
    for name in report:
        assert name in dir(result) and getattr(result, name) is not ..., name
    assert result.seed == SEED and result.model.name == "small" and result.timesteps == 16
    assert result.accuracy == {row["name"]: row["accuracy"] for row in report["stages"]}
    assert list(result.accuracy) == ["ann", "converted", "encrypted", "integer"]
    assert result.agreement.slayer_vs_reference.mismatches == 0
    assert result.agreement.reference_vs_lava is None
    assert [layer.kind for layer in result.layers] == ["input", "conv", "dense"]
    assert result.layers[1].synops_per_sample > 0
    assert result.resources[0].limits["cores"].value == 128
    assert isinstance(result.warnings, tuple) and isinstance(result.energy[0].snn_joules, float)
    assert not hasattr(result, "accuracies")


def test_the_command_is_kept(result: CompileResult) -> None:
    assert result.command.startswith("compile_model(model=<Sequential>, ")
    assert "timesteps=16" in result.command and "eval=(<ndarray>, <ndarray>)" in result.command


def test_the_result_is_read_only(result: CompileResult) -> None:
    with pytest.raises(FrozenInstanceError):
        result.folder = Path()  # type: ignore[misc]
    with pytest.raises((AttributeError, TypeError)):
        result.model.name = "other"
    with pytest.raises(TypeError):
        result.model["name"] = "other"
    result.report["seed"] = -1
    assert result.report["seed"] == SEED
    assert deepcopy(result.model) == result.model


def test_page_and_tables_are_those_of_the_command_line(
    result: CompileResult, tmp_path: Path
) -> None:
    page = result.report_html.read_text()
    assert result.to_html(tmp_path / "page.html") == page == (tmp_path / "page.html").read_text()
    text = str(result)
    assert "Every spike compared" in text and "\x1b" not in text
    assert max(len(line) for line in text.splitlines()) <= 100
    assert result._repr_html_().startswith("<iframe srcdoc=")


def test_a_result_is_read_again(result: CompileResult, tmp_path: Path) -> None:
    again = read_result(str(result.folder))
    assert again.report == result.report and again.to_html() == result.to_html()
    with pytest.raises(DataError, match="no finished compile"):
        read_result(tmp_path)


@pytest.mark.parametrize("content", ["[]", "null", '"text"'])
def test_a_report_that_is_no_table(tmp_path: Path, content: str) -> None:
    (tmp_path / "report.json").write_text(content)
    (tmp_path / "resources.json").write_text('{"chips": []}')
    with pytest.raises(DataError, match=r"report\.json"):
        read_result(tmp_path)


def test_arrays_are_measured_as_a_file_of_them_would_be(
    result: CompileResult, digits: Any, tmp_path: Path
) -> None:
    """Same images, same draw of samples, same accuracies; and no copy of them in the folder."""
    from sim.datasets import load_dataset

    np.savez(tmp_path / "digits.npz", x_test=digits[0], y_test=digits[1])
    data = load_dataset(f"npz:{tmp_path / 'digits.npz'}", samples=20, seed=SEED)
    assert result.evaluation.data == "arrays" and result.evaluation.samples == 20
    assert result.evaluation.sha256 == data.fingerprint
    pixels = digits[0].tobytes()[: digits[0][0].nbytes]
    files = [path for path in result.folder.rglob("*") if path.is_file()]
    assert files and not any(pixels in path.read_bytes() for path in files)


def test_other_labels_are_measured_again_and_nothing_else_runs(
    result: CompileResult, network: Any, quick: Any, digits: Any
) -> None:
    told: list[Progress] = []
    again = compile_model(
        network, input_shape=(1, 8, 8), name="small", out=result.folder, config=quick, seed=SEED,
        timesteps=16, mean=0.5, std=0.25, eval=(digits[0], (digits[1] + 1) % 10), samples=20,
        lava_samples=0, progress=told.append,
    )  # fmt: skip
    begun = [event.stage for event in told if event.event == "begin"]
    assert begun == ["load", "evaluate", "report"]  # a module is read anew each time
    assert again.evaluation.sha256 != result.evaluation.sha256
    assert again.hashes["sha256 of model.net"] == result.hashes["sha256 of model.net"]


def test_the_random_state_is_put_back(
    network: Any, quick: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(11)
    before = torch.random.get_rng_state()
    seen: list[torch.Tensor] = []

    def stop(progress: Progress) -> None:
        """End the compile, as a user's own exception would, once training has seeded."""
        seen.append(torch.random.get_rng_state())
        if progress.event == "end" and progress.stage == "encrypt":
            raise InterruptedError

    with pytest.raises(InterruptedError):
        compile_model(network, input_shape=(1, 8, 8), config=quick, eval="none", progress=stop)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not torch.equal(seen[-1], before)
    assert (tmp_path / "runs" / "Sequential" / "private").is_dir()


WRONG: list[tuple[dict[str, Any], type[CompilerError], str]] = [
    ({"preset": "nothing"}, UsageError, "digits, fashion-mnist"),
    ({"model": "net.onnx", "preset": "digits"}, UsageError, "not both"),
    ({"preset": "digits", "arch": "vgg9"}, UsageError, "arch"),
    ({"model": {"weight": 1}}, UsageError, "state dict"),
    ({"model": "absent.onnx"}, ModelError, "no file"),
    ({"model": torch.nn.Linear(3, 3)}, ModelError, "input_shape"),
    ({"model": torch.nn.Linear(3, 3), "input_shape": (3, 1.5, 1)}, ModelError, "input_shape"),
    ({"model": torch.nn.LSTM(3, 3), "input_shape": (1, 2, 3)}, ModelError, "LSTM"),
    ({"timesteps": 12}, UsageError, "a power of two"),
    ({"timesteps": "16"}, UsageError, "timesteps"),
    ({"encoding": "morse"}, UsageError, "poisson"),
    ({"layout": "chwn"}, UsageError, "nhwc"),
    ({"target": "loihi3"}, UsageError, "loihi2"),
    ({"samples": 0, "lava_samples": -1}, UsageError, "lava_samples"),
    ({"from_stage": "start"}, UsageError, "synthesize"),
    ({"config": {"encrypt": {"epoch": 3}}}, UsageError, "epochs"),
    ({"config": "absent.toml"}, UsageError, "absent.toml"),
    ({"eval": "npz:absent.npz"}, DataError, "nothing there"),
    ({"eval": np.zeros((2, 1, 8, 8))}, UsageError, "(images, labels)"),
    ({"eval": (np.zeros((2, 8, 8)), [0, 1])}, DataError, "(N, C, H, W)"),
    ({"eval": (np.full((2, 1, 8, 8), 255.0), [0, 1])}, DataError, "0 to 1"),
    ({"eval": (np.zeros((2, 1, 8, 8)), [0, 1, 2])}, DataError, "(2,)"),
    ({"eval": (np.zeros((2, 1, 8, 8)), [0.0, 1.0])}, DataError, "integers"),
]


@pytest.mark.parametrize(("settings", "kind", "words"), WRONG)
def test_what_is_wrong_is_raised(
    settings: dict[str, Any],
    kind: type[CompilerError],
    words: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(kind) as caught:
        compile_model(**settings, out=tmp_path / "run")
    assert words in str(caught.value)
    assert caught.value.problems
    assert capfd.readouterr() == ("", "")
    assert not (tmp_path / "run" / "model.net").exists()


def test_importing_loads_nothing() -> None:
    code = (
        "import sys, compiler; assert 'compile_model' in dir(compiler); "
        "roots = {name.split('.')[0] for name in sys.modules}; "
        "print(sorted(roots - sys.stdlib_module_names - set(sys.builtin_module_names)))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.append({str(ROOT)!r}); {code}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "['__main__', 'compiler']\n"


def test_an_unknown_name_is_an_attribute_error() -> None:
    import compiler

    with pytest.raises(AttributeError, match="compile_all"):
        compiler.compile_all  # noqa: B018

"""Bad input: one clear message, the documented exit status, nothing half-written."""

from __future__ import annotations

import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from compiler.presets import FOLDER

DIGITS = FOLDER / "digits.safetensors"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def refused(export: Any, tmp_path: Path) -> Any:
    """Run to the stage `load` and expect a status and words in the message."""

    def check(status: int, *words: str, arguments: list[Any], to: str = "load") -> str:
        folder = tmp_path / "out"
        has_out = "--out" in arguments
        outcome = export(*arguments, *([] if has_out else ["--out", folder]), "--to", to)
        assert outcome.status == status, outcome.err
        for word in words:
            assert word in outcome.err, outcome.err
        assert "Traceback" not in outcome.err + outcome.out
        found = [path for path in folder.rglob("*") if path.is_file()]
        assert {path.name for path in found} <= {"manifest.json", "lock"}
        return str(outcome.err)

    return check


def test_a_missing_file(refused: Any, tmp_path: Path) -> None:
    for name in ("absent.onnx", "absent.safetensors"):
        arguments = [tmp_path / name, "--arch", "digits-cnn"]
        refused(1, "error: ", name, "found no file", "What to do", arguments=arguments)


@pytest.mark.parametrize("name", ["text.onnx", "text.safetensors"])
def test_a_file_that_is_no_network(refused: Any, tmp_path: Path, name: str) -> None:
    for content in (b"", b"hello, this is no network at all", os.urandom(4000)):
        (tmp_path / name).write_bytes(content)
        refused(
            1, "error: ", name, "What to do", arguments=[tmp_path / name, "--arch", "digits-cnn"]
        )


def test_a_pickled_checkpoint_is_never_opened(refused: Any, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    torch.save({"weight": Trap()}, tmp_path / "model.pt")
    refused(
        1, "never opened", "safetensors", arguments=[tmp_path / "model.pt", "--arch", "digits-cnn"]
    )
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("prefix", ["", "module."])
def test_wrong_keys(refused: Any, tmp_path: Path, prefix: str) -> None:
    """All of them in one message, with and without DataParallel's prefix."""
    state = {prefix + key: value for key, value in load_file(DIGITS).items()}
    names = sorted(state)
    state[f"{prefix}surplus.weight"] = state.pop(names[0])
    state[names[-1]] = torch.zeros(3)
    save_file(state, tmp_path / "wrong.safetensors")
    message = refused(
        1, "surplus.weight", "(3,)", "What to do",
        arguments=[tmp_path / "wrong.safetensors", "--arch", "digits-cnn"],
    )  # fmt: skip
    for name in (names[0], names[-1]):
        assert name.removeprefix("module.") in message


def test_right_keys_behind_a_prefix(export: Any, tmp_path: Path) -> None:
    state = {f"module.{key}": value for key, value in load_file(DIGITS).items()}
    save_file(state, tmp_path / "parallel.safetensors")
    outcome = export(
        tmp_path / "parallel.safetensors", "--arch", "digits-cnn", "--out", tmp_path / "out",
        "--to", "lower",
    )  # fmt: skip
    assert outcome.status == 0, outcome.err


def test_a_file_without_its_architecture(refused: Any) -> None:
    refused(2, "--arch", "digits-cnn", "fashion-cnn", arguments=[DIGITS])
    refused(2, "resnet50", "digits-cnn", arguments=[DIGITS, "--arch", "resnet50"])


FACTORIES = """
from torch import nn
import torch

def with_shape(module, *shape):
    module.input_shape = shape
    return module.eval()

def recurrent():
    return with_shape(nn.Sequential(nn.Flatten(), nn.LSTM(64, 10)), 1, 8, 8)

def pooled():
    layers = nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(18, 3)
    return with_shape(nn.Sequential(*layers), 1, 8, 8)

def several():
    layers = nn.Conv2d(1, 2, 3), nn.Sigmoid(), nn.Flatten(), nn.Linear(72, 9), nn.GELU()
    return with_shape(nn.Sequential(*layers, nn.Linear(9, 3)), 1, 8, 8)

def raises():
    raise RuntimeError("the weights are at home")

def no_module():
    return 7
"""


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        ("recurrent", ["LSTM"]),
        ("pooled", ["MaxPool2d", "average pooling"]),
        ("several", ["Sigmoid", "GELU"]),
        ("raises", ["the weights are at home"]),
        ("no_module", ["int"]),
        ("absent", ["absent"]),
    ],
)
def test_a_network_that_cannot_be_compiled(
    refused: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factory: str, words: list[str]
) -> None:
    (tmp_path / "their_networks.py").write_text(FACTORIES)
    monkeypatch.syspath_prepend(tmp_path)
    message = refused(
        1, "error: ", "allowed", "What to do", arguments=[f"their_networks:{factory}"], to="lower"
    )
    for word in words:
        assert word.lower() in message.lower(), message


@pytest.mark.parametrize("steps", ["0", "30", "33", "-4", "2048"])
def test_time_steps_that_are_no_power_of_two(refused: Any, steps: str) -> None:
    refused(2, "timesteps", f"found {steps};", "power of two", arguments=["--timesteps", steps])


def test_a_folder_that_cannot_be_made(refused: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a regular file")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        refused(1, "--out", str(out), "What to do", arguments=["--out", out])
    assert (tmp_path / "file").read_text() == "a regular file"


def test_stages_in_the_wrong_order(export: Any, tmp_path: Path) -> None:
    outcome = export("--from", "verify", "--to", "convert", "--out", tmp_path / "out")
    assert outcome.status == 2
    assert "--from verify comes after --to convert" in outcome.err
    assert not (tmp_path / "out").exists()


BAD_TOML = {
    "no toml": ("[synthesize\ncount = ", ["line 1"]),
    "unknown": ("[synthesise]\ncount = 3\n[encrypt]\nepoch = 2", ["synthesise", "epoch", "epochs"]),
    "types": ("seed = 'one'\n[convert]\nimages = 3.5", ["'one'", "3.5", "a whole number"]),
    "ranges": ("[synthesize]\ncount = 3\nsteps = 0", ["count", "16..1000000000", "steps"]),
    "no table": ("convert = 3", ["[convert]"]),
    "items": (
        "[convert]\npercentiles = ['high', 99]",
        ["percentiles", "'high'", "a list such as [99.9]"],
    ),
    "empty": ("[synthesize]\nconcentrations = []", ["concentrations"]),
    "nan": ("[encrypt]\nlearning_rate = nan", ["learning_rate"]),
}


@pytest.mark.parametrize("case", BAD_TOML)
def test_bad_settings(refused: Any, tmp_path: Path, case: str) -> None:
    text, words = BAD_TOML[case]
    (tmp_path / "bad.toml").write_text(text)
    message = refused(2, "error: ", arguments=["--config", tmp_path / "bad.toml"])
    for word in words:
        assert word in message, message


def test_a_settings_file_that_is_none(refused: Any, tmp_path: Path) -> None:
    refused(2, "absent.toml", arguments=["--config", tmp_path / "absent.toml"])
    refused(2, str(tmp_path), arguments=["--config", tmp_path])
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    refused(2, "binary.toml", arguments=["--config", tmp_path / "binary.toml"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--preset", "cats"], ["--preset", "'cats'", "digits", "fashion-mnist"]),
        (["--recipe", "magic"], ["recipe", "magic", "distill"]),
        (["--encoding", "morse"], ["--encoding", "morse", "rate"]),
        (["--seed", "-1"], ["seed", "-1"]),
        (["--seed", "often"], ["--seed", "often"]),
        (["--mean", "a,b"], ["--mean", "a,b"]),
        (["--layout", "hwc"], ["--layout", "hwc"]),
        (["--samples", "0"], ["--samples"]),
        (["--lava-samples", "-1"], ["--lava-samples"]),
        (["--from", "start"], ["--from", "start"]),
        (["--no-such-option"], ["--no-such-option"]),
        (["one.onnx", "two.onnx"], ["two.onnx"]),
        (["one.onnx", "--preset", "digits"], ["MODEL", "--preset"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_wrong_usage(refused: Any, arguments: list[str], words: list[str]) -> None:
    refused(2, *words, arguments=arguments)


def test_a_chip_that_is_not_known(refused: Any) -> None:
    message = refused(2, "loihi3", "loihi1", arguments=["--target", "loihi3"])
    assert "loihi2" in message


@pytest.mark.parametrize("spec", ["cats", "idx:", "tiff:/tmp", "imagefolder"])
def test_data_that_is_no_kind_of_data(
    finished: Path, export: Any, command: list[str], spec: str
) -> None:
    """Found before anything is computed, not after the training."""
    outcome = export(*command, "--out", finished, "--eval", spec, "--from", "convert")
    assert outcome.status == 2, outcome.err
    for word in (repr(spec), "imagefolder:DIR-or-ZIP", "idx:DIR"):
        assert word in outcome.err
    assert outcome.out == "" and "Traceback" not in outcome.err


@pytest.mark.parametrize("kind", ["missing", "damaged", "shape", "too many"])
def test_data_that_does_not_fit(
    finished: Path, export: Any, command: list[str], tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "images.npz"
    more: list[str] = []
    images, labels = np.zeros((4, 1, 8, 8), np.uint8), np.arange(4)
    if kind == "missing":
        assert export(*command, "--eval", f"idx:{path}", "--out", finished).status == 1
    elif kind == "damaged":
        path.write_bytes(b"PK\x03\x04 not really")
    elif kind == "shape":
        np.savez(path, images=np.zeros((4, 1, 9, 8), np.uint8), labels=labels)
    elif kind == "too many":
        np.savez(path, images=images, labels=labels)
        more = ["--samples", "5"]
    outcome = export(*command, "--out", finished, "--eval", f"npz:{path}", *more)
    assert outcome.status == 1, outcome.err
    assert outcome.err.startswith("error: ") and "What to do" in outcome.err
    assert "Traceback" not in outcome.err


def test_a_caller_keeps_its_own_handler_of_signals(export: Any, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert export("--preset", "cats", "--out", tmp_path).status == 2
    assert export("--out", tmp_path, "--to", "load").status == 0
    assert signal.getsignal(signal.SIGTERM) is before


def on_a_terminal(arguments: list[str], seconds: float, sent: int | None) -> tuple[int, str]:
    """Exit status and what a terminal was sent; after `seconds` the signal goes out."""
    main, beside = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "compiler.export", *arguments],
        cwd=ROOT, stdin=subprocess.DEVNULL, stdout=beside, stderr=beside,
        env=dict(os.environ, TERM="xterm", COLUMNS="120"),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    os.close(beside)
    shown, deadline = b"", time.monotonic() + seconds
    while child.poll() is None or select.select([main], [], [], 0)[0]:
        if sent is not None and time.monotonic() > deadline:
            child.send_signal(sent)
            sent = None
        if select.select([main], [], [], 0.1)[0]:
            try:
                shown += os.read(main, 65536)
            except OSError:
                break
    os.close(main)
    return child.wait(), shown.decode()


def test_an_interrupted_terminal_gets_its_cursor_back(tmp_path: Path) -> None:
    settings = tmp_path / "long.toml"
    settings.write_text("[synthesize]\ncount = 64\nheld_out = 24\nsteps = 100000")
    status, shown = on_a_terminal(
        ["--config", str(settings), "--out", str(tmp_path / "out")], 15, signal.SIGINT
    )
    assert status == 130
    assert "synthesize" in shown and "interrupted" in shown
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")


def test_what_is_not_understood_leaves_an_older_result_alone(
    finished: Path, export: Any, command: list[str]
) -> None:
    before = {path.name: path.read_bytes() for path in finished.iterdir() if path.is_file()}
    for wrong in (["--timesteps", "9"], ["--preset", "cats"], ["--eval", "cats"]):
        assert export(*command, "--out", finished, *wrong).status == 2
    for name, content in before.items():
        if name != "manifest.json":
            assert (finished / name).read_bytes() == content, name
    assert shutil.disk_usage(finished).total > 0

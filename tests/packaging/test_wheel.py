"""The wheel holds the four packages with all their data, and installs with its scripts."""

from __future__ import annotations

import configparser
import email
import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("audit", "compiler", "netx_export", "sim")
SCRIPTS = {
    "private-snn-compile": "compiler.export:run",
    "private-snn-sim": "sim.run:run",
    "private-snn-audit": "audit.leakage:run",
}
NEEDED = {
    "compiler/chip/engine/kernel.cpp",
    "compiler/chip/engine/neurons.hpp",
    "compiler/chip/engine/sums.hpp",
    "compiler/chip/engine/types.hpp",
    "compiler/encryption/training.cpp",
    "compiler/presets/digits.safetensors",
    "compiler/presets/fashion_mnist.safetensors",
    "compiler/report_parts/report.html.j2",
    "compiler/report_parts/style.css",
    "sim/energy_models/loihi1_davies_2018.toml",
    "audit/judges/weights/digits/conv-bn.safetensors",
    *(f"{package}/py.typed" for package in PACKAGES),
}
SETTINGS = """
[synthesize]
count = 48
held_out = 16
steps = 2
batch = 48
[convert]
timesteps = 8
images = 16
threshold_scales = [1.0]
[encrypt]
epochs = 1
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (made,) = folder.glob("*.whl")
    return made


def tracked() -> set[str]:
    """Files of the packages that git knows or does not ignore, and that are there."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *PACKAGES],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return {name for name in listed.stdout.splitlines() if (ROOT / name).is_file()}


def information(wheel: Path, name: str) -> str:
    """A file of the wheel's .dist-info."""
    with zipfile.ZipFile(wheel) as archive:
        (path,) = [path for path in archive.namelist() if path.endswith(f".dist-info/{name}")]
        return archive.read(path).decode()


def test_it_holds_the_packages_with_all_their_data(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert names >= NEEDED
    own = {name for name in names if ".dist-info/" not in name}
    assert own == tracked()


def test_it_has_no_other_top_level_name(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)


def test_its_scripts_are_the_command_lines(wheel: Path) -> None:
    points = configparser.ConfigParser()
    points.read_string(information(wheel, "entry_points.txt"))
    assert dict(points["console_scripts"]) == SCRIPTS


def test_its_licence_and_its_version_are_told(wheel: Path) -> None:
    from compiler import __version__

    metadata = email.message_from_string(information(wheel, "METADATA"))
    assert metadata["License-Expression"] == "BSD-3-Clause"
    assert metadata["Version"] == __version__
    assert metadata["Requires-Python"] == "==3.10.*"
    assert "The private-snn-compiler authors" in information(wheel, "licenses/LICENSE")


def installed(wheel: Path, folder: Path) -> Path:
    """The folder of scripts of a new environment: the wheel, and all else from this one."""
    venv.create(folder, with_pip=False)
    inner = folder / "lib" / "python3.10" / "site-packages"
    outer = Path(next(path for path in sys.path if path.endswith("site-packages")))
    (inner / "outer.pth").write_text(f"{outer}\n")
    command = ["uv", "pip", "install", "--no-deps", "--offline", "--python", folder, wheel]
    subprocess.run([str(part) for part in command], check=True, capture_output=True)
    return folder / "bin"


@pytest.mark.slow
def test_its_scripts_work_in_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    scripts = installed(wheel, tmp_path / "environment")
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "quick.toml").write_text(SETTINGS)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}

    def call(name: str, *arguments: str) -> str:
        done = subprocess.run(
            [str(scripts / name), *arguments],
            cwd=empty, env=environment, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    place = [str(scripts / "python"), "-c", "import compiler; print(compiler.__file__)"]
    found = subprocess.run(place, cwd=empty, env=environment, capture_output=True, text=True)
    assert found.stdout.startswith(str(tmp_path / "environment")), found.stderr
    for name in SCRIPTS:
        assert call(name, "--help").startswith(f"Usage: {name} ")
    call("private-snn-compile", "--config", "quick.toml", "--samples", "20", "--quiet",
         "--lava-samples", "1")  # fmt: skip
    report = json.loads((empty / "runs" / "digits" / "report.json").read_text())
    assert report["agreement"]["reference_vs_lava"]["mismatches"] == 0
    call("private-snn-sim", "runs/digits/model.net", "--data", "digits", "--samples", "20",
         "--json", "figures.json", "--quiet")  # fmt: skip
    figures = json.loads((empty / "figures.json").read_text())
    (integer,) = [row for row in report["stages"] if row["name"] == "integer"]
    assert figures["accuracy"] == integer["accuracy"]
    assert figures["engine"] == "c++"  # its sources came with the wheel

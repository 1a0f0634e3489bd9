"""Imports go one way, Lava stays behind two doors, and `--help` loads nothing heavy."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("compiler", "netx_export", "sim", "audit")
GROUND = {"compiler.errors", "compiler.files", "compiler.ir", "compiler.chip"}
FRAME = {"compiler.commandline", "compiler.distributed", "compiler.quantities", "compiler.versions"}
PARTS = ("frontend", "passes", "synthesis", "conversion", "encryption", "quantization")
ALLOWED: dict[str, set[str]] = {
    "compiler.errors": set(),
    "compiler.files": set(),
    "compiler.ir": {"compiler.errors"},
    "compiler.chip": {"compiler.errors", "compiler.ir"},
    "compiler.resources": GROUND,
    **{f"compiler.{part}": GROUND | {"compiler.config", "compiler.store"} for part in PARTS},
    "netx_export": GROUND | FRAME,
    "sim": GROUND | FRAME | {"netx_export", "compiler.resources"},
}
"""Package -> what it may import beside itself. Packages that are not named may import more."""


def files() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def imports(path: Path, top_level_only: bool = False) -> Iterator[str]:
    """Full names of the modules, or of the names in them, that a file imports."""
    tree = ast.parse(path.read_text())
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def package_of(name: str) -> str:
    """`compiler.ir` for compiler.ir.ann.Conv2d, `sim` for sim.run."""
    head, *rest = name.split(".")
    return f"{head}.{rest[0]}" if head == "compiler" and rest else head


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


OWN = [path for path in files() if package_of(module_of(path)) in ALLOWED]


@pytest.mark.parametrize("path", OWN, ids=module_of)
def test_imports_go_one_way(path: Path) -> None:
    own = package_of(module_of(path))
    found = {package_of(name) for name in imports(path) if name.split(".")[0] in PACKAGES}
    assert found - {own} <= ALLOWED[own]


def test_the_table_names_packages_that_exist() -> None:
    assert {package_of(module_of(path)) for path in OWN} == set(ALLOWED)


def test_only_the_command_line_and_the_api_know_the_pipeline() -> None:
    users = {
        module_of(path)
        for path in files()
        if any(package_of(name) == "compiler.pipeline" for name in imports(path))
    }
    assert users <= {"compiler.export", "compiler.api", "compiler.screen"}
    assert not any(
        package_of(name) == "compiler.export" for path in files() for name in imports(path)
    )


def test_lava_is_imported_in_two_places() -> None:
    for path in files():
        names = {name for name in imports(path) if name.split(".")[0] == "lava"}
        module = module_of(path)
        training = module.startswith("compiler.encryption.")
        assert not names or training or module.startswith(("sim.lava", "sim._lava")), module
        assert training or not any("slayer" in name for name in names), module


def test_no_module_imports_itself_in_a_circle() -> None:
    modules = {module_of(path): path for path in files()}
    needs = {
        name: {
            other
            for full in imports(path, top_level_only=True)
            for other in (full, full.rpartition(".")[0])
            if other in modules and other != name
        }
        for name, path in modules.items()
    }
    while needs:
        free = {name for name, rest in needs.items() if not rest & needs.keys()}
        assert free, f"a circle among {sorted(needs)}"
        needs = {name: rest for name, rest in needs.items() if name not in free}


COMMANDS = ("compiler.export", "sim.run", "audit.leakage", "audit.judges.train")
HELP_SECONDS = 0.7
HEAVY = ("torch", "lava", "onnx", "numba", "scipy", "sklearn", "h5py", "matplotlib", "numpy")
PROBE = """
import runpy, sys
sys.argv = [sys.argv[1], "--help"]
try:
    runpy.run_module(sys.argv[0], run_name="__main__")
except SystemExit as end:
    print(end.code, [name for name in {heavy} if name in sys.modules], file=sys.stderr)
"""


@pytest.mark.parametrize("command", COMMANDS)
def test_help_loads_nothing_heavy(command: str) -> None:
    code = PROBE.replace("{heavy}", repr(HEAVY))
    done = subprocess.run(
        [sys.executable, "-c", code, command], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "--help" in done.stdout
    assert done.stderr == "0 []\n"


def seconds_of_help(command: str) -> float:
    """Seconds that a processor worked for it; with others at work, the clock shows more."""
    before = os.times()
    subprocess.run(
        [sys.executable, "-m", command, "--help"], cwd=ROOT, stdout=subprocess.DEVNULL, check=True
    )
    after = os.times()
    spent = after.children_user + after.children_system
    return spent - before.children_user - before.children_system


@pytest.mark.parametrize("command", COMMANDS)
def test_help_answers_in_seven_tenths_of_a_second(command: str) -> None:
    """The second time: the first may have to compile the modules to bytecode."""
    assert min(seconds_of_help(command) for _ in range(2)) < HELP_SECONDS

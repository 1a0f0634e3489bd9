"""What the documents name exists, and their tables say what the code says."""

from __future__ import annotations

import importlib
import re
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from compiler.config import CompileConfig
from compiler.ir.chip import ChipGraph, ChipLayer, CubaFields
from compiler.ir.geometry import ConvGeometry, frozen
from compiler.ir.snn import Encoding
from compiler.pipeline import STAGES
from netx_export import deployment_of, write_netx
from sim.measure import Request, measure

PACKAGES = ("compiler", "netx_export", "sim", "audit")
IN_DIR = ("private/", "runs/")


def quoted(text: str) -> list[str]:
    """Everything in back quotes, on one line."""
    return re.findall(r"`([^`\n]+)`", text)


def rows(text: str, title: str) -> list[list[str]]:
    """Cells of the rows of the first table behind a line that holds `title`."""
    behind = text[text.index(title) :]
    found: list[list[str]] = []
    for line in behind.splitlines()[1:]:
        if line.startswith("|"):
            found.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
        elif found:
            break
    return found[2:]


def resolve(name: str) -> Any:
    """A module, or an attribute of one, by its dotted name."""
    head, _, attribute = name.partition("(")[0].rpartition(".")
    try:
        return importlib.import_module(f"{head}.{attribute}")
    except ModuleNotFoundError:
        return getattr(importlib.import_module(head), attribute)


def test_dotted_names_exist(document: Path) -> None:
    names = [
        name.partition("(")[0]
        for name in quoted(document.read_text())
        if re.match(rf"({'|'.join(PACKAGES)})\.[\w.]+", name) and not name.endswith(".json")
    ]
    for name in names:
        assert resolve(name) is not None, name


def test_paths_exist(document: Path, root: Path) -> None:
    pattern = re.compile(r"(compiler|netx_export|sim|audit|tests|docs|examples)/[\w./-]+$")
    paths = [name for name in quoted(document.read_text()) if pattern.match(name)]
    for path in paths:
        assert (root / path).exists(), path


def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)", document.read_text()):
        assert (document.parent / target).exists(), target


def test_lines_are_no_longer_than_100_columns_outside_tables(document: Path) -> None:
    lines = [line for line in document.read_text().splitlines() if not line.startswith("|")]
    assert max(len(line) for line in lines) <= 100


def test_the_stages_and_their_files_are_those_of_the_pipeline(root: Path) -> None:
    text = (root / "docs" / "architecture.md").read_text()
    found = {cells[0].strip("`"): quoted(cells[3]) for cells in rows(text, "## The way of")}
    assert list(found) == [stage.name for stage in STAGES]
    assert found == {stage.name: list(stage.files) for stage in STAGES}


def test_adding_a_layer_names_real_places(root: Path) -> None:
    text = (root / "docs" / "architecture.md").read_text()
    steps = text[text.index("## How to add a layer") :]
    names = [name for name in quoted(steps) if name.split(".")[0] in PACKAGES]
    assert len(names) > 12
    for name in (
        "compiler.ir.ann.output_shape",
        "compiler.frontend.torch_modules.MODULES",
        "compiler.frontend.onnx_layers.LAYERS",
        "compiler.passes.lower.PASSES",
    ):
        assert name in names


def written(value: Any) -> str:
    """A setting's value as TOML writes it."""
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    return str(value)


def test_settings_and_defaults_are_those_of_the_code(root: Path) -> None:
    text = (root / "docs" / "configuration.md").read_text()
    config = CompileConfig()
    tables = {"## Top level": config}
    for entry in fields(config):
        if is_dataclass(value := getattr(config, entry.name)):
            tables[f"## [{entry.name}]"] = value
    for title, table in tables.items():
        own = {
            entry.name: written(getattr(table, entry.name))
            for entry in fields(table)
            if not is_dataclass(getattr(table, entry.name))
        }
        assert {cells[0].strip("`"): cells[1] for cells in rows(text, title)} == own, title
    assert text.count("\n## [") == len(tables) - 1


def network() -> ChipGraph:
    """Every kind of entry that this project writes."""
    generator = np.random.default_rng(0)

    def even(*shape: int) -> Any:
        return frozen(2 * generator.integers(-50, 50, shape), np.int32)

    same = ConvGeometry((1, 1), ((1, 1), (1, 1)))
    layers = (
        ChipLayer("a", "conv", (1, 8, 8), (2, 8, 8), even(2, 1, 3, 3), even(2), CubaFields(101),
                  same),
        ChipLayer("b", "dense", (2, 8, 8), (10, 1, 1), even(10, 128), None, CubaFields(131071),
                  readout=True),
    )  # fmt: skip
    return ChipGraph("net", (1, 8, 8), layers, 16, Encoding())


def keys_of(path: Path) -> dict[str, h5py.Dataset]:
    found: dict[str, Any] = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: found.update({name: item.dtype}) if hasattr(item, "dtype") else None
        )
    return found


def test_every_key_of_the_file_is_described(root: Path, tmp_path: Path) -> None:
    graph = network()
    write_netx(graph, tmp_path / "net.net", deployment_of(graph, versions={"tool": "1"}))
    keys = keys_of(tmp_path / "net.net")
    text = (root / "docs" / "file-format.md").read_text()
    layer = {key for cells in rows(text, "## Group `layer`") for key in quoted(cells[0])}
    deployment = {key for cells in rows(text, "## Group `deployment`") for key in quoted(cells[0])}
    own = {key.split("/", 2)[2] for key in keys if key.startswith("layer/")}
    assert own == layer
    ours = {key.split("/", 1)[1] for key in keys if key.startswith("deployment/")}
    assert {re.sub("versions/.*", "versions/...", key) for key in ours} == deployment


def test_every_field_of_sim_run_is_described(root: Path, tmp_path: Path) -> None:
    graph = network()
    write_netx(graph, tmp_path / "net.net", deployment_of(graph))
    figures = measure(Request(tmp_path / "net.net", "digits", samples=10))
    text = (root / "docs" / "report.md").read_text()
    described = {
        name for cells in rows(text, "## JSON of sim.run") for name in quoted(cells[0])
    } | {"layers", "operations_by_step", "energy", "latency"}
    assert set(figures) == described


def test_the_energy_models_are_named(root: Path) -> None:
    from sim.published import MODEL_FILES, load_models

    text = (root / "docs" / "energy.md").read_text()
    named = {cells[0].strip("`"): cells[1].strip("`") for cells in rows(text, "## Models")}
    files = {f"sim/energy_models/{file}" for file in MODEL_FILES}
    assert set(named) == {model.name for model in load_models()}
    assert set(named.values()) == files


def test_privacy_is_not_oversold(root: Path) -> None:
    text = " ".join((root / "docs" / "privacy.md").read_text().split())
    for words in ("obfuscation, not cryptography", "no (epsilon, delta) guarantee", "`private/`"):
        assert words in text

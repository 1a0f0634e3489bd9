"""Numbers that others have published, from the TOML files in `sim/energy_models`.

Every line has a value, a unit, the condition under which it holds and a source. A model is the
set of lines of one file: energies by event, and times by event where they were published too.
There is no model of Loihi 2: neither an energy nor a time an operation was published for it.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import tomli

MODEL_FILES = ("horowitz_2014_45nm.toml", "loihi1_davies_2018.toml", "loihi1_sanafe.toml")
ENERGY, TIME, POWER = "J", "s", "W"
_PREFIXES = {"": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9, "p": 1e-12}


@dataclass(frozen=True)
class Line:
    """One number of a model: value in `unit`, when it holds and who published it.

    value: None where the package that holds it is not installed; attribute: the entry of
    that package's file; tiles: of a barrier, the number of tiles that it synchronizes.
    """

    name: str
    value: float | None
    unit: str
    condition: str
    source: str
    attribute: str = ""
    tiles: int = 0

    @property
    def dimension(self) -> str:
        """`J`, `s` or `W`: the unit without its prefix."""
        return self.unit[-1:]

    @property
    def in_si(self) -> float:
        """The value in joules, seconds or watts; 0.0 where it is not known."""
        return 0.0 if self.value is None else self.value * _PREFIXES[self.unit[:-1]]


@dataclass(frozen=True)
class PublishedModel:
    """A named set of lines. `absent` says why there are no values, where there are none.

    barrier: how times of barriers are read between the published numbers of tiles: `linear`,
    or `steps` (the largest published number that is not above).
    """

    name: str
    title: str
    kind: str
    conventions: tuple[str, ...]
    lines: Mapping[str, Line]
    absent: str = ""
    barrier: str = "linear"

    def joules(self, line: str) -> float:
        """Joules of one event; 0.0 for an event that the model does not know."""
        return self._value(line, ENERGY)

    def seconds(self, line: str) -> float:
        """Seconds of one event; 0.0 for an event that the model does not know."""
        return self._value(line, TIME)

    def watts(self, line: str) -> float | None:
        """Watts, None where the model has no such line."""
        return self._value(line, POWER) if line in self.lines else None

    def has(self, dimension: str) -> bool:
        """Whether the model has any line of this dimension."""
        return any(line.dimension == dimension for line in self.lines.values())

    def source(self, dimension: str) -> str:
        """Every source of the lines of one dimension, once."""
        used = (line.source for line in self.lines.values() if line.dimension == dimension)
        return "; ".join(dict.fromkeys(used))

    def _value(self, name: str, dimension: str) -> float:
        line = self.lines.get(name)
        return line.in_si if line is not None and line.dimension == dimension else 0.0


def load_models() -> tuple[PublishedModel, ...]:
    """All models; those of packages that are not installed say so in `absent`."""
    return tuple(load_model(file) for file in MODEL_FILES)


def load_model(file: str) -> PublishedModel:
    """Read one TOML file of this package, and the package that it points to, if it does."""
    text = (resources.files("sim") / "energy_models" / file).read_text(encoding="utf-8")
    table = tomli.loads(text)
    model = PublishedModel(
        table["name"],
        table["title"],
        table["kind"],
        tuple(table["conventions"]),
        {entry["name"]: _line(entry) for entry in table["line"]},
        barrier=table.get("barrier", "linear"),
    )
    if "package" in table:
        return _with_installed_values(model, table["package"], table["file"])
    return model


def published_lines() -> list[dict[str, Any]]:
    """Every line of every model as plain data: model, name, value, unit, condition, source."""
    return [
        {
            "model": model.name,
            "name": line.name,
            "value": line.value,
            "unit": line.unit,
            "condition": line.condition,
            "source": line.source or model.absent,
        }
        for model in load_models()
        for line in model.lines.values()
    ]


def _line(entry: Mapping[str, Any]) -> Line:
    return Line(
        entry["name"],
        entry.get("value"),
        entry["unit"],
        entry["condition"],
        entry.get("source", ""),
        entry.get("attribute", ""),
        entry.get("tiles", 0),
    )


def _with_installed_values(model: PublishedModel, package: str, file: str) -> PublishedModel:
    """Fill a model's values from a data file of an installed package, found without import."""
    spec = importlib.util.find_spec(package)
    places = list(spec.submodule_search_locations or []) if spec is not None else []
    path = Path(places[0]) / file if places else None
    if path is None or not path.is_file():
        return replace(
            model,
            absent=f"not measured: the package {package} is not installed (pip install {package})",
        )
    values = read_yaml_costs(path.read_text(encoding="utf-8"))
    missing = [line.attribute for line in model.lines.values() if line.attribute not in values]
    if missing:
        return replace(model, absent=f"not measured: {path.name} has no {', '.join(missing)}")
    source = f"{package} {importlib.metadata.version(package)}, {file} (GPL-3, read, not copied)"
    lines = {
        line.name: replace(line, value=values[line.attribute], source=source)
        for line in model.lines.values()
    }
    return replace(model, lines=lines)


def read_yaml_costs(text: str) -> dict[str, float]:
    """Energies (J) and latencies (s) of a SANA-FE architecture file as element/attribute.

    Reads lines with `name:`, `energy_*:` and `latency_*:` alone; a range in a name, `[0..31]`, is
    dropped. A table `{1: a, 2: b}` gives element/attribute[1] and element/attribute[2].
    """
    costs: dict[str, float] = {}
    element = ""
    for line in text.splitlines():
        entry = re.match(r"\s*-?\s*(\w+):\s*([^#]*)", line)
        if entry is None:
            continue
        key, value = entry.group(1), entry.group(2).strip()
        if key == "name":
            element = re.sub(r"\[.*", "", value).strip()
        elif key.startswith(("energy_", "latency_")):
            costs.update(_costs(f"{element}/{key}", value))
    return costs


def _costs(place: str, value: str) -> dict[str, float]:
    if not value.startswith("{"):
        return {place: float(value)}
    pairs = (pair.split(":") for pair in value.strip("{} ").split(","))
    return {f"{place}[{key.strip()}]": float(number) for key, number in pairs}

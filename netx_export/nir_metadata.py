"""What this project writes into the metadata of a NIR graph, read back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast, get_args

import numpy as np

from compiler.ir.snn import Code, Encoding
from netx_export.deployment import Deployment, Readout, Rule, finite, whole


@dataclass(frozen=True)
class Metadata:
    """unit: `mantissa` where the numbers are the chip's own, else ""; dt in seconds or None."""

    unit: str
    dt: float | None
    network: str
    deployment: Deployment | None


def read_metadata(said: Mapping[str, Any]) -> Metadata:
    """Read the metadata of a graph; a graph of somebody else may have none, or others.

    Raises KeyError, TypeError and ValueError for a deployment that is not complete.
    """
    facts = said.get("deployment")
    dt = said.get("dt")
    return Metadata(
        unit=str(said.get("unit", "")),
        dt=None if dt is None else finite(dt, "dt"),
        network=str(said.get("network", "")),
        deployment=None if facts is None else _deployment(facts),
    )


def _deployment(facts: Mapping[str, Any]) -> Deployment:
    code, rule = str(facts["encoding"]["code"]), str(facts["readout"]["rule"])
    if code not in get_args(Code) or rule not in get_args(Rule):
        raise ValueError(f"encoding {code!r}, read-out rule {rule!r}")
    readout = facts["readout"]
    channels, height, width = (whole(size, "input_shape") for size in facts["input_shape"])
    low, high = _floats(facts, "input_range")
    return Deployment(
        network=str(facts["network"]),
        timesteps=whole(facts["timesteps"], "timesteps"),
        encoding=Encoding(
            cast(Code, code),
            whole(facts["encoding"]["seed"], "encoding seed"),
            finite(facts["encoding"]["x_min"], "x_min"),
        ),
        input_shape=(channels, height, width),
        class_names=_texts(facts, "class_names"),
        layer_names=_texts(facts, "layer_names"),
        readout=Readout(
            cast(Rule, rule),
            whole(readout["layer"], "layer"),
            whole(readout["v_th_mant"], "v_th_mant"),
        ),
        seed=whole(facts["seed"], "seed"),
        mean=_floats(facts, "mean"),
        std=_floats(facts, "std"),
        versions=tuple((tool, str(v)) for tool, v in sorted(facts.get("versions", {}).items())),
        input_range=(low, high),
        layout=str(facts["layout"]),
        layer_hash=str(facts["layer_hash"]),
        schema_version=whole(facts["schema_version"], "schema_version"),
    )


def _floats(facts: Mapping[str, Any], name: str) -> tuple[float, ...]:
    return tuple(finite(value, name) for value in np.asarray(facts.get(name, ())))


def _texts(facts: Mapping[str, Any], name: str) -> tuple[str, ...]:
    values = facts.get(name, ())
    return tuple(value.decode() if isinstance(value, bytes) else str(value) for value in values)

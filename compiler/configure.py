"""Settings from their four sources: defaults, preset, TOML file, flags; the later wins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from compiler.config import CompileConfig, with_overrides
from compiler.errors import UsageError, one_problem
from compiler.presets import Preset

FLAGS = {
    "timesteps": ("convert", "timesteps"),
    "encoding": ("encoding", "code"),
    "recipe": ("encrypt", "recipe"),
    "seed": (None, "seed"),
}
"""Flag -> table and setting of CompileConfig."""


def configure(options: dict[str, Any], preset: Preset | None) -> CompileConfig:
    """The settings of a compile.

    options: values of the flags in FLAGS, None where not given, and `config`, a TOML file.
    Raises UsageError listing everything wrong in the source at fault.
    """
    config = CompileConfig()
    if preset is not None:
        config = with_overrides(config, dict(preset.compile))
    if options.get("config") is not None:
        config = with_overrides(config, read_toml(options["config"]))
    return with_overrides(config, _from_flags(options))


def _from_flags(options: dict[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for flag, (table, setting) in FLAGS.items():
        value = options.get(flag)
        if value is None:
            continue
        (nested if table is None else nested.setdefault(table, {}))[setting] = value
    return nested


def read_toml(path: Path) -> dict[str, Any]:
    """Tables of a TOML file; raises UsageError if it cannot be read."""
    import tomli

    try:
        return tomli.loads(path.read_text())
    except OSError as problem:
        found = problem.strerror or "a file that cannot be read"
    except (tomli.TOMLDecodeError, UnicodeDecodeError) as problem:
        found = str(problem)
    raise one_problem(
        UsageError,
        "the configuration cannot be read",
        "--config",
        f"{path}: {found}",
        "a TOML file with the tables of docs/configuration.md",
        "correct the path or the file",
    )

"""Settings from their four sources: defaults, preset, TOML file, flags; the later wins."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compiler.config import CompileConfig, with_overrides
from compiler.errors import UsageError, one_problem
from compiler.presets import Preset
from compiler.recipes import RECIPES

FLAGS = {
    "timesteps": ("convert", "timesteps"),
    "encoding": ("encoding", "code"),
    "recipe": ("encrypt", "recipe"),
    "seed": (None, "seed"),
}
"""Flag -> table and setting of CompileConfig."""


def configure(options: Mapping[str, Any], preset: Preset | None) -> CompileConfig:
    """The settings of a compile.

    options: values of the flags in FLAGS, None where not given, and `config`: a TOML file, or
    its tables as nested mappings.
    Raises UsageError listing everything wrong in the source at fault.
    """
    config = CompileConfig()
    if preset is not None:
        config = with_overrides(config, dict(preset.compile))
    given = options.get("config")
    tables = {} if given is None else read_tables(given)
    flags = _from_flags(options)
    _check_recipes(flags, tables)
    recipe = _recipe(flags) or _recipe(tables)
    for settings in (RECIPES.get(recipe or "", {}), tables, flags):
        config = with_overrides(config, _listed(settings))
    return config


def read_tables(given: str | Path | Mapping[str, Any]) -> dict[str, Any]:
    """Tables of a TOML file, or those that a Python program gives, as TOML has them."""
    if isinstance(given, Mapping):
        return {name: _listed(value) for name, value in given.items()}
    return read_toml(Path(given))


def _recipe(settings: Mapping[str, Any]) -> str | None:
    """The recipe that a source names; its settings come before those of all files and flags."""
    table = settings.get("encrypt")
    name = table.get("recipe") if isinstance(table, Mapping) else None
    return name if isinstance(name, str) else None


def _check_recipes(flags: Mapping[str, Any], tables: Mapping[str, Any]) -> None:
    """UsageError where a flag names a recipe of which another one's file would leave nothing."""
    asked, own = _recipe(flags), _recipe(tables)
    if not asked or not own or asked == own:
        return
    settings = {name for recipe in RECIPES.values() for name in recipe.get("encrypt", {})}
    if settings <= {*tables["encrypt"]}:
        raise one_problem(
            UsageError,
            "two recipes",
            "--recipe",
            f"{asked}, beside a file with every setting of the recipe {own}",
            "settings that the file leaves open",
            f"take {', '.join(sorted(settings | {'recipe'}))} out of the file's [encrypt]",
        )


def _listed(value: Any) -> Any:
    """Tables as TOML gives them: dicts, and lists where Python may have tuples."""
    if isinstance(value, Mapping):
        return {name: _listed(item) for name, item in value.items()}
    return [_listed(item) for item in value] if isinstance(value, (list, tuple)) else value


def _from_flags(options: Mapping[str, Any]) -> dict[str, Any]:
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

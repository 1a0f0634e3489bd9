"""What the command line and the Python API are asked for, as one request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from compiler.config import CompileConfig
from compiler.configure import configure, read_tables
from compiler.errors import Problem, UsageError
from compiler.presets import DEFAULT_PRESET, Preset, find_preset
from compiler.request import CompileRequest, Model
from compiler.settings import merged, read_assignment, with_file
from sim.data_readers import ArrayImages

LAYOUTS = ("nchw", "nhwc")
MODEL_OPTIONS = ("arch", "mean", "std", "layout", "input_shape", "class_names", "name")
"""Options that say how a model of one's own is read; a preset has them in itself."""


def make_request(options: Mapping[str, Any], command: str) -> CompileRequest:
    """The request of a compile from options, the TOML file or tables, and the preset.

    options: by the names of the flags, dashes as underscores and `evaluation` for --eval;
    those left out, or None, have their defaults. Beside the flags: `module` (a
    torch.nn.Module), `input_shape`, `class_names` and `name`; `evaluation` may hold images.
    command: kept in the report. Raises UsageError for options that do not go together or do
    not exist, DataError for a path of images that is missing.
    """
    given = {name: value for name, value in options.items() if value is not None}
    given = _with_tables(given)
    preset, config = _checked(given)
    evaluation = given.get("evaluation", preset.data if preset else None)
    return CompileRequest(
        model=_model(given, preset),
        out=Path(given["out"]) if "out" in given else Path("runs") / _name(given, preset),
        config=config,
        evaluation=None if _is_none(evaluation) else evaluation,
        evaluation_optional="evaluation" not in given,
        samples=given.get("samples"),
        lava_samples=given.get("lava_samples", CompileRequest.lava_samples),
        target=given.get("target"),
        pictures=given.get("pictures", False),
        command=command,
    )


def _with_tables(given: dict[str, Any]) -> dict[str, Any]:
    """The options with those that the file and `--set` hold, settings merged into `config`."""
    assignments = given.pop("settings", ())
    if "config" not in given and not assignments:
        return given
    tables = read_tables(given.get("config", {}))
    for text in assignments:
        tables = merged(tables, read_assignment(text))
    return with_file(given, tables)


def _checked(given: Mapping[str, Any]) -> tuple[Preset | None, CompileConfig]:
    """The preset and the settings; UsageError with everything that is wrong with the options."""
    wrong: list[UsageError] = []

    def attempt(step: Callable[[], Any]) -> Any:
        try:
            return step()
        except UsageError as error:
            wrong.append(error)
        return None

    attempt(lambda: _check_options(given))
    preset = attempt(lambda: _preset(given))
    attempt(lambda: _check_early(given.get("evaluation"), given.get("target")))
    config = attempt(lambda: configure(given, preset))
    if len(wrong) > 1:
        problems = [problem for error in wrong for problem in error.problems]
        raise UsageError("the compile cannot be done as asked", problems)
    if wrong:
        raise wrong[0]
    return preset, config


def _preset(given: Mapping[str, Any]) -> Preset | None:
    """The preset that is named, or the embedded default where no model is."""
    if "model" in given or "module" in given:
        return None
    return find_preset(given.get("preset", DEFAULT_PRESET))


def _model(given: Mapping[str, Any], preset: Preset | None) -> Model:
    if preset is not None:
        return Model(preset=preset.name)
    spec = str(given["model"]) if "model" in given else None
    own = {name: given[name] for name in MODEL_OPTIONS if name in given}
    return Model(spec, module=given.get("module"), **own)


def _name(given: Mapping[str, Any], preset: Preset | None) -> str:
    """Name of the run's folder."""
    if preset is not None:
        return preset.name
    if "name" in given:
        return str(given["name"])
    if "module" in given:
        return type(given["module"]).__name__
    return Path(str(given["model"]).rpartition(":")[2]).stem


def _check_options(given: Mapping[str, Any]) -> None:
    """Refuse what does not go together or is out of range, all of it at once."""
    problems = []
    sources = [name for name in ("model", "module", "preset") if name in given]
    if len(sources) > 1:
        found = " and ".join(sources)
        problems.append(Problem("MODEL", found, "a MODEL or a preset, not both", "leave one out"))
    spare = [name for name in MODEL_OPTIONS if name in given]
    if spare and not {"model", "module"} & given.keys():
        problems.append(
            Problem("preset", ", ".join(spare), "none of these", "name a MODEL, or leave them out")
        )
    problems += [
        Problem(name, "an empty text", "a name", f"name the {name}, or leave it out")
        for name in ("model", "out", "name")
        if given.get(name) == ""
    ]
    layout = given.get("layout", LAYOUTS[0])
    if layout not in LAYOUTS:
        problems.append(Problem("layout", repr(layout), " or ".join(LAYOUTS), "choose one"))
    for name, least in (("samples", 1), ("lava_samples", 0)):
        value = given.get(name, least)
        if type(value) is not int or value < least:
            allowed = f"a whole number, {least} or more"
            problems.append(Problem(name, repr(value), allowed, f"give {allowed}"))
    if problems:
        raise UsageError("the compile cannot be done as asked", problems)


def _check_early(data: str | ArrayImages | None, target: str | None) -> None:
    """Refuse a wrong --eval or --target at once; images are opened in the stage `evaluate`."""
    if target is not None:
        from compiler.resources.chips import find_chip

        find_chip(target)
    if isinstance(data, str) and not _is_none(data):
        from sim.datasets import check_spec

        check_spec(data)


def _is_none(data: str | ArrayImages | None) -> bool:
    """Whether no evaluation is wanted: the word `none` of the command line."""
    return isinstance(data, str) and data == "none"

"""Flags and settings as one TOML file: read from it, and printed back into the run's folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from difflib import get_close_matches
from typing import Any

from compiler.config import COUNT, SWITCH, TEXT, CompileConfig, with_overrides
from compiler.errors import Problem, UsageError, one_problem
from compiler.request import CompileRequest

_STEPS = "a whole number or auto"
_NUMBERS, _COUNTS, _TEXTS = "numbers in [ ]", "whole numbers in [ ]", "texts in [ ]"
_KINDS: Mapping[str, tuple[type, ...]] = {
    TEXT: (str,),
    COUNT: (int,),
    _STEPS: (int, str),
    SWITCH: (bool,),
    _NUMBERS: (int, float),
    _COUNTS: (int,),
    _TEXTS: (str,),
}
_LISTS = (_NUMBERS, _COUNTS, _TEXTS)

FILE_FLAGS: Mapping[str, tuple[str, str]] = {
    "model": ("model", TEXT),
    "preset": ("preset", TEXT),
    "out": ("out", TEXT),
    "arch": ("arch", TEXT),
    "mean": ("mean", _NUMBERS),
    "std": ("std", _NUMBERS),
    "layout": ("layout", TEXT),
    "input-shape": ("input_shape", _COUNTS),
    "input_shape": ("input_shape", _COUNTS),
    "class_names": ("class_names", _TEXTS),
    "name": ("name", TEXT),
    "target": ("target", TEXT),
    "timesteps": ("timesteps", _STEPS),
    "encoding": ("encoding", TEXT),
    "recipe": ("recipe", TEXT),
    "eval": ("evaluation", TEXT),
    "samples": ("samples", COUNT),
    "lava-samples": ("lava_samples", COUNT),
    "pictures": ("pictures", SWITCH),
}
"""Name in a file, the flag's own -> name of the option, and what its value must be."""

_SETTINGS = tuple(vars(CompileConfig()))

_TWICE = {"timesteps": ("convert", "timesteps"), "recipe": ("encrypt", "recipe")}
"""Flags that are settings too, which a file may give only once."""

_SOURCES = ("model", "module", "preset")
_DESCRIBING = ("arch", "mean", "std", "layout", "input_shape", "class_names", "name")


def with_file(given: Mapping[str, Any], tables: Mapping[str, Any]) -> dict[str, Any]:
    """The options `given` and, where they are silent, those that a file's tables hold.

    tables: a TOML file; what stands under a flag's own name at its top becomes an option, the
    rest stays in `config`, settings of compiler.config. A MODEL or preset that is given takes
    the place of the file's, a preset that of all that describes the file's network. Raises
    UsageError listing every value of the wrong type.
    """
    found, rest = _split(tables)
    if any(name in given for name in _SOURCES):
        gone = (*_SOURCES, *_DESCRIBING) if "preset" in given else _SOURCES
        found = {name: value for name, value in found.items() if name not in gone}
    return {**found, **given, "config": rest}


def _split(tables: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options by their names, and the settings that are left."""
    options: dict[str, Any] = {}
    rest: dict[str, Any] = {}
    problems: list[Problem] = []
    for name, value in tables.items():
        if name not in FILE_FLAGS or isinstance(value, Mapping):
            rest[name] = value
            problems += _misplaced(name, value)
            continue
        option, kind = FILE_FLAGS[name]
        if not _fits(value, kind):
            problems.append(Problem("--config", f"{name} = {value!r}", kind, f"write {kind}"))
        options[option] = tuple(value) if kind in _LISTS and isinstance(value, list) else value
    problems += [_given_twice(name) for name in _TWICE if _stands_twice(name, tables)]
    if problems:
        unknown = {problem.found for problem in problems}
        problems += [one for one in _setting_problems(rest) if one.found not in unknown]
        raise UsageError("the configuration has settings that do not exist or do not fit", problems)
    return options, rest


def _misplaced(name: str, value: Any) -> list[Problem]:
    """A name at the top that no flag and no setting has; flags that stand below a table."""
    if isinstance(value, Mapping):
        own = set(vars(getattr(CompileConfig(), name))) if name in _SETTINGS else set(value)
        where = "above the first table"
        return [
            Problem(name, f"setting {one}", f"flags {where}", f"move it {where}")
            for one in value
            if one in FILE_FLAGS and one not in own
        ]
    if name in _SETTINGS:
        return []
    flags = ", ".join(flag for flag in FILE_FLAGS if flag != "input_shape")
    allowed = f"a flag ({flags}), seed, or a table"
    near = get_close_matches(name.replace("_", "-"), (*FILE_FLAGS, *_SETTINGS), 1)
    remedy = f"write {near[0]}, if that was meant" if near else "correct or remove it"
    return [Problem("--config", f"setting {name}", allowed, remedy)]


def _setting_problems(tables: Mapping[str, Any]) -> tuple[Problem, ...]:
    try:
        with_overrides(CompileConfig(), dict(tables))
    except UsageError as error:
        return tuple(error.problems)
    return ()


def _fits(value: Any, kind: str) -> bool:
    if kind not in _LISTS:
        return type(value) in _KINDS[kind]
    return isinstance(value, list) and all(type(item) in _KINDS[kind] for item in value)


def _stands_twice(name: str, tables: Mapping[str, Any]) -> bool:
    table, setting = _TWICE[name]
    settings = tables.get(table)
    return name in tables and isinstance(settings, Mapping) and setting in settings


def _given_twice(name: str) -> Problem:
    table, setting = _TWICE[name]
    found = f"{name} and {setting} in [{table}]"
    return Problem("--config", found, "one of them", "leave one out")


def read_assignment(text: str) -> dict[str, Any]:
    """`table.name=value` of the command line as tables; a bare word is a text.

    Raises UsageError for what is no line of TOML even so.
    """
    import tomli

    name, equals, value = text.partition("=")
    for line in (text, f"{name}={json.dumps(value)}"):
        try:
            if equals and value:
                return tomli.loads(line)
        except tomli.TOMLDecodeError:
            continue
    raise one_problem(
        UsageError,
        "a setting cannot be read",
        "--set",
        repr(text),
        "TABLE.NAME=VALUE, such as encrypt.epochs=8 or convert.percentiles=[99,99.9]",
        "write it so; docs/configuration.md lists the names",
    )


def merged(tables: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Nested tables with the values of `more` put over them."""
    result = dict(tables)
    for name, value in more.items():
        old = result.get(name)
        nested = isinstance(old, Mapping) and isinstance(value, Mapping)
        result[name] = merged(old, value) if nested else value  # type: ignore[arg-type]
    return result


def settings_text(request: CompileRequest) -> str:
    """A TOML file that asks for the same compile again with --config.

    Every setting stands in it, defaults too. A module or images that were given in Python
    cannot, and a line says so.
    """
    import tomli_w

    notes = ["# Written by the compile: `--config` with this file asks for the same again."]
    if request.model.module is not None:
        notes.append("# The network was given in Python and is not named here.")
    if not (request.evaluation is None or isinstance(request.evaluation, str)):
        notes.append("# The images to measure on were given in Python and are not named here.")
    flags = {name: value for name, value in _flags(request).items() if value not in (None, ())}
    return "\n".join(notes) + "\n\n" + tomli_w.dumps({**flags, **asdict(request.config)})


def _flags(request: CompileRequest) -> dict[str, Any]:
    """Values of the flags that are no settings, by their names in a file."""
    model = request.model
    named = request.evaluation if isinstance(request.evaluation, str) else None
    wanted = named if request.evaluation is not None else "none"
    return {
        "model": model.spec,
        "preset": model.preset,
        "out": str(request.out),
        "arch": model.arch,
        "mean": model.mean,
        "std": model.std,
        "layout": model.layout,
        "input-shape": model.input_shape,
        "class_names": model.class_names,
        "name": model.name,
        "target": request.target,
        "eval": None if request.evaluation_optional else wanted,
        "samples": request.samples,
        "lava-samples": request.lava_samples,
        "pictures": request.pictures or None,
    }

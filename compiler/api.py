"""The compiler for Python programs: the command line's compile, with a result to work with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Union

from compiler.errors import UsageError, one_problem
from compiler.options import make_request
from compiler.request import CompileRequest
from compiler.result import CompileResult, read_result

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from torch import nn

    from compiler.pipeline import Stage

    ModelSource = Union[str, Path, nn.Module]
    ImageSource = Union[str, tuple[ArrayLike, ArrayLike]]

MOST_NUMBERS = 16
"""Longest sequence that the report's line of the call writes out."""
StepEvent = Literal["begin", "progress", "end", "skip", "note"]


@dataclass(frozen=True)
class Progress:
    """What a compile tells while it works.

    event: a stage begins, is so far (`done` of `total`), ends after `seconds`, was already done
    (skip), or has something to say (`text`). stage: its name; number: its place among `stages`,
    from 1. What does not belong to the event is None, or "".
    """

    event: StepEvent
    stage: str
    number: int
    stages: int
    done: int | None = None
    total: int | None = None
    seconds: float | None = None
    text: str = ""

    def __str__(self) -> str:
        details = {
            "progress": f" {self.done}/{self.total}",
            "end": f" {self.seconds or 0:.1f} s",
            "skip": " already done",
            "note": f" {self.text}",
        }
        return f"{self.number}/{self.stages} {self.stage}{details.get(self.event, '')}"


class _Reporter:
    """Passes on what the pipeline tells."""

    def __init__(self, listener: Callable[[Progress], None], stages: Sequence[str]) -> None:
        self.listener, self.stages, self.at = listener, stages, stages[0]

    def begin(self, stage: Stage) -> None:
        """The stage starts."""
        self.at = stage.name
        self._tell("begin", text=stage.title)

    def end(self, stage: Stage, seconds: float) -> None:
        """The stage has finished."""
        self._tell("end", seconds=seconds)

    def skip(self, stage: Stage) -> None:
        """The stage's result is already there."""
        self.at = stage.name
        self._tell("skip")

    def progress(self, done: int, total: int) -> None:
        """So much of the stage is done."""
        self._tell("progress", done=done, total=total)

    def note(self, text: str) -> None:
        """Something to know."""
        self._tell("note", text=text)

    def _tell(self, event: StepEvent, **details: Any) -> None:
        number = self.stages.index(self.at) + 1
        self.listener(Progress(event, self.at, number, len(self.stages), **details))


def compile_model(
    model: ModelSource | None = None,
    *,
    preset: str | None = None,
    out: str | Path | None = None,
    arch: str | None = None,
    mean: Sequence[float] | float | None = None,
    std: Sequence[float] | float | None = None,
    layout: Literal["nchw", "nhwc"] | None = None,
    input_shape: Sequence[int] | None = None,
    class_names: Sequence[str] = (),
    name: str | None = None,
    timesteps: int | Literal["auto"] | None = None,
    encoding: Literal["rate", "poisson", "latency"] | None = None,
    recipe: str | None = None,
    target: Literal["loihi1", "loihi2"] | None = None,
    seed: int | None = None,
    config: str | Path | Mapping[str, Any] | None = None,
    eval: ImageSource | None = None,
    samples: int | None = None,
    lava_samples: int | None = None,
    pictures: bool | None = None,
    from_stage: str | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> CompileResult:
    """Compile a trained network, without its data, into a private spiking network for Loihi.

    The same compile as `python -m compiler.export`, with the same settings under the same names
    and the same bytes of model.net; finished stages in the folder `out` are not run again.

    model: FILE.onnx, FILE.safetensors (with arch), "pkg.module:factory", or a torch.nn.Module
    (with input_shape), which is not changed; it is fed pixels in [0, 1], minus mean, over std.
    Without model and preset the preset `digits` is compiled. input_shape: (C, H, W).
    config: a TOML file or its tables as nested mappings (docs/configuration.md). lava_samples: 8
    where None. pictures: show synthetic images in the report's page. eval: what the
    command line takes, or (images, labels): images (N, C, H, W), uint8 or floats in [0, 1],
    labels (N,), integers from 0; they are read in the stage `evaluate` alone, to measure, and
    no copy of them is written. progress: called with a Progress, None for silence.

    Raises a CompilerError (compiler.errors) with every problem found; prints nothing, ends no
    process, and leaves torch's random state as it was.
    """
    options = dict(locals())  # the arguments by name, before there is anything else
    listener, first = options.pop("progress"), options.pop("from_stage")
    request = make_request(_as_options(options), _call(options))
    return read_result(_compile(request, listener, first))


def _compile(
    request: CompileRequest, listener: Callable[[Progress], None] | None, first: str | None
) -> Path:
    """Compile in silence, or telling the listener; return DIR."""
    import torch

    from compiler.pipeline import STAGE_NAMES, compile_network

    if first is not None and first not in STAGE_NAMES:
        allowed = ", ".join(STAGE_NAMES)
        raise one_problem(
            UsageError, "no such stage", "from_stage", repr(first), allowed, "name one of them"
        )
    watcher = _Reporter(listener or (lambda progress: None), STAGE_NAMES)
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        return compile_network(request, watcher, first).path


def _as_options(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments as the options of compiler.options, None where not given."""
    options = {name: value for name, value in arguments.items() if name not in ("model", "eval")}
    names = tuple(str(name) for name in arguments["class_names"])
    for name in ("mean", "std"):
        options[name] = _numbers(arguments[name])
    shape = arguments["input_shape"]
    return {
        **options,
        **_model_option(arguments["model"]),
        "class_names": names or None,
        "input_shape": None if shape is None else tuple(shape),
        "evaluation": _evaluation(arguments["eval"], names),
    }


def _model_option(model: ModelSource | None) -> dict[str, Any]:
    """The model as a specification or as a module."""
    if model is None or isinstance(model, (str, Path)):
        return {"model": model}
    from torch import nn

    if isinstance(model, nn.Module):
        return {"module": model}
    raise one_problem(
        UsageError,
        "the model cannot be used",
        "model",
        f"a {type(model).__name__}",
        "a path, pkg.module:factory, or a torch.nn.Module",
        "give the module itself, not its state dict or its class",
    )


def _numbers(values: Sequence[float] | float | None) -> tuple[float, ...] | None:
    if values is None:
        return None
    each = (values,) if isinstance(values, (int, float)) else values
    return tuple(float(value) for value in each)


def _evaluation(data: ImageSource | None, class_names: tuple[str, ...]) -> Any:
    """Images for the evaluation: a specification, or arrays checked at once."""
    if data is None or isinstance(data, str):
        return data
    from sim.data_readers import labelled_arrays

    if not isinstance(data, (tuple, list)) or len(data) != 2:
        raise one_problem(
            UsageError,
            "the images for the evaluation cannot be used",
            "eval",
            f"a {type(data).__name__}",
            "DATA as on the command line, or a pair (images, labels)",
            "give both arrays: eval=(images, labels)",
        )
    return labelled_arrays(data[0], data[1], class_names)


def _call(arguments: Mapping[str, Any]) -> str:
    """The call as a line for the report; of modules, arrays and tables it tells the kind."""
    defaults = {"class_names": ()}
    given = {
        name: value
        for name, value in arguments.items()
        if value is not None and not (name in defaults and value == defaults[name])
    }
    parts = [f"{name}={_in_words(value)}" for name, value in given.items()]
    return f"compile_model({', '.join(parts)})"


def _in_words(value: Any) -> str:
    if isinstance(value, (str, int, float, Mapping)):
        return repr(value)
    if isinstance(value, Path):
        return repr(str(value))
    if isinstance(value, (tuple, list)) and len(value) <= MOST_NUMBERS:
        return f"({', '.join(_in_words(item) for item in value)})"
    return f"<{type(value).__name__}>"

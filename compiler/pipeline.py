"""The compile as a list of stages: which run, in what order, and what is already there."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from compiler import __version__, evaluate_step, steps
from compiler.convert_step import convert_step
from compiler.request import CompileRequest, evaluation_key, model_key
from compiler.run_folder import RunFolder, file_hash, key_of, locked, make_run_folder
from compiler.settings import settings_text
from compiler.steps import Run


@dataclass(frozen=True)
class Stage:
    """A step with its name, what it says on the screen, its settings and its files.

    `settings` are the values that, with the stages before it, decide the result; `files`
    are names inside DIR; `again` says of a stage that was run before that it must run again.
    """

    name: str
    title: str
    step: steps.Step
    settings: Callable[[Run], Any]
    files: tuple[str, ...] = ()
    again: Callable[[Run], bool] = lambda run: False


def _private(name: str) -> str:
    return f"private/{name}"


STAGES: tuple[Stage, ...] = (
    Stage(
        "load",
        "Reading the trained network",
        steps.load_model_step,
        lambda run: model_key(run.request.model),
        (_private(steps.ANN),),
    ),
    Stage(
        "lower",
        "Rewriting it as convolution, dense and ReLU",
        steps.lower_step,
        lambda run: [run.request.target, run.config.convert.pools],
        (_private(steps.LOWERED), _private(steps.LOWERED_POOLS)),
    ),
    Stage(
        "synthesize",
        "Making images from the network alone",
        steps.synthesize_step,
        lambda run: [asdict(run.config.synthesize), run.config.seed],
        (_private(steps.SYNTHETIC),),
    ),
    Stage(
        "convert",
        "Balancing thresholds for spiking neurons",
        convert_step,
        lambda run: [asdict(run.config.convert), asdict(run.encoding)],
        (_private(steps.CONVERTED), _private(steps.MATCHED)),
    ),
    Stage(
        "encrypt",
        "Training in the spiking domain",
        steps.encrypt_step,
        lambda run: [asdict(run.config.encrypt), run.config.seed],
        (_private(steps.ENCRYPTED),),
    ),
    Stage(
        "quantize",
        "Rounding to the chip's integers",
        steps.quantize_step,
        lambda run: None,
        (_private(steps.CHIP),),
    ),
    Stage(
        "export",
        "Writing the NetX file and reading it back",
        steps.export_step,
        lambda run: run.config.seed,
        (_private("unproven.net"), _private("unproven.nir")),
    ),
    Stage(
        "verify",
        "Comparing SLAYER, integer simulator and Lava",
        steps.verify_step,
        lambda run: run.request.lava_samples,
        ("model.net", "model.nir"),
    ),
    Stage(
        "evaluate",
        "Measuring every stage",
        evaluate_step.evaluate_step,
        lambda run: [*evaluation_key(run.request), evaluate_step.EVALUATION_SCHEMA],
        again=evaluate_step.images_changed,
    ),
    Stage(
        "report",
        "Writing the report",
        steps.report_step,
        lambda run: None,
        steps.REPORT_FILES,
        again=lambda run: True,
    ),
)
STAGE_NAMES = tuple(stage.name for stage in STAGES)
LOAD = STAGE_NAMES[0]
NETWORKS = ("load", "lower")
"""Stages whose files, not whose settings, decide what follows."""


class Watcher(steps.Tell, Protocol):
    """Hears which stage begins, ends or is already done."""

    def begin(self, stage: Stage) -> None:
        """The stage starts."""

    def end(self, stage: Stage, seconds: float) -> None:
        """The stage has finished."""

    def skip(self, stage: Stage) -> None:
        """The stage's result is already there."""


def compile_network(
    request: CompileRequest,
    watcher: Watcher,
    first: str | None = None,
    last: str | None = None,
) -> RunFolder:
    """Run the stages that are not done yet, from the first to `last`.

    A stage is done if it was run before in the same folder with the same settings and
    the same stages before it, and its files are untouched. `first` forces that stage and
    all after it.
    Raises a CompilerError; what was finished stays finished.
    """
    folder = make_run_folder(request.out)
    with locked(request.out):
        folder.take_up()
        _run_stages(Run(request, folder), watcher, first, last)
    return folder


def _run_stages(run: Run, watcher: Watcher, first: str | None, last: str | None) -> None:
    stop = STAGE_NAMES.index(last) if last else len(STAGES) - 1
    if first:
        _begin_again(run, STAGE_NAMES.index(first))
    key = __version__
    for index, stage in enumerate(STAGES):
        key = key_of(key, stage.name, stage.settings(run))
        if index > stop:
            if not run.folder.made_with(stage.name, key):
                _outdate(run, index)
                break
        elif run.folder.finished(stage.name, key) and not stage.again(run):
            watcher.skip(stage)
        elif stage.name in NETWORKS:
            _make_network(run, index, key, watcher)
        else:
            _outdate(run, index)
            _run_stage(run, stage, key, watcher)
        if stage.name == LOAD:
            run.folder.write_settings(settings_text(run.request))
        if stage.name in NETWORKS:
            key = key_of(__version__, _content(run, stage))


def _make_network(run: Run, index: int, key: str, watcher: Watcher) -> None:
    """Run a stage of NETWORKS; what follows is outdated if another network comes out."""
    stage = STAGES[index]
    before = _content(run, stage)
    _run_stage(run, stage, key, watcher)
    if before != _content(run, stage):
        _outdate(run, index + 1)


def _content(run: Run, stage: Stage) -> list[str]:
    """Hashes of the stage's files."""
    return [file_hash(path) for path in _present([run.folder.path / one for one in stage.files])]


def _begin_again(run: Run, index: int) -> None:
    """Forget this stage and all after it, and what is half done of them."""
    for name, file in (("encrypt", steps.CHECKPOINT), ("evaluate", steps.ANSWERS)):
        if index <= STAGE_NAMES.index(name):
            run.folder.stage_file(file).unlink(missing_ok=True)
    _outdate(run, index)


def _outdate(run: Run, index: int) -> None:
    """Forget this stage and all after it, and remove outputs that would tell of another network."""
    run.folder.forget(STAGE_NAMES[index:])
    if index <= STAGE_NAMES.index("export"):
        steps.remove_outputs(run)


def _run_stage(run: Run, stage: Stage, key: str, watcher: Watcher) -> None:
    watcher.begin(stage)
    started = time.perf_counter()
    results = stage.step(run, watcher)
    seconds = time.perf_counter() - started
    results["peak_memory_bytes"] = steps.peak_memory_bytes()
    files = [run.folder.path / name for name in stage.files]
    run.folder.record(stage.name, key, seconds, _present(files), results)
    watcher.end(stage, seconds)


def _present(files: list[Path]) -> list[Path]:
    return [path for path in files if path.is_file()]

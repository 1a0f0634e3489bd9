"""The stage `evaluate`: every stage's accuracy over the same images, and what follows from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from compiler import __version__
from compiler.errors import DataError
from compiler.ir.ann import AnnGraph
from compiler.ir.chip import ChipGraph
from compiler.ir.geometry import Array
from compiler.kept_answers import KeptAnswers
from compiler.parts import parts
from compiler.run_folder import key_of, proving
from compiler.steps import ANSWERS, Results, Run, Tell

if TYPE_CHECKING:
    from compiler.judge import Judge

EVALUATION_SCHEMA = 3
"""Raised when the stage finds more than before, so that it runs again."""

MOST_LAVA_SECONDS = 1_800
"""Time that the evaluation may take in Lava, where `verify` has compared its spikes already."""


def evaluate_step(run: Run, tell: Tell) -> Results:
    """Accuracy of every stage over the same images; the first time that real data is read."""
    from compiler import evaluation, timesteps
    from compiler.health import health
    from compiler.operations import operations
    from compiler.sample import sample_run
    from netx_export import read_netx

    chip, ann, converted = read_netx(run.folder.model).graph, run.ann(), run.converted()
    judge = _judge(run, ann)
    if judge.note:
        unmeasured = "accuracy not measured: " if judge.labels_n is None else ""
        tell.note(unmeasured + judge.note)
    in_lava = _lava_samples(run, chip, judge, tell)
    of_lava, *of_stages, of_fewer = parts(tell.progress, _evaluation_lengths(judge, in_lava))
    # first, since it may fail for reasons outside this program
    kept = _kept_answers(run, judge)
    lava = _lava_row(run, judge, chip, in_lava, kept, of_lava)
    rows, result = evaluation.evaluate_stages(
        judge, converted, run.encrypted(), chip, of_stages, kept
    )
    fewer = timesteps.accuracy_by_timestep(chip, judge, result, of_fewer)
    found = {
        "evaluation": judge.describe(),
        "stages": [*rows, *([lava] if lava else [])],
        "reconverted": evaluation.reconverted_accuracy(chip, judge),
        "weight_change": evaluation.weight_change(converted, chip),
        "health": health(result, run.encrypted(), run.matched(), judge.images_nchw),
        "sample": sample_run(chip, run.synthetic()),
        "confusion_matrix": evaluation.confusion_matrix(judge, result.predictions_n),
        "accuracy_by_timestep": fewer,
        **operations(ann, chip, judge.images_nchw, result),
    }
    kept.path.unlink(missing_ok=True)
    return found


def _evaluation_lengths(judge: Judge, in_lava: int) -> tuple[float, ...]:
    """How long the parts of the evaluation take, in images of the integer simulator.

    Lava, converted, trained and integer network, fewer time-steps. Measured once, on `digits`;
    for Lava its start (seconds) and what `benchmarks/run.py simulator` gives. Only the bar
    depends on it.
    """
    images = len(judge.images_nchw)
    return (10_000 + 2_000 * in_lava if in_lava else 0, images, 2 * images, images, 2 * images)


def _lava_samples(run: Run, chip: ChipGraph, judge: Judge, tell: Tell) -> int:
    """Images that Lava is measured on: as many as were asked for, one where they take too long."""
    from sim.lava import usual_seconds

    asked = min(run.request.lava_samples, len(judge.images_nchw))
    expected = usual_seconds(chip, asked)
    if asked <= 1 or expected <= MOST_LAVA_SECONDS:
        return asked
    tell.note(
        f"Lava is measured on one image: {asked} would take about {expected / 60:.0f} minutes, "
        "and as many were already compared spike for spike"
    )
    return 1


def images_changed(run: Run) -> bool:
    """Whether the images are other ones than those that the stage was run with.

    They may have been missing then; or their file has other content now. Where they are missing
    now, what was measured stays.
    """
    from compiler.judge import fingerprint

    request = run.request
    judged = run.folder.records["evaluate"].results["evaluation"]
    if not isinstance(request.evaluation, str):
        return request.evaluation is not None and judged["data"] is None
    try:
        found = fingerprint(run.ann(), request.evaluation, request.samples, run.config.seed)
    except DataError:
        return False
    return bool(found != judged["sha256"])


def _judge(run: Run, ann: AnnGraph) -> Judge:
    """Real images where there are some, else the held-out synthetic ones; and why."""
    from compiler.judge import judge_by_data, judge_by_synthetic

    request = run.request
    reason = "no labelled images were given; --eval DATA measures it"
    if request.evaluation:
        try:
            return judge_by_data(ann, request.evaluation, request.samples, run.config.seed)
        except DataError as problem:
            if not request.evaluation_optional:
                raise
            reason = "; ".join([problem.summary, *(part.remedy for part in problem.problems)])
    return judge_by_synthetic(run.synthetic(), reason)


def _kept_answers(run: Run, judge: Judge) -> KeptAnswers:
    """What an interrupted evaluation of these networks on these images left."""
    stages = ("synthesize", "convert", "encrypt", "export")
    made = [run.folder.records[stage].files for stage in stages]
    key = key_of(__version__, EVALUATION_SCHEMA, made, judge.fingerprint)
    return KeptAnswers(run.folder.stage_file(ANSWERS), key)


def _lava_row(
    run: Run,
    judge: Judge,
    chip: ChipGraph,
    count: int,
    kept: KeptAnswers,
    progress: Callable[[int, int], None],
) -> Results | None:
    if not count:
        return None

    def answers() -> Array:
        from compiler.verification import verify_lava

        with proving(run.folder):
            _, result = verify_lava(run.folder.model, judge.images_nchw[:count], progress=progress)
        return result.predictions_n

    return judge.row("lava", kept.answers(f"lava-{count}", answers), chip.timesteps)

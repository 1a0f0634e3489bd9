"""The baseline from a preset's name to the fields of audit.json.

The networks are made (audit.privatesnn.build), checked, and put before the attacks, judges and
metrics that audit.leakage uses, in the same order and with the same budgets.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from audit import measure
from audit.answers import Answers
from audit.attacks import FULL, QUICK
from audit.cache import Cache, code_key
from audit.inputs import PRIVATE, audit_data, load_judges_for
from audit.measure import Outcome, Watcher
from audit.plan import Audit, chosen_attacks
from audit.plan import Request as AuditRequest
from audit.privatesnn.build import Builder, Built, load_ann
from audit.privatesnn.settings import Settings
from audit.privatesnn.subject import check_homogeneous, float_subject
from audit.reconversion import as_fields, weight_distances
from audit.subjects import Subject
from compiler.finished_run import FinishedRun
from compiler.ir.geometry import Array
from compiler.presets import find_preset
from compiler.run_folder import file_hash, key_of

STAGES = Path("private") / "privatesnn"
"""Where the networks are kept, inside --out."""

UNDISTILLED = "undistilled"
"""Trained without distillation: asked and read, but not attacked."""


@dataclass(frozen=True)
class Request:
    """One run; see `python -m audit.privatesnn --help` for the options."""

    out: Path
    preset: str
    settings: Settings
    ann: Path | None = None
    arch: str | None = None
    data: str | None = None
    judges: Path | None = None
    attacks: tuple[str, ...] = ()
    quick: bool = False
    seed: int = 0
    command: str = ""


def run_baseline(request: Request, watcher: Watcher) -> Outcome:
    """Make the networks, attack them and judge what comes out; what is there is read again.

    Raises as load_ann and the readers of data and judges do; AgreementError where the converted
    network, re-converted, is not the ANN; AuditError as audit.measure.run_audit does.
    """
    preset = find_preset(request.preset)
    ann = load_ann(preset, request.ann, request.arch)
    data = audit_data(request.data or preset.data, ann)
    judges = load_judges_for(data, ann, request.judges)
    stages = request.out / STAGES
    for folder in (stages, request.out / PRIVATE):
        folder.mkdir(parents=True, exist_ok=True)
    built = Builder(stages, request.settings, request.seed, watcher).build(ann)
    check_homogeneous(ann, built.converted, data.test.images_nchw)
    subjects = _subjects(built, request.seed)
    audit = Audit(
        request=AuditRequest(
            request.out, data.spec, request.quick, request.seed, request.judges,
            attacks=request.attacks, command=request.command,
        ),
        run=FinishedRun(request.out, {}, file_hash(stages / "encrypted.safetensors"), {}),
        data=data,
        judges=judges,
        subjects=tuple(one for one in subjects if one.name != UNDISTILLED),
        attacks=chosen_attacks(request.attacks),
        budget=QUICK if request.quick else FULL,
        cache=Cache(request.out / PRIVATE),
        key=key_of(code_key("privatesnn"), built.key),
    )  # fmt: skip
    return _finished(audit, built, subjects, watcher)


def _subjects(built: Built, seed: int) -> tuple[Subject, ...]:
    spiking = {
        "converted": built.converted,
        UNDISTILLED: built.undistilled,
        "encrypted": built.encrypted,
        "random": built.random,
    }
    rest = (float_subject(name, network, seed) for name, network in spiking.items())
    return (Subject("ann", built.ann), *rest)


def _finished(
    audit: Audit, built: Built, subjects: tuple[Subject, ...], watcher: Watcher
) -> Outcome:
    """What audit.leakage has, and what the baseline alone has."""
    answers = measure.watched(watcher, measure.ASKING, measure.ask, audit, subjects, watcher)
    outcome = measure.attack_and_judge(audit, answers, built.synthetic, watcher)
    own = {"privatesnn": _own_fields(audit, built, subjects, answers)}
    return replace(outcome, fields=outcome.fields | own)


def _own_fields(
    audit: Audit, built: Built, subjects: tuple[Subject, ...], answers: dict[str, Answers]
) -> dict[str, Any]:
    """Settings, thresholds, and every stage with its readings."""
    known = answers["ann"].others[0].argmax(1)
    converted = next(one for one in subjects if one.name == "converted")
    stages = {}
    for subject in subjects:
        found = answers[subject.name]
        stages[subject.name] = {
            **found.fields(audit.request.seed),
            "ann_agreement": float(np.mean(found.others[0].argmax(1) == known)),
            "without_answer": _without_answer(found.others[0]),
            **as_fields(weight_distances(subject, converted)),
            **built.courses.get(subject.name, {}),
        }
    return {
        "preset": audit.data.spec,
        "network": built.ann.name,
        "parameters": built.ann.parameters,
        "thresholds": list(built.converted.thresholds),
        "settings": asdict(built.settings),
        "stages": stages,
    }


def _without_answer(sums_nk: Array) -> float:
    """Share of images whose sums are the same for all classes: no spike reached the last layer."""
    return float(np.mean(np.all(sums_nk == sums_nk[:, :1], axis=1)))

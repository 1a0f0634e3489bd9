"""The baseline from a preset's name to the fields of audit.json.

The networks are made (audit.privatesnn.build), checked, and put before the attacks, judges and
metrics that audit.leakage uses, in the same order and with the same budgets.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from audit import measure
from audit.answers import Answers, ask_subjects, check_known
from audit.attacks import FULL, QUICK, AttackImages
from audit.cache import Cache, code_key
from audit.inputs import PRIVATE, FinishedRun, audit_data, load_judges_for
from audit.measure import Audit, Outcome, Watcher
from audit.membership import attack_membership
from audit.metrics.nearest import nearer_to_members
from audit.privatesnn.attacks import float_attacks
from audit.privatesnn.build import Builder, Built, load_ann
from audit.privatesnn.settings import Settings
from audit.privatesnn.subject import (
    check_homogeneous,
    float_subject,
    readings,
    weight_distances,
)
from audit.reconversion import as_fields
from audit.subjects import Subject
from audit.summary import check_sanity, summarise
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
        request=measure.Request(
            request.out, data.spec, request.quick, request.seed, request.judges,
            attacks=request.attacks, command=request.command,
        ),
        run=FinishedRun(request.out, {}, file_hash(stages / "encrypted.safetensors"), {}),
        data=data,
        judges=judges,
        subjects=tuple(one for one in subjects if one.name != UNDISTILLED),
        attacks=_chosen(request.attacks),
        budget=QUICK if request.quick else FULL,
        cache=Cache(request.out / PRIVATE),
        key=key_of(code_key("privatesnn"), built.key),
    )  # fmt: skip
    return _audited(audit, built, subjects, watcher)


def _chosen(names: tuple[str, ...]) -> tuple[Any, ...]:
    wanted = {attack.name for attack in measure.chosen_attacks(names)}
    return tuple(attack for attack in float_attacks() if attack.name in wanted)


def _subjects(built: Built, seed: int) -> tuple[Subject, ...]:
    spiking = {
        "converted": built.converted,
        UNDISTILLED: built.undistilled,
        "encrypted": built.encrypted,
        "random": built.random,
    }
    rest = (float_subject(name, network, seed) for name, network in spiking.items())
    return (Subject("ann", built.ann), *rest)


def _audited(
    audit: Audit, built: Built, subjects: tuple[Subject, ...], watcher: Watcher
) -> Outcome:
    """As audit.measure.run_audit, from the subjects on."""
    told = partial(measure.watched, watcher)
    answers = told("Asking the networks about real images", _answers, audit, subjects, watcher)
    check_known(answers["ann"], audit.data, audit.request.seed)
    made = {attack.name: measure.make_images(audit, attack, watcher) for attack in audit.attacks}
    images = {one.name: {name: made[name][one.name] for name in made} for one in audit.subjects}
    assessor = told("Preparing the real images", measure.prepare_assessor, audit)
    judged, entries = told("Judging all images", measure.judge_images, audit, assessor, images)
    summary = summarise(
        {name: judged[name] for name in images},
        judged["real"][measure.IMAGES],
        audit.access,
        audit.request.seed,
    )
    check_sanity(summary, audit.request.quick)
    rows = measure.subject_rows(audit, entries, answers)
    for name, moved in _moved(built).items():
        if name in rows:
            rows[name] |= moved
    fields = {
        "subjects": rows,
        "membership": told("Membership", _membership, audit, built, answers, images),
        "nearest_image": measure.nearest_rows(entries),
        **summary,
        **measure.provenance(audit, images, assessor),
        "left_out": [one.name for one in float_attacks() if one.name not in made],
        "privatesnn": _own_fields(audit, built, answers),
    }
    return Outcome(fields, images, audit.data)


def _answers(audit: Audit, subjects: tuple[Subject, ...], watcher: Watcher) -> dict[str, Answers]:
    """Every network's answers on training and test images, and those of its readings."""
    request = audit.request
    return ask_subjects(
        subjects, audit.data, request.quick, request.seed, audit.cache, audit.key,
        watcher.progress, readings,
    )  # fmt: skip


def _moved(built: Built) -> dict[str, dict[str, dict[str, float]]]:
    """Subject -> weight_change and weight_cosine by layer, against the converted network."""
    networks = {
        "converted": built.converted,
        UNDISTILLED: built.undistilled,
        "encrypted": built.encrypted,
        "random": built.random,
    }
    return {
        name: as_fields(weight_distances(network, built.converted))
        for name, network in networks.items()
    }


def _membership(
    audit: Audit,
    built: Built,
    answers: dict[str, Answers],
    images: dict[str, dict[str, AttackImages]],
) -> dict[str, Any]:
    seed = audit.request.seed
    rows: dict[str, Any] = {
        one.name: attack_membership(answers[one.name].members, answers[one.name].others, seed)
        for one in audit.subjects
    }
    sets = {"synthetic": built.synthetic.pixels(slice(0, measure.MOST_SYNTHETIC))}
    sets |= {f"encrypted {name}": made.images_nchw for name, made in images["encrypted"].items()}
    members, others = audit.data.training.images_nchw, audit.data.test.images_nchw
    rows["resemblance"] = {
        name: nearer_to_members(pixels, members, others, seed) for name, pixels in sets.items()
    }
    return rows


def _own_fields(audit: Audit, built: Built, answers: dict[str, Answers]) -> dict[str, Any]:
    """What the baseline alone has: settings, thresholds, and every stage with its readings."""
    moved, known = _moved(built), answers["ann"].others[0].argmax(1)
    stages = {}
    for name, found in answers.items():
        agreement = float(np.mean(found.others[0].argmax(1) == known))
        course = built.courses.get(name, {})
        stages[name] = {
            **found.fields(audit.request.seed), "ann_agreement": agreement,
            **moved.get(name, {}), **course,
        }  # fmt: skip
    return {
        "preset": audit.data.spec,
        "network": built.ann.name,
        "parameters": built.ann.parameters,
        "thresholds": list(built.converted.thresholds),
        "settings": asdict(built.settings),
        "stages": stages,
    }

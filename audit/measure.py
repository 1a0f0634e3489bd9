"""The audit from a finished compile to the fields of audit.json.

Order: real images and judges; the subjects' answers on training and test images; images of every
attack on every subject; what it comes to. Images and answers are kept in RUN_DIR/private/audit, so
that an interrupted audit goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np

from audit.answers import Answers, ask_subjects, chosen_alike
from audit.assess import Assessor, make_assessor, noise_images, real_images
from audit.attacks import Attack, AttackImages
from audit.fields import nearest_rows, provenance, spent, subject_rows
from audit.inputs import AuditData
from audit.membership import attack_membership
from audit.metrics.nearest import nearer_to_members
from audit.metrics.recognition import Recognition
from audit.plan import Audit, Request, prepare
from audit.subjects import Subject
from audit.summary import check_sanity, summarise
from compiler.ir.geometry import Array
from compiler.ir.synthetic import SyntheticSet
from compiler.run_folder import RunFolder, key_of
from compiler.steps import SYNTHETIC
from compiler.store import load

IMAGES = "images"
"""Where real images and noise stand among the attacks of a subject: nobody made them."""

MOST_SYNTHETIC = 2_000
"""Synthetic images, at most, that are compared with members."""

Made = dict[str, dict[str, AttackImages]]
"""Subject -> attack -> its images."""


class Watcher(Protocol):
    """Hears how the audit goes on."""

    def begin(self, title: str) -> None:
        """A step starts."""

    def progress(self, done: int, total: int) -> None:
        """So much of the step is done."""

    def end(self, seconds: float, note: str = "") -> None:
        """The step has finished."""


@dataclass(frozen=True)
class Outcome:
    """The content of audit.json, and the images by subject and attack for contact sheets."""

    fields: dict[str, Any]
    images: dict[str, dict[str, AttackImages]]
    data: AuditData


def run_audit(request: Request, watcher: Watcher) -> Outcome:
    """Audit a finished compile; nothing but private/audit is written.

    Raises ModelError, DataError or UsageError for what is missing or does not fit, and
    AuditError where the converted network did not come out as leaky as the ANN.
    """
    audit = watched(watcher, "Reading the compile, the images, the judges", prepare, request)
    answers = watched(watcher, ASKING, ask, audit, audit.subjects, watcher)
    synthetic = load(SyntheticSet, RunFolder(audit.run.path).stage_file(SYNTHETIC))
    return attack_and_judge(audit, answers, synthetic, watcher)


ASKING = "Asking the networks about real images"


def ask(audit: Audit, subjects: tuple[Subject, ...], watcher: Watcher) -> dict[str, Answers]:
    """Every network's answers on training and test images, and those of its readings.

    Raises DataError where the ANN does not know the images.
    """
    request = audit.request
    return ask_subjects(
        subjects, audit.data, request.quick, request.seed, audit.cache, audit.key, watcher.progress
    )


def attack_and_judge(
    audit: Audit, answers: dict[str, Answers], synthetic: SyntheticSet, watcher: Watcher
) -> Outcome:
    """Attack every subject, judge what comes out, and say what it comes to.

    Raises AuditError as run_audit does.
    """
    told, seed = partial(watched, watcher), audit.request.seed
    made = {attack.name: _make_images(audit, attack, watcher) for attack in audit.attacks}
    images = {one.name: {name: made[name][one.name] for name in made} for one in audit.subjects}
    assessor = told("Preparing the real images", _prepare_assessor, audit)
    judged, entries = told("Judging all images", _judge_images, audit, assessor, images)
    summary = summarise(
        {name: judged[name] for name in images}, judged["real"][IMAGES], audit.access, seed
    )
    check_sanity(summary, audit.request.quick, audit.left_out)
    found = {
        "subjects": subject_rows(audit, entries, answers),
        "membership": told("Membership", _membership, audit, answers, synthetic, images),
        "nearest_image": nearest_rows(entries),
        **summary,
        **provenance(audit, images, assessor),
    }
    return Outcome(found, images, audit.data)


def watched(watcher: Watcher, title: str, step: Any, *arguments: Any) -> Any:
    """Run a step that `watcher` hears begin and end."""
    watcher.begin(title)
    started = time.perf_counter()
    result = step(*arguments)
    watcher.end(time.perf_counter() - started)
    return result


def _make_images(audit: Audit, attack: Attack, watcher: Watcher) -> dict[str, AttackImages]:
    """The attack's images of every subject, those already made read again."""
    watcher.begin(attack.title)
    started = time.perf_counter()
    made: dict[str, AttackImages] = {}
    known = 0
    for place, subject in enumerate(audit.subjects):
        key = key_of(audit.key, subject.fingerprint, attack.name, asdict(audit.budget))
        made[subject.name], there = audit.cache.images(
            f"{subject.name}.{attack.name}",
            key,
            partial(
                attack.run, subject, audit.budget, audit.request.seed, _part(audit, watcher, place)
            ),
        )
        known += there
    note = "already there" if known == len(made) else f"{known} already there" if known else ""
    watcher.end(time.perf_counter() - started, note)
    return made


def _part(audit: Audit, watcher: Watcher, place: int) -> Callable[[int, int], None]:
    """Progress of one subject as part of the progress of all."""
    return lambda done, total: watcher.progress(
        place * total + done, len(audit.subjects) * max(total, 1)
    )


def _prepare_assessor(audit: Audit) -> Assessor:
    return make_assessor(
        audit.data, audit.judges, audit.set_size, audit.request.seed, audit.inception
    )


def _judge_images(
    audit: Audit, assessor: Assessor, images: Made
) -> tuple[dict[str, dict[str, Recognition]], dict[str, dict[str, Any]]]:
    """What the judges say, and the fields of audit.json, by subject and attack."""
    sets = {
        name: {attack: (made.images_nchw, made.labels_n) for attack, made in by_attack.items()}
        for name, by_attack in images.items()
    }
    seed, shape = audit.request.seed, audit.data.test.images_nchw.shape[1:]
    noise = noise_images(shape, audit.set_size, len(audit.data.class_names), seed)
    sets |= {"real": {IMAGES: real_images(audit.data, len(audit.data.test), seed)}}
    sets |= {"noise": {IMAGES: noise}}
    judged: dict[str, dict[str, Recognition]] = {}
    entries: dict[str, dict[str, Any]] = {}
    for name, by_attack in sets.items():
        judged[name], entries[name] = {}, {}
        for attack, (pixels, labels) in by_attack.items():
            judged[name][attack] = assessor.judged(pixels, labels)
            entries[name][attack] = assessor.fields(pixels, labels, judged[name][attack])
            if name in images:
                entries[name][attack] |= spent(images[name][attack])
    return judged, entries


def _membership(
    audit: Audit, answers: dict[str, Answers], synthetic: SyntheticSet, images: Made
) -> dict[str, Any]:
    """Membership inference on every subject, and whether made images resemble members."""
    seed = audit.request.seed
    rows: dict[str, Any] = {
        one.name: attack_membership(answers[one.name].members, answers[one.name].others, seed)
        for one in audit.subjects
    }
    sets = {"synthetic": synthetic.pixels(slice(0, MOST_SYNTHETIC))}
    sets |= {f"encrypted {name}": made.images_nchw for name, made in images["encrypted"].items()}
    rows["resemblance"] = _resemblance(audit.data, sets, seed)
    return rows


def _resemblance(data: AuditData, sets: dict[str, Array], seed: int) -> dict[str, Any]:
    """Whether each set lies nearer to training than to test images, as many of a class in both."""
    parts = (data.training, data.test)
    most = min(len(part) for part in parts)
    places = chosen_alike(parts[0].labels, parts[1].labels, most, seed)
    members, others = (
        part.only(index[np.argsort(part.labels[index], kind="stable")])
        for part, index in zip(parts, places, strict=True)
    )
    real = (members.images_nchw, others.images_nchw, members.labels)
    return {name: nearer_to_members(pixels, *real, seed) for name, pixels in sets.items()}

"""The audit from a finished compile to the fields of audit.json.

Order: real images and judges; the subjects' answers on training and test images; images of every
attack on every subject; what it comes to. Images and answers are kept in RUN_DIR/private/audit, so
that an interrupted audit goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from audit.answers import Answers, ask_subjects, check_known
from audit.assess import Assessor, Features, make_assessor, noise_images, real_images
from audit.attacks import ATTACKS, FULL, QUICK, Attack, AttackImages, Budget
from audit.cache import Cache, code_key
from audit.inputs import AuditData, FinishedRun, load_judges_for, load_parts, open_finished_run
from audit.judges.judge import Judge
from audit.membership import attack_membership
from audit.metrics.nearest import nearer_to_members
from audit.metrics.recognition import Recognition
from audit.subjects import Subject, load_subjects
from audit.summary import check_sanity, summarise
from compiler.errors import UsageError, one_problem
from compiler.report import AUDIT_SCHEMA
from compiler.run_folder import key_of

IMAGES = "images"
"""Where real images and noise stand among the attacks of a subject: nobody made them."""

CONTROLS = ("real", "noise")


class Watcher(Protocol):
    """Hears how the audit goes on."""

    def begin(self, title: str) -> None:
        """A step starts."""

    def progress(self, done: int, total: int) -> None:
        """So much of the step is done."""

    def end(self, seconds: float, note: str = "") -> None:
        """The step has finished."""


@dataclass(frozen=True)
class Request:
    """One audit; see `python -m audit.leakage --help` for the options."""

    run_dir: Path
    data: str | None = None
    quick: bool = False
    seed: int = 0
    judges: Path | None = None
    inception: Path | None = None
    attacks: tuple[str, ...] = ()
    withheld: int = 0
    command: str = ""


@dataclass(frozen=True)
class Audit:
    """A request with everything that it needs, read and checked."""

    request: Request
    run: FinishedRun
    data: AuditData
    judges: tuple[Judge, ...]
    subjects: tuple[Subject, ...]
    attacks: tuple[Attack, ...]
    budget: Budget
    cache: Cache
    key: str
    inception: Features | None = None

    @property
    def access(self) -> dict[str, str]:
        """Attack -> `weights` or `queries`.

        Where layers are withheld there is no whole network to ask, and the attacker asks the one
        that he has put together from the file.
        """
        withheld = self.request.withheld
        return {one.name: "weights" if withheld else one.access for one in self.attacks}

    @property
    def set_size(self) -> int:
        """Images that each attack makes of all classes together."""
        return self.budget.images_per_class * len(self.data.class_names)


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
    audit = watched(watcher, "Reading the compile, the images, the judges", _prepare, request)
    answers = watched(watcher, "Asking the networks about real images", _answers, audit, watcher)
    check_known(answers["ann"], audit.data, request.seed)
    made = {attack.name: make_images(audit, attack, watcher) for attack in audit.attacks}
    images = {
        subject.name: {attack: made[attack][subject.name] for attack in made}
        for subject in audit.subjects
    }
    assessor = watched(watcher, "Preparing the real images", prepare_assessor, audit)
    judged, entries = watched(watcher, "Judging all images", judge_images, audit, assessor, images)
    summary = summarise(
        {name: judged[name] for name in images},
        judged["real"][IMAGES],
        audit.access,
        request.seed,
    )
    check_sanity(summary, request.quick)
    found = {
        "subjects": subject_rows(audit, entries, answers),
        "membership": watched(watcher, "Membership", _membership, audit, answers, images),
        "nearest_image": nearest_rows(entries),
        **summary,
        **provenance(audit, images, assessor),
    }
    return Outcome(found, images, audit.data)


def _notes_on_withheld(count: int) -> list[str]:
    if not count:
        return []
    layers = "The first layer was" if count == 1 else f"The first {count} layers were"
    return [
        f"{layers} withheld from the attacker: `encrypted` is his guess in front of the others. "
        "Whoever can show images to host and chip together has the attacks by queries of an "
        "audit without --withheld."
    ]


def watched(watcher: Watcher, title: str, step: Any, *arguments: Any) -> Any:
    """Run a step that `watcher` hears begin and end."""
    watcher.begin(title)
    started = time.perf_counter()
    result = step(*arguments)
    watcher.end(time.perf_counter() - started)
    return result


def _prepare(request: Request) -> Audit:
    from audit.metrics.inception import InceptionFeatures
    from compiler.ir.ann import AnnGraph
    from compiler.store import load

    attacks = chosen_attacks(request.attacks)
    run = open_finished_run(request.run_dir)
    ann = load(AnnGraph, run.path / "private" / "ann.safetensors")
    data = load_parts(run, ann, request.data)
    judges = load_judges_for(data, ann, request.judges)
    return Audit(
        request=request,
        run=run,
        data=data,
        judges=judges,
        subjects=tuple(load_subjects(run.path, request.seed, request.withheld)),
        attacks=attacks,
        budget=QUICK if request.quick else FULL,
        cache=Cache(run.private),
        key=key_of(code_key(), request.seed),
        inception=InceptionFeatures(request.inception) if request.inception else None,
    )


def chosen_attacks(names: Sequence[str]) -> tuple[Attack, ...]:
    """The attacks of these names, all for none; UsageError names those that do not exist."""
    known = [attack.name for attack in ATTACKS]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise one_problem(
            UsageError,
            "no such attack",
            "--attacks",
            ", ".join(unknown),
            ", ".join(known),
            "name some of these, or leave the option out to make all",
        )
    return tuple(attack for attack in ATTACKS if not names or attack.name in names)


def make_images(audit: Audit, attack: Attack, watcher: Watcher) -> dict[str, AttackImages]:
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


def prepare_assessor(audit: Audit) -> Assessor:
    """What judges images, with the real ones to compare them with."""
    return make_assessor(
        audit.data, audit.judges, audit.set_size, audit.request.seed, audit.inception
    )


def _answers(audit: Audit, watcher: Watcher) -> dict[str, Answers]:
    return ask_subjects(
        audit.subjects, audit.data, audit.request.quick, audit.request.seed, audit.cache,
        audit.key, watcher.progress,
    )  # fmt: skip


def judge_images(
    audit: Audit, assessor: Assessor, images: dict[str, dict[str, AttackImages]]
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
                entries[name][attack] |= _spent(images[name][attack])
    return judged, entries


def _spent(made: AttackImages) -> dict[str, Any]:
    return {
        "gradient_steps": made.gradient_steps,
        "queries": made.queries,
        "seconds": made.seconds,
        "details": made.details,
    }


def subject_rows(
    audit: Audit, entries: dict[str, dict[str, Any]], answers: dict[str, Answers]
) -> dict[str, Any]:
    """The entry of every subject, the real images and the noise among them."""
    rows: dict[str, Any] = {
        subject.name: {
            **answers[subject.name].fields(audit.request.seed),
            **_weights(audit, subject),
            "attacks": _without_nearest(entries[subject.name]),
        }
        for subject in audit.subjects
    }
    for name in CONTROLS:
        rows[name] = {
            "accuracy": None,
            "reconverted": {"relu": None, "clipped_relu": None},
            "weight_change": {},
            "weight_cosine": {},
            "attacks": _without_nearest(entries[name]),
        }
    return rows


def _weights(audit: Audit, subject: Subject) -> dict[str, Any]:
    """weight_change and weight_cosine by layer, against the converted network."""
    from audit.reconversion import as_fields, weight_distances

    converted = next(other for other in audit.subjects if other.name == "converted")
    moved = weight_distances(subject, converted)
    for layer in [*moved][: audit.request.withheld if subject.name == "encrypted" else 0]:
        del moved[layer]  # the attacker's guess, which nobody trained
    return as_fields(moved)


def _without_nearest(entries: dict[str, Any]) -> dict[str, Any]:
    return {
        attack: {key: value for key, value in entry.items() if key != "nearest"}
        for attack, entry in entries.items()
    }


def nearest_rows(entries: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """By space (pixels, features), subject and attack: distances to the nearest training image."""
    spaces = next(iter(entries["real"].values()))["nearest"]
    return {
        space: {
            name: {attack: entry["nearest"][space] for attack, entry in by_attack.items()}
            for name, by_attack in entries.items()
        }
        for space in spaces
    }


def _membership(
    audit: Audit, answers: dict[str, Answers], images: dict[str, dict[str, AttackImages]]
) -> dict[str, Any]:
    """Membership inference on every subject, and whether made images resemble members."""
    from compiler.ir.synthetic import SyntheticSet
    from compiler.store import load

    seed = audit.request.seed
    rows: dict[str, Any] = {
        name: attack_membership(found.members, found.others, seed)
        for name, found in answers.items()
    }
    synthetic = load(SyntheticSet, audit.run.path / "private" / "synthetic.safetensors")
    sets = {"synthetic": synthetic.pixels(slice(0, MOST_SYNTHETIC))}
    sets |= {f"encrypted {name}": made.images_nchw for name, made in images["encrypted"].items()}
    members, others = audit.data.training.images_nchw, audit.data.test.images_nchw
    rows["resemblance"] = {
        name: nearer_to_members(pixels, members, others, seed) for name, pixels in sets.items()
    }
    return rows


MOST_SYNTHETIC = 2_000
"""Synthetic images, at most, that are compared with members."""


def provenance(
    audit: Audit, images: dict[str, dict[str, AttackImages]], assessor: Assessor
) -> dict[str, Any]:
    """How it was made: command, seeds, data, judges, attacks, what they might and did spend."""
    from compiler.versions import tool_versions

    request, data = audit.request, audit.data
    return {
        "schema_version": AUDIT_SCHEMA,
        "command": request.command,
        "quick": request.quick,
        "withheld_layers": request.withheld,
        "seed": request.seed,
        "model_sha256": audit.run.model_hash,
        "data": {
            "spec": data.spec,
            "test": {"images": len(data.test), "sha256": data.test.fingerprint},
            "training": {"images": len(data.training), "sha256": data.training.fingerprint},
        },
        "judges": {judge.name: {"test_accuracy": judge.accuracy} for judge in audit.judges},
        "features_of": audit.judges[0].name,
        "fid_images": assessor.set_size,
        "attacks": {
            attack.name: {
                "title": attack.title,
                "family": attack.family,
                "access": audit.access[attack.name],
                "extras": attack.extras,
            }
            for attack in audit.attacks
        },
        "left_out": [a.name for a in ATTACKS if a not in audit.attacks],
        "budget": asdict(audit.budget),
        "spent": {
            name: {
                "gradient_steps": sum(made.gradient_steps for made in by_attack.values()),
                "queries": sum(made.queries for made in by_attack.values()),
                "seconds": sum(made.seconds for made in by_attack.values()),
            }
            for name, by_attack in images.items()
        },
        "versions": tool_versions(),
        "notes": [*data.notes, *_notes_on_withheld(request.withheld)],
        "guarantee": None,
    }

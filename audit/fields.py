"""What stands in audit.json of subjects, attacks and images, and how it was made."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from audit.answers import Answers
from audit.assess import Assessor
from audit.attacks import AttackImages
from audit.plan import Audit
from audit.reconversion import as_fields, weight_distances
from audit.subjects import Subject
from compiler.report import AUDIT_SCHEMA
from compiler.versions import tool_versions

CONTROLS = ("real", "noise")


def spent(made: AttackImages) -> dict[str, Any]:
    """What an attack on one subject cost."""
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


def provenance(
    audit: Audit, images: dict[str, dict[str, AttackImages]], assessor: Assessor
) -> dict[str, Any]:
    """How it was made: command, seeds, data, judges, attacks, what they might and did spend."""
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
        "left_out": audit.left_out,
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


def _notes_on_withheld(count: int) -> list[str]:
    if not count:
        return []
    layers = "The first layer was" if count == 1 else f"The first {count} layers were"
    return [
        f"{layers} withheld from the attacker: `encrypted` is his guess in front of the others. "
        "Whoever can show images to host and chip together has the attacks by queries of an "
        "audit without --withheld."
    ]

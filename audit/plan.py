"""What an audit is asked to do, and everything that it needs for it, read and checked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from audit.assess import Features
from audit.attacks import ATTACKS, FULL, QUICK, Attack, Budget
from audit.cache import Cache, code_key
from audit.inputs import PRIVATE, AuditData, load_judges_for, load_parts
from audit.judges.judge import Judge
from audit.subjects import Subject, load_subjects
from compiler.errors import UsageError, one_problem
from compiler.finished_run import FinishedRun, open_finished_run
from compiler.ir.ann import AnnGraph
from compiler.run_folder import key_of
from compiler.store import load

T = TypeVar("T")


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
    def left_out(self) -> list[str]:
        """Names of the attacks that are not made."""
        return [one.name for one in ATTACKS if one.name not in self.access]

    @property
    def set_size(self) -> int:
        """Images that each attack makes of all classes together."""
        return self.budget.images_per_class * len(self.data.class_names)


def prepare(request: Request) -> Audit:
    """Read what the audit needs; raises ModelError, DataError or UsageError as run_audit does."""
    from audit.metrics.inception import InceptionFeatures

    attacks = chosen_attacks(request.attacks)
    run = open_finished_run(request.run_dir)
    ann = load(AnnGraph, run.path / "private" / "ann.safetensors")
    data = load_parts(run, ann, request.data)
    judges = load_judges_for(data, ann, request.judges)
    inception = InceptionFeatures(request.inception) if request.inception else None
    (run.path / PRIVATE).mkdir(exist_ok=True)
    cache, key = Cache(run.path / PRIVATE), key_of(code_key(), request.seed)

    def keep(kind: type[T], name: str, decided_by: object, make: Callable[[], T]) -> T:
        return cache.value(kind, name, key_of(key, decided_by), make)

    return Audit(
        request=request,
        run=run,
        data=data,
        judges=judges,
        subjects=tuple(load_subjects(run.path, request.seed, request.withheld, keep)),
        attacks=attacks,
        budget=QUICK if request.quick else FULL,
        cache=cache,
        key=key,
        inception=inception,
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

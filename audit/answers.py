"""What the subjects answer on training and test images: for accuracies and for membership."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from audit.cache import Cache
from audit.inputs import AuditData
from audit.metrics.intervals import mean_estimate
from compiler.errors import DataError, one_problem
from compiler.ir.geometry import Array
from compiler.ir.run_ann import run_ann
from compiler.run_folder import key_of

if TYPE_CHECKING:
    from audit.subjects import Subject

QUICK_IMAGES = 1_000
FULL_IMAGES = 5_000
"""Training images, and as many test images, at most, that a subject is asked about."""

READING = "reconverted."
"""Before the name of a re-converted network among the arrays kept."""


@dataclass(frozen=True)
class Answers:
    """A subject's logits on training images (members) and on test images (others).

    members, others: (logits_nk, labels_n); readings: for each network that the weights were
    put back into, its right answers on the same test images, bool (N,); needed: for each of them
    the `queries` to the spiking network and the `extras` that it takes beside the file.
    """

    members: tuple[Array, Array]
    others: tuple[Array, Array]
    readings: dict[str, Array]
    needed: dict[str, dict[str, Any]]

    @property
    def right_n(self) -> Array:
        """Right answers on test images."""
        right: Array = self.others[0].argmax(1) == self.others[1]
        return right

    @property
    def accuracy(self) -> float:
        """Share of right answers on test images."""
        return float(self.right_n.mean())

    def fields(self, seed: int) -> dict[str, Any]:
        """accuracy and reconverted, with intervals, in audit.json."""
        training = self.members[0].argmax(1) == self.members[1]
        return {
            "accuracy": self.accuracy,
            "accuracy_interval": mean_estimate(self.right_n, seed).as_dict(),
            "accuracy_on_training_images": float(training.mean()),
            "test_images": len(self.right_n),
            "reconverted": {name: float(right.mean()) for name, right in self.readings.items()},
            "readings": self.needed,
        }


def ask_subjects(
    subjects: Sequence[Subject],
    data: AuditData,
    quick: bool,
    seed: int,
    cache: Cache,
    key: str,
    progress: Callable[[int, int], None],
) -> dict[str, Answers]:
    """Ask every subject about the same training and test images; kept in the cache.

    The ANN is asked first: raises DataError, as check_known does, before hours are spent.
    """
    most = QUICK_IMAGES if quick else FULL_IMAGES
    parts = (data.training, data.test)
    indices = chosen_alike(data.training.labels, data.test.labels, most, seed)
    chosen = [
        (part.images_nchw[index], part.labels[index])
        for part, index in zip(parts, indices, strict=True)
    ]
    shown = [data.training.fingerprint, data.test.fingerprint, most]
    answers: dict[str, Answers] = {}
    for done, subject in enumerate(subjects):
        progress(done, len(subjects))
        own = key_of(key, subject.fingerprint, shown)
        make = partial(_ask, subject, chosen, seed)
        arrays, facts, _ = cache.arrays(f"{subject.name}.answers", own, make)
        (_, member_labels), (_, other_labels) = chosen
        answers[subject.name] = Answers(
            (arrays["members"], member_labels),
            (arrays["others"], other_labels),
            {
                name.removeprefix(READING): logits.argmax(1) == other_labels
                for name, logits in arrays.items()
                if name.startswith(READING)
            },
            facts["readings"],
        )
        if subject.name == "ann":
            check_known(answers["ann"], data, seed)
    return answers


def check_known(ann: Answers, data: AuditData, seed: int) -> None:
    """DataError unless the ANN knows the test images better than naming one class would."""
    known = mean_estimate(ann.right_n, seed)
    _, counts = np.unique(ann.others[1], return_counts=True)
    chance = counts.max() / counts.sum()
    if known.low <= chance:
        raise one_problem(
            DataError,
            "the network does not know these images",
            data.spec,
            f"{known.value:.1%} ({known.low:.1%} to {known.high:.1%}) right answers of the ANN, "
            f"where the most frequent class alone has {chance:.1%}",
            "the data that the network was trained for, with the same order of classes",
            "name that data: --data DATA",
        )


def chosen_alike(first_n: Array, second_n: Array, most: int, seed: int) -> tuple[Array, Array]:
    """Indices of as many images of each class in one part as in the other, at most `most` each.

    What tells the parts apart is then no difference of how often the classes are in them. As
    even over the classes as the smaller number of each class allows.
    """
    from sim.datasets import choose_evenly

    labels = np.union1d(first_n, second_n)
    counts = [np.minimum(np.sum(first_n == label), np.sum(second_n == label)) for label in labels]
    both = np.repeat(labels, counts)
    if not len(both):
        raise one_problem(
            DataError,
            "training and test part have no class in common",
            "the data",
            "every class in one part alone",
            "classes with images in both parts",
            "divide the images anew",
        )
    wanted = both[choose_evenly(both, min(most, len(both)), seed)]
    generator = np.random.default_rng(seed)
    return _drawn(first_n, wanted, generator), _drawn(second_n, wanted, generator)


def _drawn(labels_n: Array, wanted_n: Array, generator: np.random.Generator) -> Array:
    """Sorted indices of as many images of each class as `wanted_n` names it."""
    found = [
        generator.permutation(np.flatnonzero(labels_n == label))[: np.sum(wanted_n == label)]
        for label in np.unique(wanted_n)
    ]
    return np.sort(np.concatenate(found))


def _ask(
    subject: Subject, chosen: list[tuple[Array, Array]], seed: int
) -> tuple[dict[str, Array], dict[str, Any]]:
    from audit.reconversion import reconversions

    (members, _), (others, _) = chosen
    arrays = {
        "members": np.asarray(subject.logits(members), np.float64),
        "others": np.asarray(subject.logits(others), np.float64),
    }
    needed = {}
    for made in reconversions(subject, seed):
        arrays[READING + made.name] = run_ann(made.graph, others)
        needed[made.name] = {"queries": made.queries, "extras": made.extras}
    return arrays, {"readings": needed}

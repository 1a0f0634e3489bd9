"""Every attack on a small compile: it finds classes, counts what it spends, repeats itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from audit import reconversion
from audit.attacks import ATTACKS, FULL, QUICK, Attack, AttackImages, Budget
from audit.attacks.common import Scored, target_gradient, target_loss
from audit.cache import sources
from audit.judges.judge import find_judges
from audit.reconversion import Reconversion
from audit.subjects import Subject, random_weights
from benchmarks import readings
from compiler.ir import ChipGraph
from sim.datasets import load_dataset

BY_NAME = {attack.name: attack for attack in ATTACKS}
NAMES = list(BY_NAME)
CHEAP = replace(
    QUICK, images_per_class=1, gradient_steps=2, spiking_steps=2, spiking_full_steps=1,
    queries_per_image=20, queries=120, training_steps=8,
)  # fmt: skip


FAMILIES = ("representative", "surrogate", "evolution", "image_prior", "clone", "adaptive")


@pytest.fixture(scope="module")
def made(subjects: dict[str, Subject], tiny_budget: Budget) -> dict[str, AttackImages]:
    subject = subjects["encrypted"]
    return {attack.name: attack.run(subject, tiny_budget, 0) for attack in ATTACKS}


def test_families_and_names() -> None:
    assert tuple(dict.fromkeys(attack.family for attack in ATTACKS)) == FAMILIES
    assert len(BY_NAME) == len(ATTACKS)
    assert sum(attack.family == "surrogate" for attack in ATTACKS) >= 4
    assert {a.family for a in ATTACKS if a.access == "queries"} == {"evolution", "clone"}


@pytest.mark.parametrize("name", NAMES)
def test_images_of_every_class_within_range(made: dict[str, AttackImages], name: str) -> None:
    result = made[name]
    assert result.attack == name
    assert result.images_nchw.shape == (10, 1, 8, 8) and result.images_nchw.dtype == np.float32
    assert result.images_nchw.min() >= 0 and result.images_nchw.max() <= 1
    assert result.labels_n.tolist() == list(range(10)) and result.labels_n.dtype == np.int64
    assert result.seconds > 0


@pytest.mark.parametrize("name", NAMES)
def test_the_subject_sees_the_class_more_than_in_noise(
    made: dict[str, AttackImages], subjects: dict[str, Subject], name: str
) -> None:
    result = made[name]
    rng = np.random.default_rng(0)
    noise = rng.random(result.images_nchw.shape, dtype=np.float32)
    subject = subjects["encrypted"]
    assert score(subject, result.images_nchw) > score(subject, noise) + 0.5


def score(subject: Subject, images: np.ndarray) -> float:
    """Standardised answer of each image's label, on average."""
    answers = subject.logits(images)
    answers = answers - answers.mean(1, keepdims=True)
    return float((answers[range(10), range(10)] / answers.std()).mean())


SPENT = {
    "representative": (150, 0),
    "surrogate-exponential": (8, 0),
    "surrogate-linear": (8, 0),
    "surrogate-fast-sigmoid": (8, 0),
    "surrogate-arctan": (8, 0),
    "surrogate-rectangular": (8, 0),
    "evolution": (0, 256 + 10 * 100),
    "image_prior": (20 + 6 * 5 + 2 * (20 + 200), 6 * 10 + 2 * (256 + 1024)),
    "clone": (2 * 80 + 2 * 20 + 20, 600),
    "adaptive": (80 // 4 + 20 + 20, 600),
}


@pytest.mark.parametrize("name", NAMES)
def test_what_is_spent_is_counted_exactly(made: dict[str, AttackImages], name: str) -> None:
    assert (made[name].gradient_steps, made[name].queries) == SPENT[name]


@pytest.mark.parametrize("name", ["evolution", "clone"])
def test_attacks_by_queries_see_answers_alone(
    subjects: dict[str, Subject],
    tiny_budget: Budget,
    made: dict[str, AttackImages],
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Their queries are counted where they arrive, and nothing else of the subject is read."""
    subject = subjects["encrypted"]
    asked = []

    class Oracle:
        input_shape, classes = subject.input_shape, subject.classes

        def logits(self, images: np.ndarray) -> np.ndarray:
            asked.append(len(images))
            return subject.logits(images)

    result = BY_NAME[name].run(Oracle(), tiny_budget, 0)  # type: ignore[arg-type]
    assert sum(asked) == result.queries
    np.testing.assert_array_equal(result.images_nchw, made[name].images_nchw)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_same_seed_same_images(attack: Attack, subjects: dict[str, Subject]) -> None:
    one, two, other = (
        attack.run(subjects["converted"], CHEAP, seed).images_nchw for seed in (5, 5, 6)
    )
    np.testing.assert_array_equal(one, two)
    assert np.abs(one - other).max() > 0.01


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_every_subject_is_attacked_at_the_same_price(
    attack: Attack, subjects: dict[str, Subject]
) -> None:
    spent = set()
    for subject in subjects.values():
        if attack.family in ("adaptive", "image_prior") and not subject.spiking:
            continue  # nothing to fit: the ANN is the network that the attack works towards
        result = attack.run(subject, CHEAP, 0)
        spent.add((result.gradient_steps, result.queries))
    assert len(spent) == 1


def test_progress_reaches_its_end(subjects: dict[str, Subject], tiny_budget: Budget) -> None:
    for name in ("representative", "evolution", "image_prior", "surrogate-linear"):
        heard: list[tuple[int, int]] = []
        BY_NAME[name].run(
            subjects["ann"],
            tiny_budget,
            0,
            lambda done, total: heard.append((done, total)),  # noqa: B023
        )
        assert heard[-1][0] == heard[-1][1] == len(heard), name


def test_the_full_budget_is_nowhere_smaller() -> None:
    quick, full = vars(QUICK), vars(FULL)
    assert not {name for name in quick if full[name] < quick[name]}


def test_the_copy_learns_the_subject(subjects: dict[str, Subject]) -> None:
    """On real digits, which it never sees."""

    from audit.attacks.clone import clones
    from audit.attacks.common import Meter

    budget = replace(QUICK, queries=1_000, training_steps=120)
    meter = Meter(None, 1)
    generator = torch.Generator().manual_seed(0)
    copies, agreement = clones(subjects["encrypted"], budget, 0, generator, meter)
    images = load_dataset("digits", (1, 8, 8), 300).images_nchw
    expected = subjects["encrypted"].logits(images).argmax(1)
    for copy in copies:
        with torch.no_grad():
            found = copy(torch.tensor(images)).argmax(1).numpy()
        assert np.mean(found == expected) > 0.35
    assert agreement > 0.35
    assert meter.queries == 1_000


def test_the_gradient_of_many_images_is_computed_part_by_part(
    subjects: dict[str, Subject],
) -> None:
    """The same as of all at once, and no pass through time with more than the module says."""
    subject = subjects["encrypted"]
    module = subject.module("spiking")
    model, seen = Scored(module, subject.input_shape), []
    module.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    images = torch.rand(40, *subject.input_shape, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(40) % 10
    found = target_gradient([model], images, labels)
    assert seen == [module.at_once, module.at_once, 40 - 2 * module.at_once]
    images.requires_grad_()
    (whole,) = torch.autograd.grad(target_loss([model], images, labels).sum(), images)
    assert found.abs().max() > 0
    torch.testing.assert_close(found, whole)


def test_the_reading_whose_images_persuade_the_file_is_inverted(
    subjects: dict[str, Subject], tiny_budget: Budget, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the first of them nor the last."""
    subject = subjects["converted"]
    plain = subject.reconverted()
    wrong = random_weights(plain, 0)
    graphs = {"relu": wrong, "relu_finetuned": plain, "clipped_relu": wrong}
    readings = tuple(Reconversion(name, graph, 3, "", 1e3) for name, graph in graphs.items())
    monkeypatch.setattr(reconversion, "reconversions", lambda *_: readings)
    made = BY_NAME["image_prior"].run(subject, tiny_budget, 0)
    assert made.details["view"] == "relu_finetuned"
    assert made.queries == 3 * 10 + 3
    assert made.seconds > 3e3


def test_the_study_tells_of_every_reading_what_an_attacker_and_the_judges_know(
    subjects: dict[str, Subject], tiny_budget: Budget, tmp_path: Path
) -> None:
    """The one that the attack inverts persuades most, and its images are the attack's price."""
    subject = subjects["encrypted"]
    data = load_dataset("digits", subject.input_shape)
    found = list(readings.measure(subject, find_judges(data, None), 0, tiny_budget))
    made = reconversion.reconversions(subject, 0)
    assert [one["reading"] for one in found] == [one.name for one in made]
    best = max(found, key=lambda one: one["persuasion"])
    attacked = BY_NAME["image_prior"].run(subject, tiny_budget, 0)
    assert attacked.details["view"] == best["reading"]
    assert all(one["agreement"] > 0.5 and 0 < one["recognised"]["value"] < 1 for one in found)
    assert readings.main([str(tmp_path)]) == 1


def with_thresholds(graph: ChipGraph, factor: float) -> ChipGraph:
    """Every hidden threshold times `factor`."""
    layers = [
        layer
        if layer.readout
        else replace(
            layer, neuron=replace(layer.neuron, v_th_mant=int(factor * layer.neuron.v_th_mant))
        )
        for layer in graph.layers
    ]
    return replace(graph, layers=tuple(layers))


def test_the_coarse_ascent_runs_as_many_steps_as_spikes_need(
    subjects: dict[str, Subject],
) -> None:
    """Behind high thresholds nothing arrives in a quarter of the time-steps."""
    attack, graph = BY_NAME["surrogate-exponential"], subjects["converted"].network
    assert isinstance(graph, ChipGraph) and graph.timesteps == 16
    coarse = []
    for factor in (1.0, 1.5, 1000.0):
        subject = Subject("converted", with_thresholds(graph, factor))
        made = attack.run(subject, CHEAP, 0)
        assert np.isfinite(made.images_nchw).all()
        coarse.append(made.details["coarse_timesteps"])
    assert coarse == [8, 12, None]


def test_what_decides_the_images_is_in_their_key() -> None:
    shared = {"start.py", "kernel.cpp", "convert.py", "config.py", "reference.py", "datasets.py"}
    names = {path.name for path in sources()}
    assert names >= shared | {"image_prior.py", "reconversion.py", "reconvert.py"}
    assert not names & {"training.py", "summary.py", "sheets.py"}
    assert {path.name for path in sources("privatesnn")} - names >= {"training.py", "encoder.py"}

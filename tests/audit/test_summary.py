"""Worst attack, floor, ceiling and the audit's own check, from hits made by hand."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from audit.metrics.recognition import Recognition
from audit.sheets import contact_sheet, stretched
from audit.summary import MARGIN, check_sanity, summarise
from compiler.errors import AuditError
from compiler.report_parts import leakage

ACCESS = {"a": "weights", "b": "weights", "c": "queries"}


def hits(share: float, count: int = 200) -> Recognition:
    """Two judges; the first recognises `share` of the images, the second none beyond a half."""
    first = np.arange(count) < share * count
    second = np.arange(count) < share * count * 0.5
    both = np.stack([first, second])
    return Recognition(("x", "y"), both, both.astype(float), np.arange(count) % 10)


def by_attack(**shares: float) -> dict[str, Recognition]:
    return {name: hits(share) for name, share in shares.items()}


def judged(**changed: dict[str, Recognition]) -> dict[str, dict[str, Recognition]]:
    plain = {
        "ann": by_attack(a=0.9, b=0.8, c=0.7),
        "converted": by_attack(a=0.88, b=0.82, c=0.7),
        "encrypted": by_attack(a=0.5, b=0.8, c=0.6),
        "random": by_attack(a=0.2, b=0.1, c=0.1),
    }
    return plain | changed


def test_the_worst_attack_on_the_encrypted_network_counts() -> None:
    found = summarise(judged(), hits(1.0), ACCESS, seed=0)
    assert found["worst_attack"] == "b"
    assert found["worst"] == pytest.approx(0.75 * 0.8)
    assert found["floor"] == pytest.approx(0.75 * 0.1)
    assert found["highest_floor"]["attack"] == "a"
    assert found["highest_floor"]["value"] == pytest.approx(0.75 * 0.2)
    assert found["blackbox_attack"] == "c"
    assert found["blackbox"] == pytest.approx(0.75 * 0.6)
    assert found["ceiling"] == pytest.approx(0.75)
    for name in ("worst", "floor", "blackbox", "ceiling"):
        ends = found["intervals"][name]
        assert ends["low"] <= ends["value"] <= ends["high"]
    assert found["gain_over_floor"]["value"] == pytest.approx(0.75 * 0.7)
    assert found["gain_over_blackbox"]["value"] == pytest.approx(0.75 * 0.2)


def test_queries_can_do_better_than_weights() -> None:
    better = judged(encrypted=by_attack(a=0.5, b=0.6, c=0.8))
    found = summarise(better, hits(1.0), ACCESS, seed=0)
    assert found["worst_attack"] == found["blackbox_attack"] == "c"
    assert found["whitebox_attack"] == "b"
    assert found["gain_over_blackbox"]["value"] == pytest.approx(-0.75 * 0.2)
    text = " ".join(leakage.verdicts(audit(**found)))
    assert "hiding the weights better would not help" in text


def test_without_queries_there_is_no_black_box() -> None:
    some = {name: {"a": shares["a"]} for name, shares in judged().items()}
    found = summarise(some, hits(1.0), ACCESS, seed=0)
    assert found["blackbox"] is None
    assert found["gain_over_blackbox"] is None
    assert "blackbox" not in found["intervals"]


def test_the_check_passes_and_fails() -> None:
    good = summarise(judged(), hits(1.0), ACCESS, seed=0)
    check_sanity(good, quick=False)
    low = by_attack(a=0.3, b=0.35, c=0.3)
    bad = summarise(judged(converted=low), hits(1.0), ACCESS, seed=0)
    assert bad["sanity"]["gap"]["high"] < -MARGIN
    with pytest.raises(AuditError, match="report a bug") as raised:
        check_sanity(bad, quick=False)
    assert raised.value.exit_status == 1
    assert f"{0.75 * 0.35:.1%}" in str(raised.value)
    with pytest.raises(AuditError, match="without --quick"):
        check_sanity(bad, quick=True)
    with pytest.raises(AuditError, match="without --attacks"):
        check_sanity(bad, quick=False, left_out=["c"])


def test_attacks_that_read_nothing_from_the_ann_either_say_nothing() -> None:
    """Four networks alike: the check against the ANN holds, and yet no verdict may follow."""
    alike = {name: by_attack(a=0.15, b=0.12, c=0.13) for name in judged()}
    found = summarise(alike, hits(1.0), ACCESS, seed=0)
    check_sanity(found, quick=False)
    assert found["sanity"]["holds"]
    assert not found["sanity"]["attacks_work"]
    text = " ".join(leakage.verdicts(audit(**found)))
    assert "This audit can say nothing" in text
    assert "No leak" not in text
    assert "training in the spiking domain" not in text


def test_what_training_hid_needs_more_than_chance() -> None:
    """The same true rate, other images: a gap of some points is not called hidden."""
    near = judged(encrypted=by_attack(a=0.5, b=0.86, c=0.6))
    found = summarise(near, hits(1.0), ACCESS, seed=0)
    assert found["hidden"]["low"] < 0 < found["hidden"]["value"]
    assert "hid nothing that these attacks read" in " ".join(leakage.verdicts(audit(**found)))


def test_an_attack_that_fails_on_spikes_is_named() -> None:
    """Other attacks carry the check; the rate of this one on model.net means nothing."""
    found = summarise(judged(converted=by_attack(a=0.88, b=0.4, c=0.7)), hits(1.0), ACCESS, seed=0)
    check_sanity(found, quick=False)
    assert list(found["sanity"]["weaker"]) == ["b"]
    (line,) = (one for one in leakage.verdicts(audit(**found)) if one.startswith("b: much less"))
    assert "the attack's weakness" in line
    assert summarise(judged(), hits(1.0), ACCESS, seed=0)["sanity"]["weaker"] == {}


def test_the_check_allows_for_chance() -> None:
    """Few images: a gap that may be chance does not fail it."""
    few = {name: {"a": hits(0.9, 8)} for name in ("ann", "encrypted", "random")}
    few["converted"] = {"a": hits(0.75, 8)}
    assert summarise(few, hits(1.0), ACCESS, seed=0)["sanity"]["holds"]


def audit(**changed: Any) -> dict[str, Any]:
    """The parts of audit.json that the sentences need."""
    summary = summarise(judged(), hits(1.0), ACCESS, seed=0)
    member = {"auc": {"value": 0.61, "low": 0.58, "high": 0.64}}
    asked = {name: {"queries": 4000} for name in ACCESS}
    plain = {"judges": {"x": {}, "y": {}, "z": {}}, "membership": {"encrypted": member},
             "subjects": {"encrypted": {"attacks": asked}}}  # fmt: skip
    return summary | plain | changed


def test_the_sentence_to_quote() -> None:
    text = leakage.quote(audit())
    for words in (
        "worst attack (b)",
        "3 judges recognise 60.0 %",
        "7.5 % (floor)",
        "75.0 % (ceiling)",
        "no (epsilon, delta) guarantee",
    ):
        assert words in text


def test_verdicts_say_what_was_found() -> None:
    hidden = judged(encrypted=by_attack(a=0.5, b=0.6, c=0.4))
    summary = summarise(hidden, hits(1.0), ACCESS, seed=0)
    leaky = " ".join(leakage.verdicts(audit(**summary)))
    assert "Something leaks" in leaky
    assert "a difference of +15.0 points" in leaky
    assert "the weights tell more than the answers do" in leaky
    assert "After training in the spiking domain it is 21.0 points" in leaky
    assert "another seed of an attack may move its rate as far" in leaky
    assert "queries the network (c, 4,000 answers) reaches" in leaky
    assert "AUC of 0.610 (0.580 to 0.640), better than chance" in leaky


def test_withheld_layers_are_what_hid() -> None:
    """No whole network to ask, a guess in place of a layer: no sentence that says otherwise."""
    low = summarise(
        judged(encrypted=by_attack(a=0.1, b=0.1, c=0.1), random=by_attack(a=0.1, b=0.1, c=0.1)),
        hits(1.0),
        dict.fromkeys(ACCESS, "weights"),
        seed=0,
    )
    assert low["blackbox"] is None
    text = " ".join(leakage.verdicts(audit(**low, withheld_layers=1)))
    assert "This one guess of the withheld layers found no leak; another may" in text
    assert "After withholding layers and training in the spiking domain together it is" in text
    for words in ("No leak was found", "hiding the weights", "cannot be compared"):
        assert words not in text


def test_less_than_chance_is_not_called_chance() -> None:
    other = {"encrypted": {"auc": {"value": 0.30, "low": 0.28, "high": 0.32}}}
    text = " ".join(leakage.verdicts(audit(membership=other)))
    assert "below chance (0.5): the two parts differ in more" in text


def test_verdicts_do_not_claim_what_may_be_chance() -> None:
    same = by_attack(a=0.1, b=0.1, c=0.1)
    summary = summarise(judged(encrypted=same, random=same), hits(1.0), ACCESS, seed=0)
    chance = {"encrypted": {"auc": {"value": 0.51, "low": 0.48, "high": 0.54}}}
    text = " ".join(leakage.verdicts(audit(**summary, membership=chance)))
    assert "No leak was found" in text
    assert "hiding the weights better would not help" in text
    assert "which may be chance" in text.rpartition("AUC")[2]


def test_nothing_hidden_is_said_plainly() -> None:
    summary = summarise(judged(encrypted=by_attack(a=0.89, b=0.8, c=0.7)), hits(1.0), ACCESS, 0)
    assert "hid nothing that these attacks read" in " ".join(leakage.verdicts(audit(**summary)))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_contact_sheet_shows_every_image_in_its_place(channels: int) -> None:
    """Two classes of flat images, one grey level an image, in rows of their own."""
    levels = np.array([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], np.float32)
    images = np.tile(levels[:, None, None, None], (1, channels, 8, 8))
    labels = np.array([0, 1, 0, 1, 0, 1])
    rows = {"one": (images, labels), "other": (images[::-1], labels[::-1])}
    sheet = Image.open(io.BytesIO(contact_sheet(rows, ("dark", "light"), "attack: x")))
    pixels = np.asarray(sheet)
    step, left, top = 68, 96, 44
    expected = {"one": [[0.0, 0.2], [0.4, 0.6]], "other": [[0.8, 1.0], [0.4, 0.6]]}
    for r, name in enumerate(rows):
        for i, line in enumerate(expected[name]):
            for label, level in enumerate(line):
                y = top + r * (2 * step + 8) + i * step + 20
                x = left + label * step + 20
                assert pixels[y, x].tolist() == [round(255 * level)] * 3, (name, i, label)


def test_faint_images_are_shown_with_all_their_contrast() -> None:
    ramp = np.linspace(0, 1, 64).reshape(1, 1, 8, 8)
    images = np.concatenate([ramp, 0.4 + 0.01 * ramp, np.full_like(ramp, 0.3)])
    whole, faint, flat = stretched(images)
    assert np.allclose(whole, faint) and whole.min() == 0 and whole.max() == 1
    assert (flat == 0.3).all()

"""The audit's command line on a tiny compile: what it writes, how it goes on, what it refuses.

The attack here is a few real steps of ascent on a subject's re-converted network: enough for the
whole path, from model.net to the page, in seconds.
"""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from audit import plan
from audit.answers import Answers, check_known
from audit.attacks import Attack, AttackImages, Budget
from audit.leakage import run
from audit.subjects import Subject
from compiler.config import SynthesisConfig
from compiler.errors import DataError
from compiler.export import run as export
from compiler.report import read_leakage
from netx_export import read_netx

STEPS, PER_CLASS = 12, 4
ENDS = {"value", "low", "high"}


def ascent(name: str, access: Any) -> Attack:
    """Noisy ascent on the class score through plain ReLU, from grey."""

    def attack(subject: Subject, budget: Budget, seed: int, _: Any = None) -> AttackImages:
        module = subject.module("relu")
        noise = torch.Generator().manual_seed(seed + len(name))
        labels = torch.arange(subject.classes).repeat_interleave(PER_CLASS)
        images = torch.full((len(labels), *subject.input_shape), 0.2)
        images += 0.05 * torch.rand(images.shape, generator=noise)
        for _ in range(STEPS):
            images.requires_grad_()
            logits = module(images + 0.3 * torch.randn(images.shape, generator=noise))
            loss = torch.nn.functional.cross_entropy(3 * logits / logits.detach().std(), labels)
            (gradient,) = torch.autograd.grad(loss, images)
            images = (images - 0.1 * gradient.sign()).clamp(0, 1).detach()
        return AttackImages(name, images.numpy(), labels.numpy(), STEPS, 0, 0.01, {"note": "tiny"})

    return Attack(name, name, f"Attack {name}", access, "nothing", attack)


ATTACKS = (ascent("ascent", "weights"), ascent("clone", "queries"))


@pytest.fixture(autouse=True)
def tiny_attacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "ATTACKS", ATTACKS)
    monkeypatch.setattr(plan, "QUICK", replace(plan.QUICK, images_per_class=PER_CLASS))


@pytest.fixture(scope="module")
def audited(compiled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder after a quick audit, which also wrote beside.json."""
    folder = tmp_path_factory.mktemp("audited") / "run"
    shutil.copytree(compiled, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "ATTACKS", ATTACKS)
        patch.setattr(plan, "QUICK", replace(plan.QUICK, images_per_class=PER_CLASS))
        beside = folder.parent / "beside.json"
        assert run([str(folder), "--quick", "--quiet", "--json", str(beside)]) == 0
    return folder


@pytest.fixture
def asked(run_dir: Path, audited: Path) -> Path:
    """A copy of the compile whose networks were asked already, but not attacked."""
    (run_dir / "private" / "audit").mkdir()
    for file in (audited / "private" / "audit").glob("*.answers.safetensors"):
        shutil.copy(file, run_dir / "private" / "audit")
    return run_dir


@pytest.fixture
def found(audited: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((audited / "audit.json").read_text())
    return content


def test_the_contract_of_the_json(found: dict[str, Any], audited: Path) -> None:
    """design.md's fields, each of its kind."""
    assert json.loads((audited.parent / "beside.json").read_text()) == found
    assert set(found["subjects"]) == {"ann", "converted", "encrypted", "random", "real", "noise"}
    for name, subject in found["subjects"].items():
        assert {"accuracy", "reconverted", "weight_change", "attacks"} <= set(subject)
        assert {"relu", "clipped_relu"} <= set(subject["reconverted"])
        made = {"images"} if name in ("real", "noise") else {"ascent", "clone"}
        assert set(subject["attacks"]) == made
        for attack in subject["attacks"].values():
            assert len(attack["judge_accuracy"]) >= 3
            for ends in attack["judge_accuracy"].values():
                assert set(ends) == ENDS
                assert 0 <= ends["low"] <= ends["value"] <= ends["high"] <= 1
            assert math.isfinite(attack["fid"])
            assert math.isfinite(attack["kid"])
    for key in ("worst", "blackbox", "floor", "ceiling"):
        assert 0 <= found[key] <= 1
    assert set(found["nearest_image"]) == {"pixels", "features"}
    assert {"ann", "converted", "encrypted", "random"} <= set(found["membership"])


def described(title: str) -> set[str]:
    """Names in the first column of the table below `title` in docs/audit.md."""
    text = (Path(__file__).parents[2] / "docs" / "audit.md").read_text()
    names: set[str] = set()
    for line in text[text.index(f"\n{title}\n") + len(title) + 2 :].splitlines():
        if line.startswith("#"):
            break
        if line.startswith("| `"):
            names |= set(re.findall(r"`([a-z0-9_]+)", line.split("|")[1]))
    return names


def test_every_field_is_described(found: dict[str, Any]) -> None:
    assert described("## audit.json") == set(found)
    subject = found["subjects"]["encrypted"]
    assert described("### `subjects{network}`") == set(subject)
    own = described("### `subjects{network}.attacks{name}`") - {"inception"}
    assert own == set(subject["attacks"]["ascent"])


def mean_over_judges(found: dict[str, Any], subject: str, attack: str) -> float:
    rates = found["subjects"][subject]["attacks"][attack]["judge_accuracy"].values()
    return float(np.mean([ends["value"] for ends in rates]))


def test_the_summary_is_what_the_table_holds(found: dict[str, Any]) -> None:
    rates = {attack: mean_over_judges(found, "encrypted", attack) for attack in ("ascent", "clone")}
    assert found["worst"] == pytest.approx(max(rates.values()))
    assert rates[found["worst_attack"]] == pytest.approx(max(rates.values()))
    assert found["blackbox"] == pytest.approx(rates["clone"])
    assert found["floor"] == pytest.approx(mean_over_judges(found, "random", found["worst_attack"]))
    assert found["ceiling"] == pytest.approx(mean_over_judges(found, "real", "images"))
    assert found["worst"] > found["floor"] + 0.2
    assert found["ceiling"] > 0.95


def test_accuracies_and_changes_are_those_of_the_compile(
    found: dict[str, Any], audited: Path
) -> None:
    report = json.loads((audited / "report.json").read_text())
    encrypted, converted = (found["subjects"][name] for name in ("encrypted", "converted"))
    assert set(encrypted["weight_change"]) == set(report["encryption"]["weight_change"])
    for layer, change in report["encryption"]["weight_change"].items():
        assert change / 2 < encrypted["weight_change"][layer] < change + 2e-3  # rounding apart
    assert max(encrypted["weight_change"].values()) > 0
    assert list(converted["weight_change"].values()) == pytest.approx([0.0] * 4, abs=1e-6)
    assert list(converted["weight_cosine"].values()) == pytest.approx([1.0] * 4)
    assert max(found["subjects"]["random"]["weight_cosine"].values()) < 0.5
    assert encrypted["reconverted"]["relu_rescaled"] > 0.9
    assert found["subjects"]["ann"]["accuracy"] == pytest.approx(0.985, abs=0.001)
    assert found["subjects"]["ann"]["test_images"] == 599
    assert found["subjects"]["random"]["accuracy"] < 0.3


def test_provenance(found: dict[str, Any], audited: Path) -> None:
    assert found["seed"] == 0
    assert found["quick"] is True
    assert found["guarantee"] is None
    assert read_netx(audited / "model.net").graph.layers
    assert found["data"]["training"]["images"] == 1198
    assert found["spent"]["encrypted"]["gradient_steps"] == len(ATTACKS) * STEPS
    assert "torch" in found["versions"]
    assert found["membership"]["encrypted"]["tpr_at"]["0.001"] is None


def test_the_page_has_the_result_and_no_picture(audited: Path, found: dict[str, Any]) -> None:
    text = (audited / "report.html").read_text()
    assert '<section id="leakage">' in text
    assert "no (epsilon, delta) guarantee" in text
    assert f"{100 * found['worst']:.1f} %" in text
    assert "data:image" not in text
    for attack in ("ascent", "clone"):
        assert (audited / "private" / "audit" / f"{attack}.png").is_file()


def test_a_second_audit_makes_no_attack_again_and_shows_pictures_if_asked(
    audited: Path, found: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any) -> Any:
        raise AssertionError("made again")

    shutil.copytree(audited, tmp_path / "run")
    monkeypatch.setattr("audit.subjects.random_network", never)
    monkeypatch.setattr(plan, "ATTACKS", tuple(replace(one, run=never) for one in ATTACKS))
    assert run([str(tmp_path / "run"), "--quick", "--quiet", "--pictures"]) == 0
    text = (tmp_path / "run" / "report.html").read_text()
    assert text.count("data:image/png;base64,") == 2
    again = json.loads((tmp_path / "run" / "audit.json").read_text())
    assert again.pop("pictures") == ["private/audit/ascent.png", "private/audit/clone.png"]
    assert found.pop("pictures") == []
    for content in (again, found):
        content.pop("command")
    assert again == found
    with pytest.raises(AssertionError, match="made again"):
        run([str(tmp_path / "run"), "--quick", "--quiet", "--seed", "1"])


def test_a_damaged_network_among_those_kept_is_made_again(asked: Path, audited: Path) -> None:
    (kept,) = (audited / "private" / "audit").glob("random-*.safetensors")
    damaged = asked / "private" / "audit" / kept.name
    damaged.write_bytes(kept.read_bytes()[:-100])
    other = damaged.with_name("random-of-another-key.safetensors")
    other.write_bytes(kept.read_bytes())
    assert run([str(asked), "--quick", "--quiet", "--attacks", "ascent"]) == 0
    assert damaged.read_bytes() == kept.read_bytes() and not other.exists()


def test_an_interrupted_audit_goes_on(
    asked: Path, found: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    calls: list[str] = []

    def counted(attack: Attack, stop_at: int) -> Attack:
        def made(subject: Subject, budget: Budget, seed: int, _: Any = None) -> AttackImages:
            if len(calls) == stop_at:
                raise KeyboardInterrupt
            calls.append(f"{subject.name}.{attack.name}")
            return attack.run(subject, budget, seed)

        return replace(attack, run=made)

    monkeypatch.setattr(plan, "ATTACKS", tuple(counted(one, 3) for one in ATTACKS))
    assert run([str(asked), "--quick", "--quiet"]) == 130
    assert "goes on" in capsys.readouterr().err
    assert not (asked / "audit.json").exists()
    assert not list(asked.rglob("*.tmp"))
    monkeypatch.setattr(plan, "ATTACKS", tuple(counted(one, -1) for one in ATTACKS))
    assert run([str(asked), "--quick", "--quiet"]) == 0
    assert len(calls) == len(set(calls)) == 8
    again = json.loads((asked / "audit.json").read_text())
    assert again["worst"] == found["worst"]


def test_what_is_printed(asked: Path, capsys: Any) -> None:
    assert run([str(asked), "--quick", "--attacks", "ascent"]) == 0
    out = capsys.readouterr().out
    flat = " ".join(out.split())
    assert max(len(line.rstrip()) for line in out.splitlines() if "written" not in line) <= 100
    assert "no (epsilon, delta) guarantee" in flat
    assert "the worst attack (ascent)" in flat
    assert "Attacks left out: clone" in flat
    assert "cannot be compared: one kind was left out" in flat
    content = json.loads((asked / "audit.json").read_text())
    assert content["blackbox"] is None
    assert content["left_out"] == ["clone"]


def test_layers_withheld_have_a_result_of_their_own(
    audited: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The audit of the whole file stays, in audit.json and on the page."""
    monkeypatch.setattr("audit.withheld.STARTS", 1)
    monkeypatch.setattr("audit.withheld.STEPS", 5)
    folder = tmp_path / "run"
    shutil.copytree(audited, folder)
    assert run([str(folder), "--quick", "--withheld", "1"]) == 0
    assert "audit-withheld-1.json" in capsys.readouterr().out.replace("\n", "")
    assert (folder / "audit.json").read_bytes() == (audited / "audit.json").read_bytes()
    found = json.loads((folder / "audit-withheld-1.json").read_text())
    assert found["withheld_layers"] == 1
    assert found["blackbox"] is found["gain_over_blackbox"] is None
    assert {one["access"] for one in found["attacks"].values()} == {"weights"}
    layers = [*found["subjects"]["converted"]["weight_change"]]
    assert [*found["subjects"]["encrypted"]["weight_change"]] == layers[1:]
    assert (folder / "private" / "audit" / "withheld-1" / "ascent.png").is_file()
    page = (folder / "report.html").read_text()
    assert page.index('<section id="leakage">') < page.index('<section id="leakage-withheld-1">')
    assert "Leakage audit: model.net without its first layer" in page


def test_fewer_attacks_than_before_are_said(audited: Path, tmp_path: Path, capsys: Any) -> None:
    shutil.copytree(audited, tmp_path / "run")
    assert run([str(tmp_path / "run"), "--quick", "--attacks", "ascent"]) == 0
    assert "no longer in it: clone; without --attacks" in capsys.readouterr().out


def noise_from(name: str) -> Callable[[Attack], Attack]:
    """The same attack, failing on one subject: it gives back noise."""

    def spoiled(attack: Attack) -> Attack:
        def made(subject: Subject, budget: Budget, seed: int, _: Any = None) -> AttackImages:
            images = attack.run(subject, budget, seed)
            if subject.name != name:
                return images
            noise = np.random.default_rng(0).random(images.images_nchw.shape, np.float32)
            return replace(images, images_nchw=noise)

        return replace(attack, run=made)

    return spoiled


def test_an_audit_whose_attacks_fail_on_the_converted_network_is_refused(
    asked: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(plan, "ATTACKS", tuple(map(noise_from("converted"), ATTACKS)))
    assert run([str(asked), "--quick", "--quiet"]) == 1
    error = capsys.readouterr().err
    assert "own check failed" in error
    assert "--quick" in error
    assert not (asked / "audit.json").exists()


def test_a_network_that_hides_everything_is_reported_as_such(
    asked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The audit can come out well, too: noise from the encrypted network is no leak."""
    monkeypatch.setattr(plan, "ATTACKS", tuple(map(noise_from("encrypted"), ATTACKS)))
    assert run([str(asked), "--quick", "--quiet"]) == 0
    content = json.loads((asked / "audit.json").read_text())
    assert content["worst"] < 0.3
    assert content["sanity"]["holds"]
    assert "No leak was found" in (asked / "report.html").read_text()


def test_an_audit_of_another_model_is_not_shown(audited: Path, tmp_path: Path) -> None:
    shutil.copytree(audited, tmp_path / "run")
    assert read_leakage(tmp_path / "run") is not None
    content = (tmp_path / "run" / "model.net").read_bytes()
    (tmp_path / "run" / "model.net").write_bytes(content + b"\0")
    assert read_leakage(tmp_path / "run") is None


def test_a_later_report_keeps_the_section(
    audited: Path, arguments: list[str], tmp_path: Path
) -> None:
    """The compile's last stage, run again, shows the audit that lies there."""
    shutil.copytree(audited, tmp_path / "run")
    assert export([*arguments, "--out", str(tmp_path / "run")]) == 0
    assert '<section id="leakage">' in (tmp_path / "run" / "report.html").read_text()
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert "leakage" not in report
    assert any(entry["path"].endswith("audit.json") for entry in report["files"])


def refused(capsys: Any, *arguments: object) -> tuple[int, str]:
    status = run([str(argument) for argument in arguments])
    return status, " ".join(capsys.readouterr().err.split())


def test_no_folder(tmp_path: Path, capsys: Any) -> None:
    status, error = refused(capsys, tmp_path / "none")
    assert status == 1
    assert "no such folder" in error
    assert "python -m compiler.export --out DIR" in error
    assert not (tmp_path / "none").exists()


def test_only_the_file_that_left_the_house(run_dir: Path, capsys: Any) -> None:
    shutil.rmtree(run_dir / "private")
    status, error = refused(capsys, run_dir)
    assert status == 1
    assert "work where the compile was made" in error


def test_every_missing_file_is_named(run_dir: Path, capsys: Any) -> None:
    (run_dir / "model.net").unlink()
    (run_dir / "private" / "converted.safetensors").unlink()
    status, error = refused(capsys, run_dir)
    assert status == 1
    assert "model.net: found no such file" in error
    assert "converted.safetensors: found no such file" in error
    assert "let the compile finish" in error


def test_another_model_than_the_compiles(run_dir: Path, capsys: Any) -> None:
    path = run_dir / "model.net"
    path.write_bytes(path.read_bytes() + b"\0")
    status, error = refused(capsys, run_dir)
    assert status == 1
    assert re.search(r"model.net: found SHA-256 \w{12}..., where the compile wrote \w{12}", error)


def test_a_compile_without_data_needs_data(run_dir: Path, capsys: Any) -> None:
    path = run_dir / "report.json"
    report = json.loads(path.read_text())
    report["evaluation"]["data"] = None
    path.write_text(json.dumps(report))
    status, error = refused(capsys, run_dir, "--quick")
    assert status == 1
    assert "--data DATA" in error


def small_archive(path: Path, **parts: Any) -> str:
    np.savez(path, **parts)
    return f"npz:{path}"


def pictures(count: int, side: int = 8) -> tuple[np.ndarray, np.ndarray]:
    return np.random.default_rng(0).random((count, 1, side, side), np.float32), np.arange(
        count
    ) % 10


def test_data_that_do_not_fit(run_dir: Path, tmp_path: Path, capsys: Any) -> None:
    x, y = pictures(40, side=9)
    status, error = refused(
        capsys,
        run_dir,
        "--data",
        small_archive(tmp_path / "a.npz", x_test=x, y_test=y, x_train=x, y_train=y),
    )
    assert status == 1
    assert "9 x 9" in error


@pytest.mark.parametrize(
    ("right", "counts", "known"),
    [
        (0.97, (300, 300), True),
        (0.56, (300, 300), True),
        (0.5, (300, 300), False),
        (0.9, (540, 60), False),
        (0.96, (540, 60), True),
        (0.3, (60,) * 10, True),
        (0.11, (60,) * 10, False),
    ],
)
def test_the_network_must_know_more_than_the_most_frequent_class(
    right: float, counts: tuple[int, ...], known: bool
) -> None:
    """Two classes are a network's data too, if it tells them apart."""
    labels = np.repeat(np.arange(len(counts)), counts)
    answers = np.where(np.arange(len(labels)) < right * len(labels), labels, (labels + 1) % 2)
    logits = np.eye(len(counts))[answers]
    ann = Answers((logits, labels), (logits, labels), {}, {})
    data: Any = SimpleNamespace(spec="npz:mine.npz")
    if known:
        check_known(ann, data, 0)
    else:
        with pytest.raises(DataError, match="does not know these images"):
            check_known(ann, data, 0)


@pytest.mark.parametrize("name", ["report.json", "manifest.json"])
@pytest.mark.parametrize("content", ['{"stages": ', "{}", "[]", '{"stages": {"load": 3}}', "\xff"])
def test_damaged_json(run_dir: Path, name: str, content: str, capsys: Any) -> None:
    if (name, content) in {("report.json", "{}"), ("report.json", '{"stages": {"load": 3}}')}:
        pytest.skip("an object of other fields is told by what is missing in it")
    (run_dir / name).write_bytes(content.encode("latin-1"))
    status, text = refused(capsys, run_dir, "--quick")
    assert status == 1
    assert name in text
    assert "compile again into this folder" in text


def test_an_audit_that_is_damaged_or_of_another_version_is_not_shown(
    audited: Path, tmp_path: Path, found: dict[str, Any]
) -> None:
    shutil.copytree(audited, tmp_path / "run")
    for content in ("{", "[]", json.dumps(found | {"schema_version": 1})):
        (tmp_path / "run" / "audit.json").write_text(content)
        assert read_leakage(tmp_path / "run") is None
    (tmp_path / "run" / "audit.json").write_text(json.dumps(found))
    assert read_leakage(tmp_path / "run") is not None


def test_weights_of_inception_are_read_before_the_attacks(run_dir: Path, capsys: Any) -> None:
    status, text = refused(capsys, run_dir, "--quick", "--inception", run_dir / "none.safetensors")
    assert status == 1
    assert "none.safetensors" in text
    assert not list((run_dir / "private" / "audit").glob("*.safetensors"))


def test_data_with_one_part(run_dir: Path, tmp_path: Path, capsys: Any) -> None:
    x, y = pictures(40)
    status, error = refused(
        capsys, run_dir, "--data", small_archive(tmp_path / "a.npz", images=x, labels=y)
    )
    assert status == 1
    assert "x_train and x_test" in error


def test_data_without_judges(run_dir: Path, tmp_path: Path, capsys: Any) -> None:
    x, y = pictures(60)
    spec = small_archive(
        tmp_path / "a.npz", x_test=x[:20], y_test=y[:20], x_train=x[20:], y_train=y[20:]
    )
    status, error = refused(capsys, run_dir, "--data", spec)
    assert status == 1
    assert f"python -m audit.judges.train {spec} --out DIR" in error
    status, error = refused(capsys, run_dir, "--judges", tmp_path / "none")
    assert status == 1
    assert "no judges found" in error


def test_wrong_usage(run_dir: Path, capsys: Any) -> None:
    status, error = refused(capsys, run_dir, "--attacks", "ascent,magic,wand")
    assert status == 2
    assert "magic, wand" in error
    assert "ascent, clone" in error
    assert refused(capsys)[0] == 2
    assert refused(capsys, run_dir, "--json", run_dir / "no" / "a.json")[0] == 1
    assert refused(capsys, run_dir, "--data", "no-such-data")[0] == 2


def test_a_folder_in_use(run_dir: Path, capsys: Any) -> None:
    from filelock import FileLock

    with FileLock(run_dir / "private" / "lock"):
        status, error = refused(capsys, run_dir, "--quick")
    assert status == 1
    assert "in use" in error


@pytest.fixture(scope="module", autouse=True)
def little_work() -> Iterator[None]:
    """A hundred resamples do for tests, and a few steps of what is tested elsewhere."""
    few = SynthesisConfig(count=48, held_out=16, steps=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("audit.metrics.intervals.RESAMPLES", 100)
        patch.setattr("audit.reconversion.RESCALING_IMAGES", few)
        patch.setattr("audit.reconversion.NOISE_IMAGES", 64)
        patch.setattr("audit.reconversion.FINE_TUNING_STEPS", 10)
        yield

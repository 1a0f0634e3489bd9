"""`compiler.export --doctor`: each check's verdict, and the exit status."""

from __future__ import annotations

from pathlib import Path

import pytest

from compiler import doctor
from compiler.chip.engine.build import ENGINE_VARIABLE
from compiler.chip.engine.run import engine
from compiler.doctor import Check
from compiler.export import run


@pytest.mark.parametrize(("found", "verdict"), [((3, 10), "ok"), ((3, 11), "fix"), ((3, 9), "fix")])
def test_python(found: tuple[int, int], verdict: str) -> None:
    assert doctor.check_python(found).verdict == verdict


def test_packages() -> None:
    assert doctor.check_package("lava-nc", "0.10.0") == Check("lava-nc", "ok", "0.10.0")
    other = doctor.check_package("lava-nc", "0.9.0")
    assert (other.verdict, other.found) == ("note", "0.10.0")
    missing = doctor.check_package("no-such-package-at-all", "1.0")
    assert missing.verdict == "fix" and "pip install no-such-package-at-all==1.0" in missing.remedy


@pytest.mark.parametrize(
    ("threads", "cores", "verdict"), [(2, 2.0, "ok"), (16, 2.0, "note"), (1, 4.0, "note")]
)
def test_threads(threads: int, cores: float, verdict: str) -> None:
    check = doctor.check_threads(threads, cores)
    assert check.verdict == verdict
    assert verdict == "ok" or check.remedy == f"export OMP_NUM_THREADS={int(cores)}"


def test_a_failed_import_of_slayer_is_a_fix_with_its_last_line() -> None:
    checks = list(doctor.check_training("ModuleNotFoundError: No module named 'pkg_resources'"))
    assert [check.verdict for check in checks] == ["fix"]
    assert "pkg_resources" in checks[0].found


def test_the_simulator_without_a_compiler_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENGINE_VARIABLE, "numba")
    check = doctor.check_engine()
    assert check.verdict == "note" and "numba" in check.found and "CXX" in check.remedy
    monkeypatch.delenv(ENGINE_VARIABLE)
    assert (doctor.check_engine().verdict == "ok") == (engine().name == "c++")


def test_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.check_folder(tmp_path / "a" / "b").verdict == "ok"
    (tmp_path / "file").write_text("")
    assert doctor.check_folder(tmp_path / "file" / "below").verdict == "fix"
    monkeypatch.setattr(doctor, "DISK_COMFORTABLE", 2**70)
    assert doctor.check_folder(tmp_path).verdict == "note"
    monkeypatch.setattr(doctor, "DISK_NEEDED", 2**70)
    assert doctor.check_folder(tmp_path).verdict == "fix"


def test_memory() -> None:
    assert doctor.check_memory(8 * 2**30).verdict == "ok"
    assert doctor.check_memory(2**30).verdict == "note"
    assert doctor.check_shared_memory(2**20).verdict == "note"
    assert doctor.check_shared_memory(2**30).verdict == "ok"


def test_images_that_are_missing_are_a_note_with_a_way_to_get_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert doctor.check_dataset("digits") == Check("images of digits", "ok", "1 x 8 x 8")
    monkeypatch.setenv("PRIVATE_SNN_DATA", str(tmp_path))
    check = doctor.check_dataset("cifar10")
    assert check.verdict == "note" and "PRIVATE_SNN_DATA" in check.remedy


def test_status_0_and_the_real_machine(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(["--doctor", "--out", str(tmp_path / "new")]) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1] == "A compile can run."
    assert "torch and SLAYER" in printed and "lava-dl" in printed and "INRC" in printed
    assert not (tmp_path / "new").exists()


def test_status_1_says_what_to_fix(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = [Check("Python", "fix", "3.12", "use 3.10"), Check("GPU", "ok", "none")]
    monkeypatch.setattr(doctor, "examine", lambda out: iter(broken))
    assert run(["--doctor"]) == 1
    printed = capsys.readouterr().out
    assert "to fix: Python: use 3.10" in printed
    assert printed.splitlines()[-1] == "No compile can run yet."
    assert run(["--doctor", "--quiet"]) == 1
    assert capsys.readouterr().out == ""

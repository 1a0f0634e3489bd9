"""Licence, citation and changelog speak of the version that is here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import tomli

from compiler import __version__

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def project() -> dict[str, object]:
    project: dict[str, object] = tomli.loads((ROOT / "pyproject.toml").read_text())["project"]
    return project


def test_one_version_everywhere(project: dict[str, object]) -> None:
    citation = (ROOT / "CITATION.cff").read_text()
    assert project["version"] == __version__
    assert re.findall(r"^version: (.+)$", citation, re.MULTILINE) == [__version__]


def test_one_licence_everywhere(project: dict[str, object]) -> None:
    assert project["license"] == "BSD-3-Clause"
    assert "license: BSD-3-Clause\n" in (ROOT / "CITATION.cff").read_text()
    assert (ROOT / "LICENSE").read_text().startswith("BSD 3-Clause License\n")


def test_the_changelog_keeps_its_form() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    assert re.findall(r"^## \[(.+?)\]", text, re.MULTILINE)[0] in ("Unreleased", __version__)
    kinds = set(re.findall(r"^### (.+)$", text, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}

"""The site made of the documents: built without a warning, loading nothing from elsewhere."""

from __future__ import annotations

import re
import runpy
import shlex
from html.parser import HTMLParser
from pathlib import Path

import click
import yaml

ROOT = Path(__file__).parents[2]
COMMANDS = ("compiler.export", "sim.run", "audit.leakage")


class Loads(HTMLParser):
    """Addresses that a page loads by itself."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag in ("script", "img", "iframe", "source"):
            self.found.append(given.get("src") or "")
        if tag == "link" and given.get("rel") in ("stylesheet", "preload", "preconnect", "icon"):
            self.found.append(given.get("href") or "")


def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        elsewhere = [
            address
            for address in Loads(page.read_text()).found
            if re.match(r"(https?:)?//", address)
        ]
        assert elsewhere == [], page.name


def test_no_source_of_the_pictures_is_in_the_site(site: Path) -> None:
    assert not list(site.rglob("*.py"))
    assert {path.stem for path in (site / "pictures").iterdir()} == {
        path.stem for path in (ROOT / "docs" / "pictures").glob("*.svg")
    }


def test_docstrings_are_in_the_reference(site: Path) -> None:
    text = (site / "reference" / "compile.html").read_text()
    assert "compile_model" in text and "The same compile as" in text
    assert "toward0(state * keep / 4096)" in (site / "reference" / "graphs.html").read_text()


def test_the_pictures_are_those_of_the_script(tmp_path: Path) -> None:
    made = runpy.run_path(str(ROOT / "docs" / "pictures" / "make.py"))
    made["main"](tmp_path)
    kept = {path.name: path.read_text() for path in (ROOT / "docs" / "pictures").glob("*.svg")}
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == kept


def test_every_page_is_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text()
    named = set(re.findall(r"[\w/-]+\.md", text))
    docs = ROOT / "docs"
    assert named == {str(path.relative_to(docs)) for path in docs.rglob("*.md")}
    assert yaml.safe_load(text)["theme"]["font"] is False


def commands_of(text: str) -> list[list[str]]:
    """Arguments behind `python -m MODULE` of every command line in code blocks."""
    joined = re.sub(r"\\\n\s*", "", text)
    lines = [line.strip() for line in joined.splitlines() if line.startswith("    ")]
    found = []
    for line in lines:
        match = re.match(r"(?:.*&& )?(?:chrt .*)?uv run (?:--\S+ )*python -m ([\w.]+)(.*)", line)
        if match and match[1] in COMMANDS:
            found.append([match[1], *shlex.split(match[2], comments=True)])
    return found


def command_of(module: str) -> click.Command:
    """The click command behind `python -m MODULE`."""
    import importlib

    found = vars(importlib.import_module(module)).values()
    return next(value for value in found if isinstance(value, click.Command))


def test_commands_in_the_pages_are_understood() -> None:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    seen = 0
    for page in pages:
        for module, *arguments in commands_of(page.read_text()):
            command = command_of(module)
            known = {name for option in command.params for name in option.opts}
            used = {word.partition("=")[0] for word in arguments if word.startswith("--")}
            assert used <= known | {"--help"}, (page.name, arguments)
            if not {"--doctor"} & used:
                command.make_context(module, list(arguments))
            seen += 1
    assert seen > 10

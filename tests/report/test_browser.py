"""The page in a real browser: no sideways scrolling on a phone, light and dark, no errors."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from compiler.report import write_report_html

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--hide-scrollbars",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

FRAME = """<!doctype html><body style="margin:0">
<iframe id="page" style="border:0;width:{width}px;height:900px;color-scheme:{scheme}"
 srcdoc="{page}"></iframe><pre id="found"></pre>
<script>
const frame = document.getElementById("page");
frame.onload = () => {{
  const page = frame.contentDocument, root = page.documentElement;
  const wide = [...page.querySelectorAll("main > *")]
    .filter(node => node.getBoundingClientRect().right > root.clientWidth + 0.5);
  document.getElementById("found").textContent = JSON.stringify({{
    scroll: root.scrollWidth, client: root.clientWidth,
    wide: wide.map(node => node.id || node.className),
    back: frame.contentWindow.getComputedStyle(page.body).backgroundColor,
    loaded: frame.contentWindow.performance.getEntriesByType("resource").length,
  }});
}};
</script>"""


def browse(report, folder: Path, width: int, scheme: str) -> tuple[dict, str]:
    """What the browser laid out, and what it complained about."""
    path = folder / "report.html"
    write_report_html(report, path)
    frame = folder / "frame.html"
    page = html.escape(path.read_text(encoding="utf-8"))
    frame.write_text(FRAME.format(page=page, width=width, scheme=scheme), encoding="utf-8")
    done = subprocess.run(
        [
            CHROMIUM,
            *FLAGS,
            f"--user-data-dir={folder / 'profile'}",
            f"--window-size={max(width, 500)},900",
            "--enable-logging=stderr",
            "--dump-dom",
            frame.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout)
    assert found, done.stderr
    return json.loads(html.unescape(found.group(1))), done.stderr


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_sticks_out(complete, tmp_path, width):
    found, _ = browse(complete, tmp_path, width, "light")
    assert found["client"] == width
    assert found["scroll"] <= width
    assert found["wide"] == []


def test_long_names_do_not_stick_out_on_a_phone(report, tmp_path):
    report["model"]["name"] = "a_very_long_name_without_any_place_to_break_it" * 3
    report["hashes"] = {"sha256 of model.net": "0123456789abcdef" * 8}
    report["warnings"] = ["x" * 300]
    report["files"][0]["path"] = "/a/very/long/folder" * 9
    found, _ = browse(report, tmp_path, 390, "light")
    assert found["scroll"] <= 390


def test_dark_follows_the_reader_and_nothing_is_loaded(complete, tmp_path):
    light, complaints = browse(complete, tmp_path, 800, "light")
    dark, _ = browse(complete, tmp_path, 800, "dark")
    assert light["back"] == "rgb(246, 245, 242)"
    assert dark["back"] == "rgb(20, 23, 28)"
    assert light["loaded"] == 0
    assert "CONSOLE" not in complaints

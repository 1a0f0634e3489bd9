"""The site in a real browser, as wide as a phone: nothing sticks out, no page complains."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--allow-file-access-from-files",
    "--enable-logging=stderr",
]

PAGE = """<!doctype html><body>{frames}<pre id="found"></pre><script>
onload = () => {{
  const found = {{}};
  for (const frame of document.querySelectorAll("iframe"))
    found[frame.getAttribute("src")] = frame.contentDocument.documentElement.scrollWidth;
  document.getElementById("found").textContent = JSON.stringify(found);
}};
</script>"""
FRAME = '<iframe src="{name}" style="border:0;width:390px;height:900px"></iframe>'


def test_no_page_is_wider_than_a_phone(site: Path, tmp_path: Path) -> None:
    names = [str(path.relative_to(site)) for path in site.rglob("*.html")]
    around = site / "frames-of-the-test.html"
    frames = "".join(FRAME.format(name=name) for name in names)
    around.write_text(PAGE.format(frames=frames), encoding="utf-8")
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path}", "--dump-dom", around.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
    around.unlink()
    text = re.search(r'<pre id="found">(.*?)</pre>', done.stdout)
    assert text, done.stderr
    widths = json.loads(html.unescape(text.group(1)))
    assert set(widths) == set(names)
    assert {name: width for name, width in widths.items() if width > 390} == {}

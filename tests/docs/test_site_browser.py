"""The site in a real browser, as wide as a phone: nothing sticks out, no page complains."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
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
    "--enable-logging=stderr",
    "--virtual-time-budget=60000",
]

FRAMES = """<!doctype html><body><pre id="found"></pre><script>
const pages = {pages}, found = {{}};
function next() {{
  if (!pages.length) {{
    document.getElementById("found").textContent = JSON.stringify(found);
    return;
  }}
  const name = pages.shift(), frame = document.createElement("iframe");
  frame.style = "border:0;width:390px;height:900px";
  frame.onload = () => {{
    const root = frame.contentDocument.documentElement;
    found[name] = [root.scrollWidth, root.clientWidth];
    frame.remove();
    next();
  }};
  frame.src = name;
  document.body.append(frame);
}}
next();
</script>"""


class Quiet(SimpleHTTPRequestHandler):
    """Serves files and says nothing."""

    def log_message(self, *arguments: object) -> None:
        pass


def test_no_page_is_wider_than_a_phone(site: Path, tmp_path: Path) -> None:
    names = [str(path.relative_to(site)) for path in site.rglob("*.html")]
    frames = site / "frames-of-the-test.html"
    frames.write_text(FRAMES.format(pages=json.dumps(names)), encoding="utf-8")
    handler = partial(Quiet, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/{frames.name}"
        command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path}", "--dump-dom", address]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
        server.shutdown()
    text = re.search(r'<pre id="found">(.*?)</pre>', done.stdout)
    assert text, done.stderr
    widths = json.loads(html.unescape(text.group(1)))
    assert set(widths) == set(names)
    assert {name: width for name, width in widths.items() if width[0] > 390} == {}
    errors = [line for line in done.stderr.splitlines() if "CONSOLE" in line and "rror" in line]
    assert errors == []

"""No image of any data set is read between the network and model.net."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SPY = """
import gzip, os, sys, zipfile
seen = []
WRITES = os.O_WRONLY | os.O_RDWR
CODE = (".py", ".pyc", ".so", ".pyi", ".nbi", ".nbc", ".toml", ".j2", ".css", ".txt", ".json")
ENDINGS = (".csv", ".csv.gz", "ubyte", "ubyte.gz", ".png", ".jpg", ".webp", ".npz")
FOLDERS = ("/datasets/", "/data/", "cifar", "mnist")

def spy(event, arguments):
    if event == "import" and arguments[0] in ("sklearn.datasets", "sim.datasets"):
        seen.append(arguments[0])
    if event == "open" and not isinstance(arguments[0], int):
        name = os.fsdecode(arguments[0])
        image = name.endswith(ENDINGS) or any(word in name for word in FOLDERS)
        if image and not name.endswith(CODE) and not arguments[2] & WRITES:
            seen.append(name)
    if event.startswith(("socket.connect", "urllib", "http.client")):
        seen.append(event)

sys.addaudithook(spy)
from compiler import pipeline, steps
from dataclasses import replace

def watched(stage):
    def step(run, tell):
        if stage.name == "evaluate":
            print("before", seen, flush=True)
        return stage.step(run, tell)
    return replace(stage, step=step)

pipeline.STAGES = tuple(watched(stage) for stage in pipeline.STAGES)
from compiler.export import run
status = run(sys.argv[1:])
print("after", sorted(set(seen)), flush=True)
sys.exit(status)
"""


def test_nothing_is_read_before_evaluate(start: Any, command: list[str], tmp_path: Path) -> None:
    """The hook works: the same hook does see the digits being read in the evaluate stage."""
    (tmp_path / "spy.py").write_text(SPY)
    child = start(
        tmp_path / "spy.py", *command, "--out", tmp_path / "run", "--samples", 20, "--quiet",
        "--to", "evaluate",
    )  # fmt: skip
    out, err = child.communicate(timeout=240)
    assert child.returncode == 0, err
    before, after = out.splitlines()
    assert before == "before []"
    assert "sim.datasets" in after and "digits.csv" in after
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert list(manifest["stages"])[-1] == "evaluate"

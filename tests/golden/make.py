"""Compile both presets with their defaults and keep model.net of each here."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
PRESETS = {"digits": "digits.net", "fashion-mnist": "fashion_mnist.net"}


def main() -> None:
    for preset, name in PRESETS.items():
        with tempfile.TemporaryDirectory() as out:
            command = [sys.executable, "-m", "compiler.export", "--preset", preset, "--out", out]
            subprocess.run(command, check=True)
            shutil.copyfile(Path(out) / "model.net", HERE / name)


if __name__ == "__main__":
    main()

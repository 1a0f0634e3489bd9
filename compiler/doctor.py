"""`--doctor`: what a compile needs from this machine, what was found, and what to fix."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from compiler.errors import EXIT_CANNOT_COMPILE, EXIT_OK, DataError

Verdict = Literal["ok", "note", "fix"]

PYTHON = (3, 10)
PACKAGES = {"lava-nc": "0.10.0", "lava-dl": "0.6.0"}
"""The last releases; lava-nc 0.10.0 and lava-dl 0.6.0 ask for Python 3.10 in their metadata."""

DATASETS = ("digits", "fashion-mnist", "cifar10", "cifar100", "tinyimagenet")
PROBE_SECONDS = 180
DISK_NEEDED, DISK_COMFORTABLE = 100 * 2**20, 2**30
MEMORY_COMFORTABLE = 3 * 2**30
SHARED_MEMORY_COMFORTABLE = 64 * 2**20

_PROBE = """
import json, logging, time, warnings
warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)
started = time.perf_counter()
import torch
import lava.lib.dl.slayer
found = torch.cuda.is_available()
print("\\n" + json.dumps({
    "torch": torch.__version__,
    "threads": torch.get_num_threads(),
    "gpu": torch.cuda.get_device_name(0) if found else None,
    "seconds": time.perf_counter() - started,
}))
"""


@dataclass(frozen=True)
class Check:
    """One thing looked at. `fix`: no compile can run; `note`: something is missing or slow."""

    subject: str
    verdict: Verdict
    found: str
    remedy: str = ""


def diagnose(out: Path | None, quiet: bool = False, json_file: Path | None = None) -> int:
    """Look at everything, print it unless `quiet`, and return the exit status: 0 or 1.

    out: the folder that a compile would write to, None for its default. json_file: where the
    same goes as JSON, `-` for the standard output instead of the table.
    """
    from compiler.commandline import to_stdout, write_json

    checks = list(examine(out or Path("runs")))
    broken = any(check.verdict == "fix" for check in checks)
    if json_file is not None:
        found = [asdict(check) for check in checks]
        write_json(json_file, {"can_compile": not broken, "checks": found})
    if not quiet and not to_stdout(json_file):
        _print(checks)
    return EXIT_CANNOT_COMPILE if broken else EXIT_OK


def examine(out: Path) -> Iterator[Check]:
    """All checks, quick ones first."""
    yield check_python(sys.version_info[:2])
    for package, wanted in PACKAGES.items():
        yield check_package(package, wanted)
    yield from check_training(_probe())
    yield check_engine()
    yield check_folder(out)
    yield check_memory(_available_memory())
    yield check_shared_memory(_shared_memory())
    for name in DATASETS:
        yield check_dataset(name)
    yield check_extension()


def check_python(found: tuple[int, int]) -> Check:
    """Lava's packages run on one version of Python alone."""
    text = ".".join(map(str, found))
    if found == PYTHON:
        return Check("Python", "ok", text)
    return Check("Python", "fix", text, "`uv run` in this folder fetches 3.10 and uses it")


def check_package(name: str, wanted: str) -> Check:
    """Whether a package is there in the version that this project was tested with."""
    try:
        found = version(name)
    except PackageNotFoundError:
        return Check(name, "fix", "not installed", f"uv sync, or pip install {name}=={wanted}")
    if found == wanted:
        return Check(name, "ok", found)
    return Check(name, "note", found, f"spikes were compared with {wanted}: uv sync installs it")


def _probe() -> dict[str, Any] | str:
    """Import torch and SLAYER in a process of its own: versions, or the last line of its error."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROBE],
            capture_output=True,
            text=True,
            timeout=PROBE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no end after {PROBE_SECONDS} s"
    if done.returncode == 0:
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return lines[-1] if lines else f"status {done.returncode} without a message"


def check_training(probe: dict[str, Any] | str) -> Iterator[Check]:
    """What the import of torch and SLAYER gave: versions, threads, GPU."""
    if isinstance(probe, str):
        remedy = "uv sync makes the environment that was tested; see README.md"
        yield Check("torch and SLAYER", "fix", probe, remedy)
        return
    yield Check(
        "torch and SLAYER", "ok", f"torch {probe['torch']}, {probe['seconds']:.0f} s to load"
    )
    yield check_threads(probe["threads"], usable_cores())
    gpu = probe["gpu"]
    yield Check("GPU", "ok", gpu or "none that torch can use; a compile does not need one")


def check_threads(threads: int, cores: float) -> Check:
    """More threads than cores wait for each other; fewer leave cores idle."""
    found = f"{threads} of torch on {cores:g} cores"
    best = max(1, int(cores))
    if threads == best:
        return Check("threads", "ok", found)
    effect = "which slows training down" if threads > best else "so that cores stay idle"
    return Check("threads", "note", f"{found}, {effect}", f"export OMP_NUM_THREADS={best}")


def usable_cores() -> float:
    """Cores that this process may use: its affinity, and a container's quota where there is one."""
    cores = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else min(cores, int(quota) / int(period))


def check_engine() -> Check:
    """Whether the simulator runs compiled; it is slower, not otherwise, without a compiler."""
    from compiler.chip.engine.run import engine

    found = engine()
    if found.name == "c++":
        return Check("simulator", "ok", "compiled by this machine's C++ compiler")
    remedy = "install a C++ compiler (g++ or clang++) or name one in CXX; results stay the same"
    return Check("simulator", "note", f"runs in {found.name}: {found.reason}", remedy)


def check_folder(out: Path) -> Check:
    """Whether DIR can be made and written, and how much room there is."""
    import shutil

    place = out.absolute()
    while not place.exists():
        place = place.parent
    subject = "output folder"
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        return Check(subject, "fix", f"{place} cannot be written", "choose another with --out")
    free = shutil.disk_usage(place).free
    found = f"{place}, {_size(free)} free"
    if free < DISK_NEEDED:
        return Check(subject, "fix", found, f"make room for {_size(DISK_NEEDED)} at the least")
    if free < DISK_COMFORTABLE:
        return Check(subject, "note", found, f"large networks want {_size(DISK_COMFORTABLE)}")
    return Check(subject, "ok", found)


def check_memory(available: int | None) -> Check:
    """Memory for training: digits peaks near 1 GiB, larger presets near 3."""
    if available is None:
        return Check("memory", "note", "not known", "have 3 GiB free for the larger presets")
    found = f"{_size(available)} available"
    if available < MEMORY_COMFORTABLE:
        return Check("memory", "note", found, "close other programs, or lower batch in [encrypt]")
    return Check("memory", "ok", found)


def check_shared_memory(free: int | None) -> Check:
    """Lava's processes talk through /dev/shm, which containers often keep small."""
    if free is None:
        return Check("shared memory", "ok", "no /dev/shm; the system's own way is used")
    found = f"{_size(free)} free in /dev/shm"
    if free < SHARED_MEMORY_COMFORTABLE:
        remedy = "start the container with --shm-size=1g, or compile with --lava-samples 0"
        return Check("shared memory", "note", found, remedy)
    return Check("shared memory", "ok", found)


def check_dataset(name: str) -> Check:
    """Whether a preset's evaluation images are there; a compile works without them."""
    from sim.datasets import load_dataset

    subject = f"images of {name}"
    try:
        shape = load_dataset(name, at_most=1).images_nchw.shape[1:]
    except DataError as problem:
        first = problem.problems[0]
        return Check(subject, "note", f"{problem.summary} ({first.found})", first.remedy)
    return Check(subject, "ok", " x ".join(str(size) for size in shape))


def check_extension() -> Check:
    """Whether Lava can reach a Loihi 2; nothing else needs it."""
    from sim.loihi2 import EXTENSION_MODULE, HOW_TO_GET_IT, extension_installed

    subject = "Lava's extension for Loihi"
    if extension_installed():
        return Check(subject, "ok", "installed; this project has never been run with it")
    return Check(subject, "note", f"no module {EXTENSION_MODULE}; only the chip needs it",
                 HOW_TO_GET_IT)  # fmt: skip


def _available_memory() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    found = [line for line in lines if line.startswith("MemAvailable:")]
    return int(found[0].split()[1]) * 1024 if found else None


def _shared_memory() -> int | None:
    import shutil

    folder = Path("/dev/shm")
    return shutil.disk_usage(folder).free if folder.is_dir() else None


def _size(count: int) -> str:
    from compiler.quantities import size_in_bytes

    return size_in_bytes(count)


def _print(checks: Sequence[Check]) -> None:
    from rich.text import Text

    from compiler.commandline import WIDTH, make_console, plain_table

    console = make_console()
    width = min(console.width, WIDTH)
    rows = [(check.verdict, check.subject, check.found) for check in checks]
    console.print(plain_table(("", "what", "found"), rows, left=3), width=width)
    for verdict, title in (("fix", "to fix"), ("note", "worth knowing")):
        for check in checks:
            if check.verdict == verdict and check.remedy:
                console.print()
                text = f"{title}: {check.subject}: {check.remedy}"
                console.print(Text(text), width=width)
    console.print()
    broken = any(check.verdict == "fix" for check in checks)
    console.print("No compile can run yet." if broken else "A compile can run.", width=width)

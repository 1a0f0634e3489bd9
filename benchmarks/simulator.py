"""The integer simulator against Lava, stock SLAYER, snnTorch and SpikingJelly.

Two networks: the compiled preset `fashion-mnist`, whose figures come first, and a VGG5 for
CIFAR-10. Ours starts from images; the peers get encoded spikes. Lava is timed in steady state.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import statistics
import subprocess
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.common import (
    NOT_INSTALLED,
    alternate,
    limits_as_data,
    measure_limits,
    median_ratio,
    package_version,
)
from benchmarks.lava_stream import LavaStream
from benchmarks.simulator_load import Load, as_float, digits, fashion, vgg5
from benchmarks.simulator_peers import PEERS

UNIT = "samples/s"
PACKAGES = {"slayer": "lava-dl", "snntorch": "snntorch", "spikingjelly": "spikingjelly"}
NAMES = ("lava", *PACKAGES)
SOURCE = Path(__file__).with_name("additions.cpp")
_ROW_LANES, _ROWS = 128, 64


def measure(rounds: int, quick: bool) -> dict[str, Any]:
    """Samples per second of ours and the peers on the first network; `details` has both."""
    limit = addition_limit(quick)
    loads = [digits()] if quick else [fashion(), vgg5()]
    details = {load.name: measure_load(load, rounds, limit) for load in loads}
    first = details[loads[0].name]
    missing = [name for name, package in PACKAGES.items() if not _installed(package)]
    return {
        "ours": first["samples_per_second"]["ours"],
        "peers": {name: first["samples_per_second"].get(name) for name in NAMES},
        "unit": UNIT,
        "roofline_fraction": first["additions_share_of_limit"],
        "roofline": "of adding 16-bit weights from the first cache, one for each synapse that a "
        "spike reaches; encoding, neurons and counts take their time beside",
        "notes": [f"{name}: not installed" for name in missing],
        "details": {
            **details,
            "additions_limit_per_second": limit,
            "limits": limits_as_data(measure_limits(quick=quick)),
        },
    }


def _installed(package: str) -> bool:
    return package_version(package) != NOT_INSTALLED


def measure_load(load: Load, rounds: int, limit: float | None) -> dict[str, Any]:
    """Everything about one network: rates, ratios, agreement, activity.

    limit: additions a second, from addition_limit.
    """
    from compiler.chip.encoding import encode
    from compiler.ir.snn import Encoding
    from sim.reference import simulate

    images = load.images_nchw
    code = load.graph.encoding or Encoding()
    result = simulate(load.graph, images)
    lava_samples = -(-(load.lava_steps * (rounds + 2)) // load.timesteps) + 2
    spikes = encode(images[: max(lava_samples, *_peer_samples(load))], load.timesteps, code)
    candidates, agreement = _peers(load, spikes, result.logits_nk)
    with tempfile.TemporaryDirectory() as folder:
        network = _write(load, Path(folder))
        with LavaStream(network, spikes[:, :lava_samples]) as lava:
            agreement["lava"] = _equal(lava.first_voltage, result.logits_nk[0])
            turns: dict[str, Callable[[], object]] = {
                "ours": lambda: simulate(load.graph, images[: load.samples["ours"]]),
                "lava": lambda: lava.advance(load.lava_steps),
                **candidates,
            }
            seconds = alternate(turns, rounds)
    return {
        **_describe(load, result),
        **_rates(load, seconds),
        **_additions(load, result, seconds["ours"], limit),
        "same_answers_as": agreement,
    }


def _peer_samples(load: Load) -> list[int]:
    return [load.samples[name] for name in PACKAGES]


def _peers(load: Load, spikes_tnchw: Any, logits_nk: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Forward passes of the peers that are installed, and whether they answer as ours does."""
    graph, candidates, agreement = as_float(load.graph), {}, {}
    for name, package in PACKAGES.items():
        if not _installed(package):
            continue
        count = load.samples[name]
        candidates[name] = PEERS[name](graph, spikes_tnchw[:, :count])
        answers = candidates[name]()
        if name == "slayer":
            # voltages are the chip's shifted left by 6 bits; read-out voltages hold mantissas
            agreement[name] = _equal(answers.reshape(count, -1) * 64, logits_nk[:count])
        else:
            same = answers.argmax(1) == logits_nk[:count].argmax(1)
            agreement[name] = f"{int(same.sum())} of {count} classes (float neurons)"
    return candidates, agreement


def _equal(one: Any, other: Any) -> str:
    """In words; raises RuntimeError where the answers differ: then there is nothing to time."""
    import numpy as np

    if not np.array_equal(np.asarray(one), np.asarray(other)):
        raise RuntimeError("the read-out's voltages differ: the speed of a wrong answer is no use")
    return f"all of {np.asarray(one).size} read-out voltages"


def _write(load: Load, folder: Path) -> Path:
    """The network as a file for Lava."""
    from netx_export import deployment_of, write_netx

    path = folder / "model.net"
    write_netx(load.graph, path, deployment_of(load.graph))
    return path


def _rates(load: Load, seconds: dict[str, list[float]]) -> dict[str, Any]:
    """Samples per second, and how many times longer a sample takes in the same round."""
    counts = {**load.samples, "lava": load.lava_steps / load.timesteps}
    each = {name: [one / counts[name] for one in times] for name, times in seconds.items()}
    return {
        "samples_a_round": {name: counts[name] for name in seconds},
        "seconds": seconds,
        "samples_per_second": {name: 1 / statistics.median(times) for name, times in each.items()},
        "milliseconds_a_sample": {
            name: 1e3 * statistics.median(times) for name, times in each.items()
        },
        "times_slower_same_round": {
            name: median_ratio(times, each["ours"])
            for name, times in each.items()
            if name != "ours"
        },
    }


def _describe(load: Load, result: Any) -> dict[str, Any]:
    """What was run and how much of it spikes."""
    steps, inputs = result.timesteps, result.input_chw.size
    return {
        "network": [f"{layer.kind} {layer.shape}" for layer in load.graph.layers],
        "images": load.images,
        "timesteps": steps,
        "engine": result.engine,
        "input_rate": float(result.input_n.mean()) / inputs / steps,
        "spiking_rates": {
            layer.name: float(layer.spikes_n.mean()) / layer.spikes_chw.size / steps
            for layer in result.layers
        },
    }


def _additions(
    load: Load, result: Any, seconds: list[float], limit: float | None
) -> dict[str, Any]:
    """Synapses that spikes reach, a second, against the limit; and what a dense pass would do."""
    from sim.synops import count_operations

    rows = count_operations(result, load.graph)[1:]
    per_sample = sum(row.synops for row in rows) / result.samples
    macs = sum(row.synapses for row in rows) * result.timesteps
    rate = load.samples["ours"] / statistics.median(seconds)
    return {
        "additions_a_sample": per_sample,
        "additions_share_of_limit": per_sample * rate / limit if limit else None,
        "dense_macs_a_sample": float(macs),
        "dense_equivalent_gmacs": macs * rate / 1e9,
    }


def addition_limit(quick: bool = False) -> float | None:
    """Additions of 16-bit weights a second that this machine's cores make at best, together.

    Rows of 128 from 16 KB, added to one row of sums in registers, on as many threads as the
    engine takes. None without a C++ compiler.
    """
    from compiler.chip.engine.build import NoKernel
    from compiler.chip.engine.job import thread_count

    threads, repeats = thread_count(), 2_000 if quick else 100_000
    with contextlib.suppress(NoKernel):
        add = _adder(threads)
        add(1)
        seconds = alternate({"add": lambda: add(repeats)}, 5)["add"]
        return threads * repeats * _ROWS * _ROW_LANES / min(seconds)
    return None


def _adder(threads: int) -> Callable[[int], Any]:
    """The loop of additions.cpp, one thread a core; NoKernel where it does not compile."""
    import numpy as np

    from compiler.chip.engine.build import FLAGS, NoKernel, find_compiler
    from compiler.chip.engine.tables import aligned

    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "additions.so"
        command = [*find_compiler(os.environ.get("CXX", "")), *FLAGS, "-o", str(made), str(SOURCE)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            raise NoKernel("additions.cpp does not compile")
        library = ctypes.CDLL(str(made))
    rows = aligned((threads, _ROWS + 1, _ROW_LANES), np.dtype(np.int16))
    rows[...] = 1

    def add_rows(thread: int, repeats: int) -> None:
        start, total = (ctypes.c_void_p(rows[thread, k].ctypes.data) for k in (0, _ROWS))
        library.add_rows(start, ctypes.c_int64(_ROWS), ctypes.c_int64(repeats), total)

    def add(repeats: int) -> Any:
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(add_rows, range(threads), [repeats] * threads))

    return add

"""A NetX file and labelled images to accuracy, spikes, operations, energy and latency."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from compiler.chip.fields import TIMESTEP_CHOICES
from compiler.distributed import World
from compiler.errors import Problem, UsageError
from compiler.ir.chip import ChipGraph
from compiler.ir.snn import Code, Encoding
from netx_export import NetxFile, read_netx
from sim.datasets import Dataset, class_name_note, load_dataset
from sim.results import SimulationResult
from sim.synops import operation_tables, synops_by_sample
from sim.traces import NetworkTrace

Backend = Literal["reference", "lava", "loihi2"]
Progress = Callable[[int, int], None]
_Words = tuple[str, str, str]
"""Found, allowed, remedy."""

LAVA_SAMPLES, CHIP_SAMPLES = 8, 320
"""Samples that Lava runs unless told otherwise: on the CPU each takes about a second or more;
on a chip power is read well over 10,000 time-steps, which 320 samples of 32 steps are.
"""

AT_MOST = {"lava": LAVA_SAMPLES, "loihi2": CHIP_SAMPLES}


@dataclass(frozen=True)
class Request:
    """What to run.

    data: a specification of sim.datasets; samples: None for all (in Lava: LAVA_SAMPLES);
    timesteps, encoding: for a file without a deployment group, prevail where given; seed:
    of the draw of samples, and of the `poisson` code where the file names none;
    time_limit: seconds for Lava, None for one that grows with the samples; host: the file of
    the first layers of a network that compiler.split divided.
    """

    network: Path
    data: str
    backend: Backend = "reference"
    samples: int | None = None
    timesteps: int | None = None
    encoding: Code | None = None
    seed: int = 0
    time_limit: float | None = None
    host: Path | None = None


def measure(
    request: Request, progress: Progress | None = None, world: World | None = None
) -> dict[str, Any]:
    """Run a file and return the content of `sim.run --json`; on a chip with `chip` in it.

    world: the processes that share the samples; all but the main one return {}.
    Raises what netx_export.read_netx, sim.datasets.load_dataset and sim.lava raise,
    UsageError listing settings that neither the file nor the request has, and
    EnvironmentProblem for a backend that is not there.
    """
    if request.backend == "loihi2":
        from sim.loihi2 import require_extension

        require_extension()
    file = _open_parts(request)
    timesteps, encoding = _settings(file.graph, request)
    data = _load(request, file.graph)
    run = _run(request, file.graph, data, timesteps, encoding, progress, world or World())
    if run is None:
        return {}
    result, traces, chip = run
    notes = [
        *_file_notes(file, request),
        *_data_notes(file.graph, data, request),
        *_health_notes(file.graph, result),
        *chip.pop("notes", ()),
    ]
    code = "input neurons" if file.graph.input_neurons else encoding.code if encoding else None
    return {
        "network": str(request.network),
        "data": request.data,
        "seed": request.seed,
        "encoding": code,
        **_figures(file.graph, data, result, traces),
        **chip,
        "notes": notes,
    }


def open_network(path: Path) -> NetxFile:
    """Read a file of this project strictly, and one of somebody else's with its violations."""
    file = read_netx(path, lenient=True)
    return file if file.deployment is None else read_netx(path)


def _open_parts(request: Request) -> NetxFile:
    """The file; with the first layers before it where they are in a file of their own."""
    from compiler.ir.splitting import HOST, join

    file = open_network(request.network)
    second = file.graph.encoding == HOST
    wrong = (
        *_part_problem(request, file, second),
        *_limit_problem(request),
        *_steps_problem(request, file.graph),
    )
    if wrong:
        problems = [Problem(request.network.name, *words) for words in wrong]
        raise UsageError("the network cannot be run like that", problems)
    if request.host is None:
        return file
    return replace(file, graph=join(open_network(request.host).graph, file.graph))


def _part_problem(request: Request, file: NetxFile, second: bool) -> list[_Words]:
    """What is wrong with the files, where one is missing or one too many."""
    if second and request.host is None:
        return [
            ("a file without its first layers", "both files of a split", "give --host host.net")
        ]
    if second and request.backend == "loihi2":
        return [("--backend loihi2 with --host", "reference or lava", "choose another backend")]
    if not second and request.host is not None:
        return [("--host for a whole network", "a second part", "leave --host out")]
    if not second and _is_first_part(file):
        remedy = f"run the others with these before them: device.net --host {request.network.name}"
        return [("first layers alone, which answer nothing", "both files of a split", remedy)]
    return []


def _is_first_part(file: NetxFile) -> bool:
    """Whether these are first layers that compiler.split wrote.

    Every whole network of the compiler, which alone writes its tools' versions, ends in a
    read-out by voltage.
    """
    made = file.deployment
    return made is not None and bool(made.versions) and made.readout.rule != "voltage"


def _limit_problem(request: Request) -> list[_Words]:
    if request.time_limit is None or request.backend != "reference":
        return []
    remedy = "leave --time-limit out, or give --backend lava"
    return [("--time-limit with --backend reference", "a limit for lava or loihi2", remedy)]


def _steps_problem(request: Request, graph: ChipGraph) -> list[_Words]:
    steps = graph.timesteps if request.timesteps is None else request.timesteps
    if request.backend != "loihi2" or steps is None or steps in TIMESTEP_CHOICES:
        return []
    allowed = f"a power of two from {TIMESTEP_CHOICES[0]} to {TIMESTEP_CHOICES[-1]}"
    remedy = "give another --timesteps, or --backend reference or lava"
    return [(f"--backend loihi2 with {steps} time-steps", allowed, remedy)]


def _settings(graph: ChipGraph, request: Request) -> tuple[int | None, Encoding | None]:
    """Time-steps and code that are not the file's own; all that are missing in one error."""
    code = request.encoding
    encoding = None if code is None else Encoding(code, request.seed)
    problems = []
    where = request.network.name
    if graph.timesteps is None and request.timesteps is None:
        found = "a file without a deployment group, which does not say how many time-steps"
        problems.append(Problem(where, found, f"1..{TIMESTEP_CHOICES[-1]}", "give --timesteps"))
    if graph.encoding is None and encoding is None and graph.input_neurons is None:
        found = "a file without a deployment group, which does not name its input code"
        problems.append(Problem(where, found, "rate, poisson or latency", "give --encoding"))
    if problems:
        raise UsageError("the file does not say how to run it", problems)
    if encoding is not None and graph.encoding is not None and graph.encoding.code == code:
        encoding = graph.encoding
    return request.timesteps, encoding or graph.encoding


def _load(request: Request, graph: ChipGraph) -> Dataset:
    return load_dataset(
        request.data,
        graph.input_shape,
        request.samples,
        request.seed,
        classes=graph.layers[-1].neurons,
        at_most=AT_MOST.get(request.backend),
    )


def _run(
    request: Request,
    graph: ChipGraph,
    data: Dataset,
    timesteps: int | None,
    encoding: Encoding | None,
    progress: Progress | None,
    world: World,
) -> tuple[SimulationResult, Iterable[NetworkTrace], dict[str, Any]] | None:
    """What was counted over all samples, every spike of a few of them, what a chip adds.

    None in all processes but the main one, which alone runs Lava.
    """
    if request.backend != "reference" and not world.main:
        return None
    if request.backend == "loihi2":
        return _run_on_chip(request, graph, data, timesteps, encoding)
    if request.backend == "lava":
        from sim.costs import first_samples
        from sim.lava import simulate_lava

        run = simulate_lava(
            graph if request.host else request.network,
            data.images_nchw,
            timesteps=timesteps,
            encoding=encoding,
            time_limit=request.time_limit,
            fan_outs=operation_tables(graph),
            progress=progress,
        )
        return run.result, [first_samples(run.trace)], {}
    from sim.costs import reference_traces
    from sim.reference import simulate
    from sim.shares import simulate_share

    # compiled code is loaded in the first call; it is no part of the speed
    simulate(graph, data.images_nchw[:1], timesteps=timesteps, encoding=encoding)
    result = simulate_share(
        world,
        graph,
        data.images_nchw,
        timesteps=timesteps,
        encoding=encoding,
        progress=progress,
        fan_outs=operation_tables(graph),
    )
    if result is None:
        return None
    return result, reference_traces(graph, data.images_nchw, timesteps, encoding), {}


def _run_on_chip(
    request: Request,
    graph: ChipGraph,
    data: Dataset,
    timesteps: int | None,
    encoding: Encoding | None,
) -> tuple[SimulationResult, Iterable[NetworkTrace], dict[str, Any]]:
    from sim import loihi2
    from sim.costs import reference_traces
    from sim.encoding import drive_from_images
    from sim.reference import simulate

    images = data.images_nchw
    drive = drive_from_images(graph, images, timesteps, encoding)
    placed = loihi2.run_at(loihi2.CHIP, request.network, graph, drive, request.time_limit)
    reference = simulate(
        graph, images, timesteps=timesteps, encoding=encoding, fan_outs=operation_tables(graph)
    )
    chip = {
        "chip": loihi2.describe(placed, reference),
        "notes": loihi2.notes(placed, drive.timesteps * drive.samples),
    }
    traces = reference_traces(graph, images, timesteps, encoding)
    return loihi2.chip_result(placed, reference), traces, chip


def _figures(
    graph: ChipGraph, data: Dataset, result: SimulationResult, traces: Iterable[NetworkTrace]
) -> dict[str, Any]:
    """Everything that is counted; `voltage_saturations` is None where the backend tells none."""
    from sim.costs import cost_rows

    costs = cost_rows(graph, result, traces)
    layers = costs["layers"]
    clips = [layer.saturations for layer in result.layers]
    right = result.predictions_n == data.labels
    return {
        "accuracy": float(np.mean(right)),
        "correct": int(np.count_nonzero(right)),
        "samples": result.samples,
        "timesteps": result.timesteps,
        "backend": result.backend,
        "engine": result.engine or None,
        "seconds": result.seconds,
        "samples_per_second": result.samples / result.seconds if result.seconds else None,
        "read_out": "voltage" if graph.layers[-1].readout else "spike_count",
        "readout_spikes": result.readout_spikes,
        "voltage_saturations": None if min(clips) < 0 else sum(clips),
        "spikes_per_sample": sum(row["spikes_per_sample"] for row in layers),
        "synops_per_sample": sum(row["synops_per_sample"] for row in layers),
        "synops_by_sample": synops_by_sample(result),
        **costs,
        "predictions": [int(label) for label in result.predictions_n],
        "image_indices": [int(index) for index in data.index_n],
    }


def _file_notes(file: NetxFile, request: Request) -> list[str]:
    notes = [
        f"{problem.layer} in the file: {problem.found}; this project writes: {problem.allowed}"
        for problem in file.violations
    ]
    own = file.graph
    if own.timesteps and request.timesteps not in (None, own.timesteps):
        notes.append(f"run with T = {request.timesteps}; the file was made for T = {own.timesteps}")
    if own.encoding and request.encoding not in (None, own.encoding.code):
        code = cast(str, request.encoding)
        notes.append(f"run with {code} code; the file was made for {own.encoding.code}")
    return notes


def _data_notes(graph: ChipGraph, data: Dataset, request: Request) -> list[str]:
    notes = []
    if request.backend == "lava" and request.samples is None:
        notes.append(
            f"{len(data)} samples, since Lava takes about a second or more for each; "
            "--samples N runs N"
        )
    named = class_name_note(graph.class_names, data)
    return [*notes, named] if named else notes


def _health_notes(graph: ChipGraph, result: SimulationResult) -> list[str]:
    notes = []
    if result.readout_spikes:
        notes.append(
            f"the read-out {graph.layers[-1].name} fired {result.readout_spikes} times, which sets "
            "its voltage back to 0: the answers of those samples are lost"
        )
    clipped = {layer.name: layer.saturations for layer in result.layers if layer.saturations > 0}
    if clipped:
        where = ", ".join(f"{name} {count}" for name, count in clipped.items())
        notes.append(f"v was clipped at 24 bits ({where}): sums beyond the range are lost")
    return notes

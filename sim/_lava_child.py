"""The process in which Lava runs: `python -m sim._lava_child FOLDER PARENT`.

Started by sim.lava, which reads what is written here. FOLDER holds jobs.json, a list of
runs; each has a NetX file, an input file and a folder for its output. Exit status: 0 done,
CRASHED where one of Lava's processes died (failure.json says which), others for an
exception in this process. It ends with the process PARENT, whatever ends that.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from sim._lava_edges import Edge

CRASHED = 3
MARGIN = 2
"""Steps after the last: a voltage that was read arrives a step later."""

_POLL_SECONDS = 0.2
_GRACE_SECONDS = 5.0
"""Time for Lava to notice by itself that one of its processes died, and to say more."""


def main(folder: Path, parent: int) -> None:
    """Do all runs of a folder, one after the other."""
    jobs = json.loads((folder / "jobs.json").read_text())
    _skip_object_detection()
    for index, job in enumerate(jobs):
        (folder / "current").write_text(str(index))
        _run(job, parent)
    (folder / "current").write_text("done")


def _skip_object_detection() -> None:
    """Spare the import of SLAYER's object detection, which NetX does not use.

    It loads torchvision's detection models: 5 of 13 seconds until Lava is ready.
    """
    name = "lava.lib.dl.slayer.object_detection"
    sys.modules.setdefault(name, types.ModuleType(name))


def _run(job: dict[str, Any], parent: int) -> None:
    """Build the network of one job, run it and leave the recordings in its folder."""
    from lava.lib.dl.netx.hdf5 import Network

    from sim._lava_edges import edge_for

    started = time.perf_counter()
    edge = edge_for(job["backend"], job["detour"])
    network = Network(
        net_config=job["net"],
        num_layers=job["entries"],
        reset_interval=job["timesteps"],
        reset_offset=job["lead"],
    )
    _connect(network, job, edge)
    watcher = _Watcher(network, Path(job["out"]), parent)
    watcher.start()
    try:
        if job["biased"]:
            _run_biased(network, job, edge)
        else:
            _advance(network, _steps(job) + MARGIN, edge)
    except RuntimeError as error:
        watcher.fail("runtime", repr(error))
    watcher.finished.set()
    network.stop()
    (Path(job["out"]) / "profile.json").write_text(json.dumps(edge.profile()))
    seconds = time.perf_counter() - started
    (Path(job["out"]) / "seconds").write_text(repr(seconds))


def _steps(job: dict[str, Any]) -> int:
    """Steps until the last layer's last spike is recorded."""
    return int(job["timesteps"] * job["samples"] + job["drain"])


def _advance(network: Any, steps: int, edge: Edge) -> None:
    """Run some time-steps."""
    from lava.magma.core.run_conditions import RunSteps

    network.run(condition=RunSteps(num_steps=steps), run_cfg=edge.run_config(steps))


def _run_biased(network: Any, job: dict[str, Any], edge: Edge) -> None:
    """Change the input neurons' bias from sample to sample."""
    given = np.load(job["input"])
    biases = given.reshape(len(given), *network.in_layer.shape)
    network.in_layer.neuron.bias_mant.init = biases[0]
    _advance(network, job["timesteps"], edge)
    for bias in biases[1:]:
        network.in_layer.neuron.bias_mant.set(bias)
        _advance(network, job["timesteps"], edge)
    _advance(network, job["drain"] + MARGIN, edge)


def _connect(network: Any, job: dict[str, Any], edge: Edge) -> None:
    """Attach the feeder and the recorders; every file exists before Lava starts."""
    from sim._lava_processes import SpikeFeeder, SpikeRecorder

    out, total = Path(job["out"]), _steps(job)
    progress = out / "progress.npy"
    np.save(progress, np.zeros(len(job["recorded"]), np.int64))
    if not job["biased"]:
        edge.into(network, SpikeFeeder(network.inp.shape, job["input"]).s_out)
    for index, layer in enumerate(network.layers):
        for process in (layer.neuron, getattr(layer, "synapse", layer.neuron)):
            process.name = str(index)
        if job["states"]:
            _record_states(layer, out, index, total)
    for slot, index in enumerate(job["recorded"]):
        layer = network.layers[index]
        path = _new_file(out / f"{index}.spikes.npy", (total, *layer.shape), np.uint8)
        edge.spikes(layer, SpikeRecorder(layer.shape, path, str(progress), slot).a_in)
    _record_voltage(network.layers[-1], job, edge)


def _record_states(layer: Any, out: Path, index: int, total: int) -> None:
    """Record u and v of a layer after every step; on the CPU alone."""
    from sim._lava_processes import StateRecorder

    for name in ("u", "v"):
        path = _new_file(out / f"{index}.{name}.npy", (total, *layer.shape), np.int32)
        StateRecorder(getattr(layer.neuron, name), path)


def _record_voltage(layer: Any, job: dict[str, Any], edge: Edge) -> None:
    """Record v of the last layer once a sample, and where T steps pass before the first ends."""
    from sim._lava_processes import ValueRecorder

    interval, phase = job["timesteps"], job["voltage_phase"]
    shape = (_steps(job) // interval + 2, *layer.shape)
    path = _new_file(Path(job["out"]) / "voltage.npy", shape, np.int32)
    recorder = ValueRecorder(layer.shape, path, interval, phase + 1)
    edge.states(layer.neuron.v, interval, phase, recorder.a_in)


def _new_file(path: Path, shape: tuple[int, ...], dtype: Any) -> str:
    np.save(path, np.zeros(shape, dtype))
    return str(path)


class _Watcher(threading.Thread):
    """Ends this process when one of Lava's died: Lava itself may wait for it for ever."""

    def __init__(self, network: Any, out: Path, parent: int) -> None:
        super().__init__(daemon=True)
        self.finished = threading.Event()
        self._network, self._out = network, out
        self._parent = parent

    def run(self) -> None:
        """Look at Lava's processes, and at whoever started this one, until the run has ended."""
        while not self.finished.wait(_POLL_SECONDS):
            if os.getppid() != self._parent:
                os.killpg(os.getpgrp(), signal.SIGTERM)
            dead = [(layer, actor) for layer, actor in self._actors() if _is_dead(actor)]
            if dead and not self.finished.wait(_GRACE_SECONDS):
                self.fail(dead[0][0], f"its process ended with status {dead[0][1].exitcode}")

    def fail(self, layer: str, trouble: str) -> None:
        """Write down what happened and end; an exception in one of Lava's processes explains it."""
        for name, actor in self._actors():
            if actor.exception:
                layer, trouble = name, actor.exception[1]
                break
        (self._out / "failure.json").write_text(json.dumps({"layer": layer, "trouble": trouble}))
        os._exit(CRASHED)

    def _actors(self) -> list[tuple[str, Any]]:
        """Lava's processes, each with the number of the layer that it works for, or a name."""
        runtime = self._network.runtime
        infrastructure = getattr(runtime, "_messaging_infrastructure", None)
        if infrastructure is None:
            return []
        names = [process.name for process in runtime._executable.proc_builders]
        actors = list(infrastructure.actors)
        names += ["runtime"] * (len(actors) - len(names))
        return list(zip(names, actors, strict=False))


def _is_dead(actor: Any) -> bool:
    """Whether a process of Lava's has ended; one that Lava has already closed does not count."""
    try:
        return not actor.is_alive()
    except ValueError:
        return False


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))

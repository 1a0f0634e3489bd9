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
from typing import Any

import numpy as np

CRASHED = 3
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

    started = time.perf_counter()
    network = Network(
        net_config=job["net"],
        num_layers=job["entries"],
        reset_interval=job["timesteps"],
        reset_offset=job["lead"],
    )
    # a spike takes a step from layer to layer, so the last layer ends this much later
    drain = len(network.layers) - 1 + job["lead"]
    _connect(network, job, drain)
    watcher = _Watcher(network, Path(job["out"]), parent)
    watcher.start()
    try:
        if job["biased"]:
            _run_biased(network, job, drain)
        else:
            _advance(network, job["timesteps"] * job["samples"] + drain)
    except RuntimeError as error:
        watcher.fail("runtime", repr(error))
    watcher.finished.set()
    network.stop()
    seconds = time.perf_counter() - started
    (Path(job["out"]) / "seconds").write_text(repr(seconds))


def _advance(network: Any, steps: int) -> None:
    """Run some time-steps."""
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi2SimCfg

    # without the tag Lava would pick its floating-point models
    network.run(condition=RunSteps(num_steps=steps), run_cfg=Loihi2SimCfg(select_tag="fixed_pt"))


def _run_biased(network: Any, job: dict[str, Any], drain: int) -> None:
    """Change the input neurons' bias from sample to sample."""
    given = np.load(job["input"])
    biases = given.reshape(len(given), *network.in_layer.shape)
    network.in_layer.neuron.bias_mant.init = biases[0]
    _advance(network, job["timesteps"])
    for bias in biases[1:]:
        network.in_layer.neuron.bias_mant.set(bias)
        _advance(network, job["timesteps"])
    if drain:
        _advance(network, drain)


def _connect(network: Any, job: dict[str, Any], drain: int) -> None:
    """Attach the feeder and the recorders; every file exists before Lava starts."""
    from sim._lava_processes import SpikeFeeder, SpikeRecorder, StateRecorder

    out = Path(job["out"])
    steps = job["timesteps"]
    total = steps * job["samples"] + drain
    progress = out / "progress.npy"
    np.save(progress, np.zeros(len(network.layers), np.int64))
    if not job["biased"]:
        SpikeFeeder(network.inp.shape, job["input"]).s_out.connect(network.inp)
    for index, layer in enumerate(network.layers):
        for process in (layer.neuron, getattr(layer, "synapse", layer.neuron)):
            process.name = str(index)
        path = _new_file(out / f"{index}.spikes.npy", (total, *layer.shape), np.uint8)
        recorder = SpikeRecorder(layer.shape, path, str(progress), index)
        layer.neuron.s_out.connect(recorder.a_in)
        if job["states"]:
            for name in ("u", "v"):
                path = _new_file(out / f"{index}.{name}.npy", (total, *layer.shape), np.int32)
                StateRecorder(getattr(layer.neuron, name), path)
    last = network.layers[-1]
    reads = total // steps + 1
    path = _new_file(out / "voltage.npy", (reads, *last.shape), np.int32)
    # the last step of a sample in the last layer is the one before its reset
    StateRecorder(last.neuron.v, path, steps, (drain - 1) % steps)


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

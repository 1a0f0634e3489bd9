"""Lava in steady state: a child that has built its network and waits between measurements."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[1]
SECONDS, GRACE_SECONDS = 600, 20
"""The longest that Lava may take for one answer, its start included; and to end."""


class LavaStream:
    """A network in Lava that goes on by some time-steps whenever it is told to.

    spikes_tnchw: input, sample after sample. Between calls every process of Lava's is stopped,
    so that it takes nothing from what is measured meanwhile. `first_voltage`: v of the last
    layer at the end of the first sample, in C, H, W order (the last layer has one place).
    """

    def __init__(self, network: Path, spikes_tnchw: Any) -> None:
        import numpy as np

        self._folder = tempfile.TemporaryDirectory(prefix="lava-stream-")
        folder = Path(self._folder.name)
        steps, samples = spikes_tnchw.shape[:2]
        rows = np.moveaxis(spikes_tnchw, 1, 0).reshape(steps * samples, *spikes_tnchw.shape[2:])
        np.save(folder / "input.npy", np.ascontiguousarray(rows.transpose(0, 3, 2, 1)))
        job = {"net": str(network), "input": str(folder / "input.npy"), "timesteps": steps}
        with (folder / "log").open("wb") as log:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.lava_stream", json.dumps(job)],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
                env=dict(os.environ, OMP_NUM_THREADS="1", MPLBACKEND="Agg"),
            )
        self.first_voltage: list[int] = self._answer()["voltage"]

    def advance(self, steps: int) -> float:
        """Go on by some time-steps; seconds by Lava's own clock."""
        os.killpg(self._child.pid, signal.SIGCONT)
        _pipe(self._child.stdin).write(f"{steps}\n")
        _pipe(self._child.stdin).flush()
        return float(self._answer()["seconds"])

    def _answer(self) -> dict[str, Any]:
        """The child's next word; RuntimeError where it ends, or says nothing for too long."""
        limit = threading.Timer(SECONDS, os.killpg, (self._child.pid, signal.SIGKILL))
        limit.start()
        try:
            for line in _pipe(self._child.stdout):
                if line.startswith("{"):
                    os.killpg(self._child.pid, signal.SIGSTOP)
                    answer: dict[str, Any] = json.loads(line)
                    return answer
        finally:
            limit.cancel()
        log = Path(self._folder.name, "log").read_text(errors="replace")
        raise RuntimeError(f"Lava ended: {log[-500:]}")

    def _end(self) -> None:
        """Let Lava stop by itself, which frees its shared memory, or end all of its processes."""
        with contextlib.suppress(ProcessLookupError, BrokenPipeError):
            os.killpg(self._child.pid, signal.SIGCONT)
            _pipe(self._child.stdin).close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(GRACE_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()

    def __enter__(self) -> LavaStream:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()
        self._folder.cleanup()


def _pipe(stream: IO[str] | None) -> IO[str]:
    if stream is None:
        raise ValueError("the child has no pipe")
    return stream


def _serve(job: dict[str, Any]) -> None:
    """Build, run the first sample through all layers, then go on as told, line by line."""
    import time

    import numpy as np
    from lava.lib.dl.netx.hdf5 import Network
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi2SimCfg

    from sim._lava_processes import SpikeFeeder

    steps = job["timesteps"]
    network = Network(net_config=job["net"], reset_interval=steps, reset_offset=1)
    SpikeFeeder(network.inp.shape, job["input"]).s_out.connect(network.inp)

    def advance(count: int) -> float:
        started = time.perf_counter()
        config = Loihi2SimCfg(select_tag="fixed_pt")
        network.run(condition=RunSteps(num_steps=count), run_cfg=config)
        return time.perf_counter() - started

    advance(steps + len(network.layers))  # a spike takes a step from layer to layer
    voltage = np.asarray(network.layers[-1].neuron.v.get()).reshape(-1)
    print(json.dumps({"voltage": [int(v) for v in voltage]}), flush=True)
    for line in sys.stdin:
        print(json.dumps({"seconds": advance(int(line))}), flush=True)
    network.stop()


if __name__ == "__main__":
    _serve(json.loads(sys.argv[1]))

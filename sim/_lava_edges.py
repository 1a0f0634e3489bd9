"""Where signals pass between Python and a network: the one thing that differs on a chip.

The processes of the chip's edge come with Intel's extension of Lava; how they are connected
follows lava-dl's own test and tutorials (tests/lava/lib/dl/netx/test_hdf5_nx.py,
tutorials/lava/lib/dl/netx/pilotnet_snn/benchmark.ipynb).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np


class Edge(Protocol):
    """What the child that runs Lava asks for, whichever backend it is."""

    def into(self, network: Any, source: Any) -> None:
        """Connect a port that sends input spikes to the network's input."""

    def spikes(self, layer: Any, recorder: Any) -> None:
        """Connect a layer's spikes to a port that receives them."""

    def states(self, variable: Any, interval: int, phase: int, recorder: Any) -> None:
        """Connect a variable, read every `interval` steps, to a port that receives it.

        It is read after the steps t with (t - 1) % interval == phase and arrives a step later.
        """

    def run_config(self, steps: int) -> Any:
        """The run configuration of a run of so many steps."""

    def profile(self) -> dict[str, Any]:
        """What was measured; empty where nothing is."""


def edge_for(backend: str, detour: Mapping[str, int]) -> Edge:
    """The edge of a backend; `detour`: sim.lava_task.Place.detour as a mapping."""
    return ChipEdge() if backend == "loihi2" else CpuEdge(detour)


class CpuEdge:
    """Ports connected directly, or by way of relays that hold signals up."""

    def __init__(self, detour: Mapping[str, int]) -> None:
        self._detour = detour

    def into(self, network: Any, source: Any) -> None:
        """See Edge."""
        self._relay(source, network.inp, self._detour["input"])

    def spikes(self, layer: Any, recorder: Any) -> None:
        """See Edge."""
        self._relay(layer.neuron.s_out, recorder, self._detour["spikes"])

    def _relay(self, source: Any, target: Any, delay: int) -> None:
        from sim._lava_processes import Relay

        if not delay:
            source.connect(target)
            return
        relay = Relay(source.shape, delay)
        source.connect(relay.a_in)
        relay.s_out.connect(target)

    def states(self, variable: Any, interval: int, phase: int, recorder: Any) -> None:
        """See Edge."""
        from sim._lava_processes import StateReader

        reader = StateReader(variable.shape, interval, phase, -self._detour["states"])
        reader.connect_var(variable)
        reader.out.connect(recorder)

    def run_config(self, steps: int) -> Any:
        """Lava's fixed-point models; without the tag it would pick the floating-point ones."""
        from lava.magma.core.run_configs import Loihi2SimCfg

        return Loihi2SimCfg(select_tag="fixed_pt")

    def profile(self) -> dict[str, Any]:
        """Nothing is measured on the CPU."""
        return {}


PROFILES = {
    "power": (
        "total_power", "vdd_power", "vddm_power", "vddio_power", "static_total_power",
        "static_vdd_power", "static_vddm_power", "static_vddio_power",
    ),
    "time": ("avg_time_per_step", "execution_time_per_step"),
    "memory": ("core_idx", "total_mpds"),
    "activity": ("core_idx", "syn_ops", "dendrite_updates", "axon_out", "spikes_in"),
}  # fmt: skip
"""What the extension's profilers measure, by the names in lava-dl's benchmark.ipynb: watts,
microseconds, shares of a core's memory, counts a core."""


class ChipEdge:
    """Spikes and voltages through the processor that stands beside the chip's cores."""

    def __init__(self) -> None:
        self._profilers: dict[str, Any] = {}
        choose_host()

    def into(self, network: Any, source: Any) -> None:
        """See Edge. A convolution takes another adapter than a dense layer."""
        from lava.proc.embedded_io import spike

        wanted = spike.PyToN3ConvAdapter if len(network.inp.shape) == 3 else spike.PyToNxAdapter
        adapter = wanted(shape=network.inp.shape)
        source.connect(adapter.inp)
        adapter.out.connect(network.inp)

    def spikes(self, layer: Any, recorder: Any) -> None:
        """See Edge."""
        from lava.proc.embedded_io import spike

        adapter = spike.NxToPyAdapter(shape=layer.neuron.s_out.shape)
        layer.neuron.s_out.connect(adapter.inp)
        adapter.out.connect(recorder)

    def states(self, variable: Any, interval: int, phase: int, recorder: Any) -> None:
        """See Edge."""
        from lava.proc.embedded_io import state

        reader = state.Read(shape=variable.shape, interval=interval, offset=phase)
        reader.connect_var(variable)
        reader.out.connect(recorder)

    def run_config(self, steps: int) -> Any:
        """The chip's models, with all four profilers attached."""
        from lava.magma.core.run_configs import Loihi2HwCfg
        from lava.utils import loihi2_profiler

        self._profilers = {
            "power": loihi2_profiler.Loihi2Power(num_steps=steps),
            "time": loihi2_profiler.Loihi2ExecutionTime(),
            "memory": loihi2_profiler.Loihi2Memory(),
            "activity": loihi2_profiler.Loihi2Activity(),
        }
        return Loihi2HwCfg(callback_fxs=list(self._profilers.values()))

    def profile(self) -> dict[str, Any]:
        """Every profiler's arrays as lists; None for a name that this release does not have."""
        return {
            kind: {name: _plain(getattr(profiler, name, None)) for name in PROFILES[kind]}
            for kind, profiler in self._profilers.items()
        }


def _plain(value: Any) -> Any:
    return None if value is None else np.asarray(value, np.float64).tolist()


def choose_host() -> None:
    """Tell Lava which Loihi 2 to use, by the variables that Lava itself reads.

    NXSDKHOST: a board in the network, with HOST_BINARY; NOSLURM: whatever the extension finds;
    else SLURM, with PARTITION and BOARD. LOIHI_GEN in all cases (lava/utils/loihi.py).
    Raises what lava.utils.loihi raises where there is none.
    """
    from lava.utils import loihi

    generation = loihi.ChipGeneration(os.environ.get("LOIHI_GEN", "N3B3"))
    address = os.environ.get("NXSDKHOST")
    if address:
        binary = os.environ.get("HOST_BINARY", "nxcore/bin/nx_driver_server")
        loihi.use_ethernet_host(address, binary, generation)
    elif "NOSLURM" not in os.environ:
        partition, board = os.environ.get("PARTITION"), os.environ.get("BOARD")
        loihi.use_slurm_host(partition, board, generation)

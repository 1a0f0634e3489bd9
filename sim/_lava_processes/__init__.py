"""Lava processes that read spikes from a file and write what a network does to files.

Lava's own source and sink hand their data over value by value when a run ends
(lava/magma/core/model/py/model.py, _get_var), which takes minutes for real layers. These
keep it in files that the processes map into memory. They stand in a folder of their own
because Lava imports every module beside a process when it looks for the process's model
(lava/magma/compiler/compiler_graphs.py, _find_proc_models).
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort, PyRefPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort, RefPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol


class SpikeFeeder(AbstractProcess):  # type: ignore[misc]
    """Sends row t - 1 of a .npy file (steps, ...) at time-step t, and nothing after its end."""

    def __init__(self, shape: tuple[int, ...], path: str) -> None:
        super().__init__(shape=shape, path=path)
        self.s_out = OutPort(shape=shape)


class SpikeRecorder(AbstractProcess):  # type: ignore[misc]
    """Writes what arrives at time-step t to row t - 1 of a .npy file of uint8.

    `progress` is a .npy file of int64 whose entry `slot` becomes t.
    """

    def __init__(self, shape: tuple[int, ...], path: str, progress: str, slot: int) -> None:
        super().__init__(shape=shape, path=path, progress=progress, slot=slot)
        self.a_in = InPort(shape=shape)


class Relay(AbstractProcess):  # type: ignore[misc]
    """Sends at time-step t what arrived at t - delay: a chip's host, imitated on the CPU."""

    def __init__(self, shape: tuple[int, ...], delay: int) -> None:
        super().__init__(shape=shape, delay=delay)
        self.a_in = InPort(shape=shape)
        self.s_out = OutPort(shape=shape)


class StateReader(AbstractProcess):  # type: ignore[misc]
    """Reads a variable after the time-steps t with (t - 1) % interval == phase, and sends it
    in the next: what lava.proc.embedded_io.state.Read does on a chip.

    early: steps by which it reads earlier than it says, to imitate a chip that does.
    """

    def __init__(self, shape: tuple[int, ...], interval: int, phase: int, early: int = 0) -> None:
        super().__init__(shape=shape, interval=interval, phase=phase, early=early)
        self.ref = RefPort(shape=shape)
        self.out = OutPort(shape=shape)

    def connect_var(self, variable: Var) -> None:
        """Say what is read."""
        self.ref.connect_var(variable)


class ValueRecorder(AbstractProcess):  # type: ignore[misc]
    """Writes what arrives at the time-steps t > 1 with (t - 1) % interval == phase % interval,
    row by row, to a .npy file; something must arrive then.
    """

    def __init__(self, shape: tuple[int, ...], path: str, interval: int, phase: int) -> None:
        super().__init__(shape=shape, path=path, interval=interval, phase=phase % interval)
        self.a_in = InPort(shape=shape)


class StateRecorder(AbstractProcess):  # type: ignore[misc]
    """Writes a variable after every time-step, row by row."""

    def __init__(self, variable: Var, path: str) -> None:
        super().__init__(path=path)
        self.state = RefPort(variable.shape)
        self.state.connect_var(variable)


class _PyFileModel(PyLoihiProcessModel):  # type: ignore[misc]
    """Maps the process's file on first use, in the operating-system process that uses it."""

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self._rows: np.memmap[Any, Any] | None = None

    def rows(self, mode: Literal["r", "r+"]) -> Any:
        """The file as an array."""
        if self._rows is None:
            self._rows = np.load(self.proc_params["path"], mmap_mode=mode)
        return self._rows


@implements(proc=SpikeFeeder, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PySpikeFeederModel(_PyFileModel):
    """SpikeFeeder on the CPU."""

    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)

    def run_spk(self) -> None:
        """Send this time-step's row."""
        rows = self.rows("r")
        step = self.time_step - 1
        row = rows[step] if step < len(rows) else np.zeros(rows.shape[1:])
        self.s_out.send(np.asarray(row, np.int32))


@implements(proc=SpikeRecorder, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PySpikeRecorderModel(_PyFileModel):
    """SpikeRecorder on the CPU."""

    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self._progress = np.load(proc_params["progress"], mmap_mode="r+")

    def run_spk(self) -> None:
        """Write this time-step's row."""
        rows = self.rows("r+")
        spikes = self.a_in.recv()
        if self.time_step <= len(rows):
            rows[self.time_step - 1] = spikes != 0
        self._progress[self.proc_params["slot"]] = self.time_step


@implements(proc=StateRecorder, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyStateRecorderModel(_PyFileModel):
    """StateRecorder on the CPU."""

    state: PyRefPort = LavaPyType(PyRefPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self._count = 0

    def post_guard(self) -> bool:
        """Always: every time-step is written."""
        return True

    def run_post_mgmt(self) -> None:
        """Write the variable as it is after this time-step."""
        rows = self.rows("r+")
        value = self.state.read()
        if self._count < len(rows):
            rows[self._count] = value
        self._count += 1


@implements(proc=Relay, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyRelayModel(PyLoihiProcessModel):  # type: ignore[misc]
    """Relay on the CPU."""

    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        shape = (proc_params["delay"], *proc_params["shape"])
        self._held = list(np.zeros(shape, np.int32))

    def run_spk(self) -> None:
        """Send the oldest, keep the newest."""
        self._held.append(self.a_in.recv())
        self.s_out.send(self._held.pop(0))


@implements(proc=StateReader, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyStateReaderModel(PyLoihiProcessModel):  # type: ignore[misc]
    """StateReader on the CPU."""

    ref: PyRefPort = LavaPyType(PyRefPort.VEC_DENSE, np.int32)
    out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self._value = np.zeros(proc_params["shape"], np.int32)

    def _due(self, later: int) -> bool:
        phase, interval = self.proc_params["phase"], self.proc_params["interval"]
        return bool((self.time_step - 1 - later) % interval == phase)

    def run_spk(self) -> None:
        """Send what was read, at the time at which it is waited for."""
        if self._due(1) and self.time_step > 1:
            self.out.send(self._value)

    def post_guard(self) -> bool:
        """Whether the variable is to be read after this time-step."""
        return self._due(-self.proc_params["early"])

    def run_post_mgmt(self) -> None:
        """Read the variable as it is after this time-step."""
        self._value = self.ref.read()


@implements(proc=ValueRecorder, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyValueRecorderModel(_PyFileModel):
    """ValueRecorder on the CPU."""

    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self._count = 0

    def run_spk(self) -> None:
        """Write what arrives, if this time-step is one at which something does."""
        now = (self.time_step - 1) % self.proc_params["interval"]
        if now != self.proc_params["phase"] or self.time_step == 1:
            return
        rows, value = self.rows("r+"), self.a_in.recv()
        if self._count < len(rows):
            # 24 bits arrive from a chip without their sign
            rows[self._count] = (value.astype(np.int32) << 8) >> 8
        self._count += 1

"""The chip's neuron as a node of NIR, and back.

NIR's neurons are differential equations. A step of the chip is their forward Euler step of
length dt, with v and u divided by 64, so that weights, biases and thresholds are the mantissas
themselves:

    CubaLIF   I += dt/tau_syn * (w_in*S - I);   v += dt/tau_mem * (v_leak - v + r*I)
    LIF       v += dt/tau * (v_leak - v + r*S)
    IF        v += r*S      (no Euler step: NIR's equation is dv/dt = R*I; with r = 1 a spike adds
                             its weight whole, as snnTorch and others read the node)

Hence tau_syn = dt*4096/iDecay with w_in = tau_syn/dt, and tau_mem = dt*4096/vDecay with
r = tau_mem/dt. Where vDecay is 0 and NIR's node has a leak, tau_mem is NO_LEAK steps.
"""

from __future__ import annotations

from typing import Any, Literal

import nir
import numpy as np

from compiler.ir.chip import CubaFields
from compiler.ir.geometry import Array

Integrator = Literal["IF", "LIF"]
"""What stands for a neuron without leak and without memory of the current."""

DT = 1e-4
"""Length of a time-step in seconds: what snnTorch 1.0.0 assumes (import_nir.py, dt)."""

NO_LEAK = 2.0**30
"""Time constant, in steps, of a neuron that leaks nothing: 1 - 1/NO_LEAK is 1 in float32."""

SCALE = 4096
_TOLERANCE = 1e-3


def neuron_node(
    neuron: CubaFields, shape: tuple[int, ...], integrator: Integrator, bias: Array | None
) -> nir.NIRNode:
    """The node of a layer of `shape`; `bias` broadcasts to it and enters behind the current.

    Only a neuron for which `bias_behind_current` holds may be given a bias: NIR's bias of a
    synapse passes through the current first.
    """

    def full(value: Any) -> Array:
        return np.ascontiguousarray(np.broadcast_to(np.float32(value), shape))

    firing = {"v_threshold": full(neuron.v_th_mant), "v_reset": full(0)}
    r = NO_LEAK if neuron.v_decay == 0 else SCALE / neuron.v_decay
    if bias_behind_current(neuron):
        w_in = SCALE / neuron.i_decay
        leak = full(0) if bias is None else full(np.asarray(bias, np.float64) * r)
        return nir.CubaLIF(
            tau_syn=full(DT * w_in), tau_mem=full(DT * r), r=full(r), v_leak=leak,
            w_in=full(w_in), **firing,
        )  # fmt: skip
    if neuron.v_decay or integrator == "LIF":
        return nir.LIF(tau=full(DT * r), r=full(r), v_leak=full(0), **firing)
    return nir.IF(r=full(1), **firing)


def bias_behind_current(neuron: CubaFields) -> bool:
    """Whether the current has a memory, which a synapse's bias must not pass through."""
    return neuron.i_decay != SCALE


class Trouble(ValueError):
    """What a node says that the chip's neuron cannot do: (found, allowed, remedy)."""

    def __init__(self, found: str, allowed: str, remedy: str) -> None:
        self.words = (found, allowed, remedy)
        super().__init__(*self.words)


LEAKY = (nir.LIF, nir.CubaLIF, nir.LI, nir.CubaLI)
SPIKING = (nir.IF, nir.LIF, nir.CubaLIF)
SILENT = (nir.I, nir.LI, nir.CubaLI)


def decays(node: nir.NIRNode, dt: float) -> tuple[int, int]:
    """(iDecay, vDecay) of a neuron node for steps of dt seconds.

    Raises Trouble for time constants that are no multiple of 1/4096 a step.
    """
    i_decay = SCALE
    if isinstance(node, (nir.CubaLIF, nir.CubaLI)):
        i_decay = _decay("tau_syn", _one("tau_syn", node.tau_syn), dt)
    if isinstance(node, (nir.CubaLIF, nir.CubaLI)):
        return i_decay, _decay("tau_mem", _one("tau_mem", node.tau_mem), dt)
    if isinstance(node, LEAKY):
        return i_decay, _decay("tau", _one("tau", node.tau), dt)
    return i_decay, 0


def gain(node: nir.NIRNode, dt: float) -> float:
    """What one unit of weight adds to v in a step; exactly 1.0 where it is 1 but for rounding."""
    value = _one("r", node.r)
    if isinstance(node, (nir.CubaLIF, nir.CubaLI)):
        value *= dt / _one("tau_mem", node.tau_mem)
        value *= _one("w_in", node.w_in) * dt / _one("tau_syn", node.tau_syn)
    elif isinstance(node, LEAKY):
        value *= dt / _one("tau", node.tau)
    return 1.0 if abs(value - 1) < 1e-6 else value


def leak_bias(node: nir.NIRNode, dt: float) -> Array | None:
    """What v_leak adds to v in a step, float64 in the node's shape; None where it is 0."""
    if not isinstance(node, LEAKY) or not np.any(node.v_leak):
        return None
    tau = node.tau_mem if isinstance(node, (nir.CubaLIF, nir.CubaLI)) else node.tau
    added: Array = np.asarray(node.v_leak, np.float64) * dt / _one("tau", tau)
    return added


def threshold(node: nir.NIRNode) -> float:
    """The threshold of a spiking node; raises Trouble where it resets to another value than 0."""
    if np.any(node.v_reset):
        found = f"v_reset up to {float(np.abs(node.v_reset).max()):g}"
        raise Trouble(found, "v_reset 0", "shift voltages and threshold by the reset value")
    return _one("v_threshold", node.v_threshold)


def _decay(what: str, tau: float, dt: float) -> int:
    """4096 * dt / tau as the chip's integer."""
    exact = SCALE * dt / tau if tau else np.inf
    value = round(exact) if np.isfinite(exact) else -1
    if abs(exact - value) > _TOLERANCE or not 0 <= value <= SCALE:
        found = f"{what} = {tau:g} s, a decay of {exact:g} / {SCALE} in a step of {dt:g} s"
        raise Trouble(found, f"whole numbers of 1/{SCALE}", "choose another time constant or dt")
    return int(value)


def _one(what: str, values: Array) -> float:
    """The one value that all neurons of the layer share."""
    flat = np.asarray(values, np.float64).reshape(-1)
    if not len(flat) or not np.all(flat == flat[0]):
        found = f"{what} from {flat.min():g} to {flat.max():g}" if len(flat) else f"no {what}"
        raise Trouble(found, "one value a layer", "share the parameter among the layer's neurons")
    return float(flat[0])

"""Whether Lava can reach a Loihi 2 from here, and what is missing where it cannot."""

from __future__ import annotations

import importlib.util

from compiler.errors import CompilerError, EnvironmentProblem, one_problem

EXTENSION_MODULE = "lava.utils.loihi2_profiler"
"""What lava.utils.loihi.is_installed looks for (lava-nc 0.10.0, lava/utils/loihi.py:108-120)."""

HOW_TO_GET_IT = (
    "it is for members of the Intel Neuromorphic Research Community (INRC) alone: join through "
    "http://neuromorphic.intel.com or inrc_interest@intel.com; members find the package and its "
    "installation under 'Get started with the Lava extension for Loihi' on the INRC's pages, and "
    "run on the INRC's cloud or on a board lent to them"
)


def extension_installed() -> bool:
    """Whether Intel's Lava extension for Loihi (lava-loihi) can be imported."""
    try:
        return importlib.util.find_spec(EXTENSION_MODULE) is not None
    except ModuleNotFoundError:
        return False


def unavailable() -> CompilerError:
    """The error that says why nothing runs on Loihi 2 from here, and what does."""
    if extension_installed():
        return one_problem(
            EnvironmentProblem,
            "this release does not drive a Loihi 2",
            "--backend loihi2",
            "Intel's Lava extension for Loihi, with which this program has never been run",
            "reference or lava, whose spikes are compared with each other",
            "load the file with lava.lib.dl.netx.hdf5.Network as examples/run_in_lava.py does, "
            "put the extension's spike adapters in front of it and run it with Loihi2HwCfg",
        )
    return one_problem(
        EnvironmentProblem,
        "there is no way to a Loihi 2 from here",
        "--backend loihi2",
        f"no module {EXTENSION_MODULE}, which Intel's Lava extension for Loihi (lava-loihi, "
        "with nxcore) brings",
        "that extension in the release that fits lava-nc 0.10.0, and a Loihi 2 system",
        f"{HOW_TO_GET_IT}. --backend reference and --backend lava run the same file on this CPU",
    )

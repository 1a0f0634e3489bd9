"""lava-dl's SLAYER, imported without what it prints and without what it does not need here.

Every module of lava-dl that the package uses comes through here: an import beside this one
would run first and bring the noise back.
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import types
import warnings

_UNUSED = "lava.lib.dl.slayer.object_detection"
"""Loads torchvision's detection models, which takes seconds; nothing here needs it."""

_absent = _UNUSED not in sys.modules
sys.modules.setdefault(_UNUSED, types.ModuleType(_UNUSED))

with (
    contextlib.redirect_stdout(io.StringIO()),
    contextlib.redirect_stderr(io.StringIO()),
    warnings.catch_warnings(),
):
    warnings.simplefilter("ignore")
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    from lava.lib.dl import slayer
    from lava.lib.dl.slayer.neuron.cuba import SCALE_RHO_MULT, TAU_RHO_MULT
    from lava.lib.dl.slayer.utils.quantize import quantize

if _absent:
    del sys.modules[_UNUSED]

__all__ = ["SCALE_RHO_MULT", "TAU_RHO_MULT", "quantize", "slayer"]

"""Cores, memory and axons of a network on a named chip, and the chip's design rules."""

from compiler.resources.chips import CHIP_NAMES, CHIPS, Chip
from compiler.resources.estimate import LayerUse, ResourceReport, estimate, require
from compiler.resources.loads import CoreLoads, core_loads
from compiler.resources.partition import CoreUse
from compiler.resources.rows import resource_rows
from compiler.resources.rules import RULES, Violation
from compiler.resources.traffic import message_traffic

__all__ = [
    "CHIPS",
    "CHIP_NAMES",
    "RULES",
    "Chip",
    "CoreLoads",
    "CoreUse",
    "LayerUse",
    "ResourceReport",
    "Violation",
    "core_loads",
    "estimate",
    "message_traffic",
    "require",
    "resource_rows",
]

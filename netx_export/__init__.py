"""ChipGraph <-> model.net: the only home of NetX keys and axis orders."""

from netx_export.deployment import Deployment, Readout, deployment_of
from netx_export.equality import differences
from netx_export.padding import symmetric_padding
from netx_export.reader import NetxFile, read_netx
from netx_export.writer import prepared, write_netx

__all__ = [
    "Deployment",
    "NetxFile",
    "Readout",
    "deployment_of",
    "differences",
    "prepared",
    "read_netx",
    "symmetric_padding",
    "write_netx",
]

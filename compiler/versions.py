"""Versions of the tools that decide the result."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from compiler import __version__

_PACKAGES = ("lava-dl", "lava-nc", "torch", "numpy", "h5py", "numba")


def tool_versions() -> dict[str, str]:
    """Name -> version of this compiler and of the packages it computes with."""
    versions = {"private-snn-compiler": __version__}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return versions

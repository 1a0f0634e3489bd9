"""Images for report.html, where they were asked for: they belong to what must not leave."""

from __future__ import annotations

from typing import Any

from compiler.ir.geometry import Array
from compiler.ir.synthetic import SyntheticSet
from compiler.run_folder import RunFolder
from compiler.sample import layer_rows, trace_sample

SYNTHETIC = "synthetic.safetensors"


def read_pictures(folder: RunFolder) -> dict[str, Any]:
    """What `--pictures` adds to report.html, from the files of a finished compile.

    sheet: PNG bytes, some synthetic images of every class; input: the sample's input spikes
    over the steps, as compiler.sample.layer_rows gives them.
    """
    from compiler.store import load
    from netx_export import read_netx

    chip = read_netx(folder.model).graph
    synthetic = load(SyntheticSet, folder.stage_file(SYNTHETIC))
    return {
        "input": layer_rows(trace_sample(chip, synthetic).input),
        "sheet": synthetic_sheet(synthetic, chip.class_names, chip.layers[-1].neurons),
    }


def synthetic_sheet(synthetic: SyntheticSet, names: tuple[str, ...], classes: int) -> bytes:
    """A PNG of synthetic images, each in the column of the class that its target favours."""
    from audit.sheets import contact_sheet

    labels: Array = synthetic.soft_targets_nk.argmax(1)
    named = names if len(names) == classes else tuple(str(k) for k in range(classes))
    images = synthetic.pixels(slice(None))
    return contact_sheet({"synthetic": (images, labels)}, named, "synthetic images by class")

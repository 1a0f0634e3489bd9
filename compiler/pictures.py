"""Images for report.html, where they were asked for: they belong to what must not leave."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from compiler.ir.geometry import Array
from compiler.ir.synthetic import SyntheticSet
from compiler.run_folder import RunFolder
from compiler.sample import layer_rows

if TYPE_CHECKING:
    from compiler.judge import Judge

SAMPLE, SYNTHETIC = "sample.safetensors", "synthetic.safetensors"


def keep_sample(folder: RunFolder, judge: Judge) -> None:
    """Keep the image that report.html follows through the chip, in `private`."""
    from safetensors.numpy import save

    from compiler.store import write_bytes

    image = np.ascontiguousarray(judge.images_nchw[:1], np.float32)
    write_bytes(folder.stage_file(SAMPLE), save({"image_nchw": image}))


def read_pictures(folder: RunFolder) -> dict[str, Any]:
    """What `--pictures` adds to report.html, from the files of a finished compile.

    sheet: PNG bytes, some synthetic images of every class; input: the input's spikes over the
    steps, as compiler.sample.layer_rows gives them.
    """
    from safetensors.numpy import load_file

    from compiler.store import load
    from netx_export import read_netx
    from sim.reference import trace

    image_nchw = load_file(folder.stage_file(SAMPLE))["image_nchw"]
    chip = read_netx(folder.model).graph
    synthetic = load(SyntheticSet, folder.stage_file(SYNTHETIC))
    return {
        "input": layer_rows(trace(chip, image_nchw).input),
        "sheet": synthetic_sheet(synthetic, chip.class_names, chip.layers[-1].neurons),
    }


def synthetic_sheet(synthetic: SyntheticSet, names: tuple[str, ...], classes: int) -> bytes:
    """A PNG of synthetic images, each in the column of the class that its target favours."""
    from audit.sheets import contact_sheet

    labels: Array = synthetic.soft_targets_nk.argmax(1)
    named = names if len(names) == classes else tuple(str(k) for k in range(classes))
    images = synthetic.pixels(slice(None))
    return contact_sheet({"synthetic": (images, labels)}, named, "synthetic images by class")

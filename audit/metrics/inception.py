"""Inception features for FID and KID, where the user gives the weights.

The weights are those of torch-fidelity's `inception-v3-compat`, the network that published FID
values use, as a .safetensors file with the same names. The user makes it once, from
torch-fidelity's weights-inception-2015-12-05-6726825d.pth:

    import torch; from safetensors.torch import save_file
    save_file(torch.load("weights-inception-2015-12-05-6726825d.pth", weights_only=True),
              "inception.safetensors")
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from compiler.errors import DataError, one_problem
from compiler.ir.geometry import Array

FEATURES = 2048
BATCH = 32
_FIRST = "Conv2d_1a_3x3.conv.weight"


class InceptionFeatures:
    """From images (N, C, H, W) in [0, 1], C 1 or 3, to the 2,048 features of FID."""

    def __init__(self, file: Path) -> None:
        self.network = _network(file)

    def __call__(self, images_nchw: Array) -> Array:
        """Return float32 (N, 2048); images are rounded to 8 bits, grey ones repeated thrice."""
        import torch

        grey = images_nchw.shape[1] == 1
        coloured = np.repeat(images_nchw, 3, axis=1) if grey else images_nchw
        pixels = torch.from_numpy(np.rint(255 * coloured).astype(np.uint8))
        with torch.inference_mode():
            parts = [self.network(part)[0] for part in torch.split(pixels, BATCH)]
        features: Array = torch.cat(parts).numpy()
        return features


def _network(file: Path) -> Any:
    """The extractor with the file's weights.

    torch-fidelity reads its weights with torch.load alone, which unpickles. So the tensors are
    read from safetensors first and handed over in a temporary file that this function wrote.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors = load(file.read_bytes())
        if _FIRST not in tensors:  # importing and building the network take seconds
            raise RuntimeError(f"no tensor {_FIRST}")
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        with tempfile.TemporaryDirectory() as folder:
            own = Path(folder) / "inception.pth"
            torch.save(tensors, own)
            return FeatureExtractorInceptionV3("inception-v3-compat", [str(FEATURES)], str(own))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise one_problem(
            DataError,
            "the Inception weights cannot be used",
            str(file),
            str(error).splitlines()[0],
            "torch-fidelity's inception-v3-compat weights, as .safetensors",
            "make the file as audit/metrics/inception.py says, or leave --inception out",
        ) from error

"""Inception features from the user's own file; the published weights are not at hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from audit.metrics.inception import FEATURES, InceptionFeatures
from compiler.errors import DataError


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(3)}, tmp_path / "small.safetensors")
    (tmp_path / "weights.pth").write_bytes(b"\x80\x04 a pickle, perhaps")
    for name in ("small.safetensors", "weights.pth", "none.safetensors"):
        with pytest.raises(DataError) as raised:
            InceptionFeatures(tmp_path / name)
        assert "inception-v3-compat" in raised.value.problems[0].allowed


@pytest.mark.slow
def test_features_are_those_of_the_network_in_the_file(tmp_path: Path, monkeypatch: Any) -> None:
    """torch-fidelity's network with random weights, given as safetensors, against itself."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    torch.manual_seed(0)
    with monkeypatch.context() as patch:
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        torch.save({}, tmp_path / "empty.pth")
        network = FeatureExtractorInceptionV3("x", [str(FEATURES)], str(tmp_path / "empty.pth"))
    save_file(network.state_dict(), tmp_path / "inception.safetensors")
    images = np.random.default_rng(0).random((3, 1, 28, 28), np.float32)
    found = InceptionFeatures(tmp_path / "inception.safetensors")(images)
    pixels = torch.from_numpy(np.rint(255 * np.repeat(images, 3, 1)).astype(np.uint8))
    expected = network(pixels)[0].numpy()
    assert found.shape == (3, FEATURES)
    assert np.ptp(expected) > 0
    np.testing.assert_allclose(found, expected, rtol=1e-5)

"""Named settings of the spike-based training, as `--recipe` takes them.

A recipe is what it changes of the defaults, in the tables of CompileConfig; settings of a TOML
file and other flags go over it. What each hides from an attacker and what it costs is measured
in docs/results.md: the names promise nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

DEFAULT_RECIPE = "distill"

RECIPES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        # the defaults: a few epochs that follow the ANN's answers and its layers' activations
        DEFAULT_RECIPE: {},
        # PrivateSNN (Kim et al., AAAI 2022): Adam at 1e-4 (default of its code), 20 epochs with
        # a tenth of the rate from 50 % and again from 70 % on, and the loss's share and
        # temperature (from memory, unverified); the surrogate of its code, 0.3 max(0, 1 - |d|)
        "paper": {
            "encrypt": {
                "epochs": 20,
                "patience": 20,
                "learning_rate": 1e-4,
                "schedule": "steps",
                "surrogate": "linear",
                "surrogate_width": 1.0,
                "surrogate_height": 0.3,
                "distill_share": 0.7,
                "distill_temperature": 20.0,
                "hidden_weight": 0.0,
            }
        },
        # leak and slow currents, a loss on what the weights say if they are read as an ordinary
        # ReLU network, and little that holds the layers' rates near the ANN's activations
        "adversarial": {
            "encrypt": {
                "epochs": 8,
                "patience": 8,
                "learning_rate": 3e-4,
                "current_decay": 2048,
                "voltage_decay": 512,
                "hidden_weight": 0.1,
                "reconversion_weight": 0.5,
            }
        },
    }
)

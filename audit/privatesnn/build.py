"""From the ANN to the networks that are attacked; every stage is kept in DIR/private/privatesnn.

Order: load, synthesize, convert, train without and with distillation, a random network. A stage
is read again where nothing that it follows from has changed; a training goes on after its last
epoch.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from audit.cache import Cache, code_key
from audit.privatesnn.balance import balanced, unbalanced
from audit.privatesnn.network import PrivateSnn, with_weights, without_biases
from audit.privatesnn.settings import MEAN, STD, Settings, Training
from audit.privatesnn.training import Checkpoint, trained
from audit.subjects import random_weights
from compiler.errors import ModelError, one_problem
from compiler.frontend import load_model
from compiler.ir.ann import AnnGraph, Conv2d, Dense
from compiler.ir.geometry import Array, frozen
from compiler.ir.synthetic import SyntheticSet
from compiler.presets import Preset
from compiler.run_folder import key_of
from compiler.store import content_of
from compiler.synthesis import synthesize

if TYPE_CHECKING:
    from audit.measure import Watcher

KEPT = Path(__file__).parent / "weights"
"""Networks without biases that are kept with the package, NAME.safetensors for preset NAME."""

Arrays = tuple[dict[str, Array], dict[str, Any]]


@dataclass(frozen=True)
class Built:
    """The networks of one run.

    undistilled, encrypted: trained without and with distillation; random: the same shape with
    random weights, balanced on the same images; courses: losses and agreement of every epoch;
    key: hash of all that they follow from.
    """

    settings: Settings
    ann: AnnGraph
    synthetic: SyntheticSet
    converted: PrivateSnn
    undistilled: PrivateSnn
    encrypted: PrivateSnn
    random: PrivateSnn
    courses: dict[str, dict[str, list[float]]]
    key: str


def load_ann(preset: Preset, file: Path | None, arch: str | None) -> AnnGraph:
    """The preset's ANN without biases, from `file` or as kept with the package.

    With an `arch` that is not the preset's it is the network of `file`, whatever its shape.
    Raises ModelError where none is kept, or where it is none of PrivateSNN's kind.
    """
    path = file or KEPT / f"{preset.name}.safetensors"
    if file is None and not path.is_file():
        raise one_problem(
            ModelError,
            "no network without biases is kept for this preset",
            preset.name,
            "no such file",
            ", ".join(sorted(kept.stem for kept in KEPT.glob("*.safetensors"))),
            "train one, then name it with --ann: python examples/train_ann.py --no-bias "
            f"--mean {MEAN} --std {STD} --arch {arch or preset.architecture} --data {preset.data} "
            "--out FILE.safetensors",
        )
    own = arch in (None, preset.architecture)
    graph = load_model(
        path,
        arch=arch or preset.architecture,
        mean=[MEAN],
        std=[STD],
        input_shape=preset.input_shape if own else None,
        class_names=preset.class_names if own else (),
        name=preset.name if own else path.stem,
    )
    return without_biases(graph)


class Builder:
    """Makes what is missing, stage by stage."""

    def __init__(self, folder: Path, settings: Settings, seed: int, watcher: Watcher) -> None:
        self.cache = Cache(folder)
        self.settings, self.seed, self.watcher = settings, seed, watcher

    def build(self, ann: AnnGraph) -> Built:
        """All networks of one run."""
        content = hashlib.sha256(content_of(ann)).hexdigest()
        key = key_of(code_key("privatesnn"), content, asdict(self.settings), self.seed)
        synthetic = self._synthetic(ann, key)
        images = synthetic.pixels(synthetic.training)[: self.settings.threshold_images]
        converted, _ = self._balanced("converted", "Converting", key, ann, images)
        networks, courses = {}, {}
        for name, share in (
            ("undistilled", 0.0),
            ("encrypted", self.settings.training.distillation),
        ):
            setting = replace(self.settings.training, distillation=share)
            networks[name], courses[name] = self._trained(name, key, converted, synthetic, setting)
        anew = random_weights(ann, self.seed)
        random, _ = self._balanced("random", "Balancing random weights", key, anew, images)
        return Built(self.settings, ann, synthetic, converted, networks["undistilled"],
                     networks["encrypted"], random, courses, key)  # fmt: skip

    def _synthetic(self, ann: AnnGraph, key: str) -> SyntheticSet:
        config = self.settings.synthesis

        def make(progress: Any) -> Arrays:
            made = synthesize(ann, config, self.seed, progress)
            return {name: getattr(made, name) for name in _SETS}, {}

        arrays, _ = self._kept("synthetic", "Synthetic images", key, make)
        return SyntheticSet(
            **{name: frozen(arrays[name], arrays[name].dtype) for name in _SETS},
            held_out=config.held_out,
        )

    def _balanced(
        self, name: str, title: str, key: str, graph: AnnGraph, images: Array
    ) -> tuple[PrivateSnn, dict[str, Any]]:
        def make(progress: Any) -> Arrays:
            steps = self.settings.timesteps
            if not len(images):
                return _arrays(unbalanced(graph, steps)), {}
            return _arrays(balanced(graph, images, steps, self.seed, progress)), {}

        return self._network(graph, *self._kept(name, title, key, make))

    def _trained(
        self,
        name: str,
        key: str,
        converted: PrivateSnn,
        synthetic: SyntheticSet,
        settings: Training,
    ) -> tuple[PrivateSnn, dict[str, Any]]:
        def make(progress: Any) -> Arrays:
            made = trained(converted, synthetic, settings, self.seed, progress, checkpoint)
            course = {"losses": list(made.losses), "agreement": list(made.agreement)}
            return _arrays(made.network), course

        path = self.cache.folder / f"{name}.checkpoint"
        checkpoint = Checkpoint(path, key_of(key, name))
        title = f"Training {'with' if settings.distillation else 'without'} distillation"
        found = self._network(converted.graph, *self._kept(name, title, key, make))
        path.unlink(missing_ok=True)
        return found

    def _network(
        self, graph: AnnGraph, arrays: dict[str, Array], facts: dict[str, Any]
    ) -> tuple[PrivateSnn, dict[str, Any]]:
        thresholds = tuple(float(value) for value in arrays[_THRESHOLDS])
        return PrivateSnn(with_weights(graph, arrays), thresholds, self.settings.timesteps), facts

    def _kept(self, name: str, title: str, key: str, make: Callable[[Any], Arrays]) -> Arrays:
        self.watcher.begin(title)
        started = time.perf_counter()
        fresh = partial(make, self.watcher.progress)
        arrays, facts, known = self.cache.arrays(name, key_of(key, name), fresh)
        self.watcher.end(time.perf_counter() - started, "already there" if known else "")
        return arrays, facts


_SETS = ("images_nchw", "soft_targets_nk", "logits_nk")
_THRESHOLDS = "thresholds"


def _weights(graph: AnnGraph) -> dict[str, Array]:
    return {
        layer.name: layer.weight for layer in graph.layers if isinstance(layer, (Conv2d, Dense))
    }


def _arrays(network: PrivateSnn) -> dict[str, Array]:
    return {**_weights(network.graph), _THRESHOLDS: np.array(network.thresholds, np.float64)}

"""What each stage does: read the files of the stages before it, call one part, write its own."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from compiler import __version__
from compiler.config import CompileConfig
from compiler.errors import AgreementError, Problem
from compiler.ir.ann import AnnGraph, InputAffine
from compiler.ir.chip import ChipGraph
from compiler.ir.snn import Encoding, SnnGraph
from compiler.ir.synthetic import SyntheticSet
from compiler.parts import parts
from compiler.request import CompileRequest, Model
from compiler.run_folder import RunFolder, key_of, proving
from compiler.store import load, save, write_bytes

ANN, LOWERED, SYNTHETIC = "ann.safetensors", "lowered.safetensors", "synthetic.safetensors"
LOWERED_POOLS, MATCHED = "lowered_pools.safetensors", "matched.safetensors"
CONVERTED, ENCRYPTED, CHIP = "converted.safetensors", "encrypted.safetensors", "chip.safetensors"
CHECKPOINT, ANSWERS = "encrypt.checkpoint", "evaluate.json"
REPORT_FILES = ("report.json", "resources.json", "report.html")
_CLEARLY = 0.9
"""Pools are left unfolded for the synthesis where that takes less than this of the work."""

SLAYER_SAMPLES = 16
"""Held-out synthetic images that stock SLAYER is compared on; it is slow and memory-hungry."""


class Tell(Protocol):
    """How a stage speaks to whoever watches."""

    def progress(self, done: int, total: int) -> None:
        """So much of the stage is done."""

    def note(self, text: str) -> None:
        """A line worth keeping on the screen."""


@dataclass(frozen=True)
class Run:
    """A request with its folder."""

    request: CompileRequest
    folder: RunFolder

    @property
    def config(self) -> CompileConfig:
        """Settings of the compile."""
        return self.request.config

    @property
    def encoding(self) -> Encoding:
        """The input code."""
        code = self.config.encoding
        return Encoding(code.code, self.config.seed, code.x_min)  # type: ignore[arg-type]

    def ann(self) -> AnnGraph:
        """The network as given."""
        return load(AnnGraph, self.folder.stage_file(ANN))

    def lowered(self) -> AnnGraph:
        """The network as convolution, dense and ReLU alone."""
        return load(AnnGraph, self.folder.stage_file(LOWERED))

    def lowered_pools(self) -> AnnGraph | None:
        """The same where every pool has neurons of its own; None where that is no other network."""
        path = self.folder.stage_file(LOWERED_POOLS)
        return load(AnnGraph, path) if path.is_file() else None

    def matched(self) -> AnnGraph:
        """The lowered network that the spiking network was converted from, layer by layer."""
        return load(AnnGraph, self.folder.stage_file(MATCHED))

    def synthetic(self) -> SyntheticSet:
        """The synthetic images."""
        return load(SyntheticSet, self.folder.stage_file(SYNTHETIC))

    def converted(self) -> SnnGraph:
        """The spiking network before training."""
        return load(SnnGraph, self.folder.stage_file(CONVERTED))

    def encrypted(self) -> SnnGraph:
        """The spiking network after training."""
        return load(SnnGraph, self.folder.stage_file(ENCRYPTED))

    def chip(self) -> ChipGraph:
        """The integers before they are written as NetX."""
        return load(ChipGraph, self.folder.stage_file(CHIP))


Results = dict[str, Any]


def load_model_step(run: Run, tell: Tell) -> Results:
    """Read the ANN."""
    graph = _read_model(run.request.model)
    save(graph, run.folder.stage_file(ANN))
    return {
        "name": graph.name,
        "input_shape": list(graph.input_shape),
        "classes": graph.classes,
        "parameters": graph.parameters,
    }


def _read_model(model: Model) -> AnnGraph:
    if model.preset:
        from compiler.presets import load_preset

        return load_preset(model.preset)
    from compiler.frontend import load_model

    return load_model(
        model.spec or model.module,
        arch=model.arch,
        mean=model.mean,
        std=model.std,
        layout=model.layout,  # type: ignore[arg-type]
        input_shape=model.input_shape,
        class_names=model.class_names,
        name=model.name,
    )


def lower_step(run: Run, tell: Tell) -> Results:
    """Rewrite the ANN, check every pass, and refuse what a named chip cannot hold."""
    from compiler import fit
    from compiler.passes import check_classifier, lower, pools_as_neurons

    graph = run.ann()
    lowered = lower(graph)
    check_classifier(lowered.graph, run.config.seed)
    pools = pools_as_neurons(graph, lowered.graph)
    target, config = run.request.target, run.config.convert
    form, offered = lowered.graph, pools.graph if pools is not None else None
    if target:
        form, offered = fit.forms_that_fit(form, offered, target, config)
    if form is not lowered.graph:
        tell.note(f"pools are given neurons: folded, {target} could not hold the network")
    save(form, run.folder.stage_file(LOWERED))
    run.folder.stage_file(LOWERED_POOLS).unlink(missing_ok=True)
    if offered is not None:
        save(offered, run.folder.stage_file(LOWERED_POOLS))
    asked, other = form, offered
    if config.pools == "neurons" and offered is not None:
        asked, other = offered, None
    doubts = [] if target else fit.chips_that_cannot_hold(asked, config.most_timesteps, other)
    for note in (*lowered.notes, *doubts):
        tell.note(note)
    checks = {LOWERED: lowered, LOWERED_POOLS: pools}
    return {
        "checks": [
            {"network": name.removesuffix(".safetensors"), **asdict(check)}
            for name, result in checks.items()
            if result is not None
            for check in result.checks
        ],
        "notes": list(lowered.notes),
    }


def synthesize_step(run: Run, tell: Tell) -> Results:
    """Make images from the ANN alone."""
    from compiler.synthesis import synthesize

    graph = _quicker(run.lowered(), run.lowered_pools())
    synthetic = synthesize(graph, run.config.synthesize, run.config.seed, tell.progress)
    save(synthetic, run.folder.stage_file(SYNTHETIC))
    hit = synthetic.logits_nk.argmax(1) == synthetic.soft_targets_nk.argmax(1)
    return {"images": len(hit), "held_out": synthetic.held_out, "targets_met": float(np.mean(hit))}


def _quicker(folded: AnnGraph, neurons: AnnGraph | None) -> AnnGraph:
    """Of two forms of one function the one with clearly fewer multiplications."""
    from sim.synops import ann_macs

    if neurons is None:
        return folded
    costs = [sum(ann_macs(graph).values()) for graph in (folded, neurons)]
    return neurons if costs[1] < _CLEARLY * costs[0] else folded


def encrypt_step(run: Run, tell: Tell) -> Results:
    """Train with SLAYER blocks, going on from a checkpoint of the same settings."""
    from compiler.encryption.checkpoint import Checkpoints
    from compiler.helpers import encrypt_together

    path = run.folder.stage_file(CHECKPOINT)
    made = [run.folder.records[stage].files for stage in ("synthesize", "convert")]
    # memory_gb may change on the way: it decides the order of sums alone
    settings = asdict(run.config.encrypt) | {"memory_gb": None}
    key = key_of(__version__, made, settings, run.config.seed)
    checkpoints = Checkpoints(path, key)
    encryption = encrypt_together(
        run.request.world,
        {"progress": tell.progress, "checkpoint": checkpoints.write},
        graph=run.matched(),
        network=run.converted(),
        synthetic=run.synthetic(),
        config=run.config.encrypt,
        seed=run.config.seed,
        resume=checkpoints.read(),
    )
    save(encryption.graph, run.folder.stage_file(ENCRYPTED))
    path.unlink(missing_ok=True)
    return {
        "recipe": run.config.encrypt.recipe,
        "best_epoch": encryption.best_epoch,
        "epochs": [asdict(epoch) for epoch in encryption.epochs],
    }


def quantize_step(run: Run, tell: Tell) -> Results:
    """Round to the chip's integers."""
    from compiler.quantization import quantize, step_bounds
    from compiler.quantization.quantize import clipped_share

    encrypted = run.encrypted()
    chip = quantize(encrypted)
    save(chip, run.folder.stage_file(CHIP))
    clipped = {layer.name: clipped_share(layer) for layer in encrypted.layers}
    bounds = [
        {
            "layer": bound.layer,
            "worst_sum": bound.worst,
            "accumulator_limit": bound.accumulator_limit,
            "fits_accumulator": bound.fits_accumulator,
            "state_share": bound.state_share,
        }
        for bound in step_bounds(chip)
    ]
    shares = {name: {"weights": w, "biases": b} for name, (w, b) in clipped.items()}
    return {"bounds": bounds, "clipped_share": shares}


def export_step(run: Run, tell: Tell) -> Results:
    """Write the network as NetX, read it back and compare; write the same as NIR.

    In private/: DIR/model.net appears once it is proven.
    """
    from compiler.versions import tool_versions
    from netx_export import deployment_of, differences, prepared, read_netx, write_netx
    from netx_export.nir_writer import write_nir

    chip, file = run.chip(), run.folder.unproven
    mean, std = _normalisation(run.ann())
    deployment = deployment_of(
        chip, seed=run.config.seed, mean=mean, std=std, versions=tool_versions()
    )
    write_netx(chip, file, deployment)
    with proving(run.folder):
        back = read_netx(file)
        found = differences(prepared(chip), back.graph)
        if found:
            problems = [Problem(file.name, text, "the same", "report a bug") for text in found]
            raise AgreementError("what was read back is not what was written", problems)
    write_nir(back.graph, run.folder.unproven_nir, back.deployment)
    return {"layer_hash": back.deployment.layer_hash if back.deployment else ""}


def remove_outputs(run: Run) -> None:
    """Outputs of an earlier compile in this folder would tell of another network."""
    folder = run.folder
    reports = (folder.path / name for name in REPORT_FILES)
    split = (folder.device, folder.host)
    models = (folder.model, folder.model_nir, folder.unproven, folder.unproven_nir)
    for path in (*models, folder.rejected, *split, *reports):
        path.unlink(missing_ok=True)


def _normalisation(graph: AnnGraph) -> tuple[tuple[float, ...], tuple[float, ...]]:
    first = graph.layers[0]
    if isinstance(first, InputAffine):
        return tuple(first.mean.tolist()), tuple(first.std.tolist())
    return (), ()


def verify_step(run: Run, tell: Tell) -> Results:
    """Prove the file: SLAYER, the integer simulator and Lava, on held-out synthetic images.

    DIR/model.net and model.nir appear when every spike was the same.
    """
    from compiler.verification import agreement_row, verify_lava, verify_slayer

    synthetic, file = run.synthetic(), run.folder.unproven
    images = synthetic.pixels(synthetic.validation)
    count = run.request.lava_samples
    of_slayer, of_lava = parts(tell.progress, (1, 1 + count / 2 if count else 0))
    lava = None
    with proving(run.folder):
        slayer = verify_slayer(run.encrypted(), file, images[:SLAYER_SAMPLES])
        of_slayer(1, 1)
        if count:
            lava, _ = verify_lava(file, images[:count], progress=of_lava)
    _give_name(file, run.folder.model)
    _give_name(run.folder.unproven_nir, run.folder.model_nir)
    return {
        "slayer_vs_reference": agreement_row(slayer),
        "reference_vs_lava": agreement_row(lava),
    }


def _give_name(unproven: Path, name: Path) -> None:
    """Copy the file; one that was proven before, on fewer samples, is left as it is."""
    content = unproven.read_bytes()
    if not name.is_file() or name.read_bytes() != content:
        write_bytes(name, content)


def report_step(run: Run, tell: Tell) -> Results:
    """Gather everything into report.json, resources.json and report.html."""
    from compiler.gather import gather_report
    from compiler.report import write_report_files

    write_report_files(gather_report(run), run.folder.path)
    return {}


def peak_memory_bytes() -> int:
    """Largest resident memory of this process so far. Linux's getrusage counts its parent's too."""
    import resource

    status = Path("/proc/self/status")
    if status.exists():
        found = re.search(r"VmHWM:\s*(\d+) kB", status.read_text())
        if found:
            return int(found[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


Step = Callable[[Run, Tell], Results]

"""One compile as asked for, and what tells whether its model or its images have changed."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from compiler.config import CompileConfig
from compiler.distributed import World
from compiler.ir.geometry import Shape
from compiler.run_folder import file_hash
from sim.data_readers import ArrayImages


@dataclass(frozen=True)
class Model:
    """Where the ANN comes from: spec, preset or module; the rest as compiler.frontend takes it.

    module: a torch.nn.Module, which is never changed; it needs `input_shape`, (C, H, W).
    """

    spec: str | None = None
    preset: str | None = None
    arch: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    layout: str | None = None
    module: Any = None
    input_shape: Shape | None = None
    class_names: tuple[str, ...] = ()
    name: str | None = None


@dataclass(frozen=True)
class CompileRequest:
    """One compile.

    `evaluation` is a data set's specification or the labelled images themselves, None for
    none; `evaluation_optional`: it was not asked for, so that the compile goes on without it
    where its files are missing. `pictures`: report.html shows synthetic images.
    """

    model: Model
    out: Path
    config: CompileConfig = field(default_factory=CompileConfig)
    evaluation: str | ArrayImages | None = None
    evaluation_optional: bool = False
    samples: int | None = None
    lava_samples: int = 8
    target: str | None = None
    pictures: bool = False
    command: str = ""
    world: World = field(default_factory=World)


def model_key(model: Model) -> list[Any]:
    """What tells whether the model has changed: how it is read, and the hashes of its files.

    A factory or a module is new each time; whether it is the same network shows after `load`.
    """
    import uuid

    from compiler.presets import find_preset

    path = find_preset(model.preset).weights if model.preset else Path(model.spec or "")
    how = asdict(replace(model, module=None))
    if not path.is_file():
        return [how, uuid.uuid4().hex]
    beside: tuple[Path, ...] = ()
    if path.suffix.lower() == ".onnx":
        from compiler.frontend.external_data import external_files

        beside = external_files(path)
    return [how, *(file_hash(file) for file in (path, *beside))]


def evaluation_key(request: CompileRequest) -> list[Any]:
    """What tells whether the evaluation's images have changed: their name, or their content."""
    data = request.evaluation
    return [data.fingerprint if isinstance(data, ArrayImages) else data, request.samples]

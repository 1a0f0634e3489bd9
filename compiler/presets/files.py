"""The files of a trained network: weights and a model card."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from compiler.ir.geometry import Shape
from compiler.presets.settings import TrainingSettings
from compiler.store import write_bytes

if TYPE_CHECKING:
    from torch import nn


def save_network(
    module: nn.Module,
    file: Path,
    architecture: str,
    input_shape: Shape,
    card: str,
) -> None:
    """Write the state dict as safetensors, and `card` beside it as FILE.md."""
    import torch
    from safetensors.torch import save

    tensors = {
        name: tensor.detach().cpu().contiguous(memory_format=torch.contiguous_format)
        for name, tensor in module.state_dict().items()
    }
    about = {
        "architecture": architecture,
        "input_shape": ",".join(str(size) for size in input_shape),
    }
    write_bytes(file.with_suffix(".md"), card.encode())
    write_bytes(file, _ordered(save(tensors, metadata=about)))


def _ordered(content: bytes) -> bytes:
    """The same safetensors file with its metadata in order: the library shuffles them."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[8 + size :]


def model_card(
    title: str, facts: dict[str, str], settings: TrainingSettings, log: list[str]
) -> str:
    """Return a small model card in Markdown: facts, settings, last lines of the training log."""
    lines = [f"# {title}", ""]
    lines += [f"* {name}: {value}" for name, value in facts.items()]
    lines += ["", "Settings:", ""]
    lines += [f"* {name}: {value}" for name, value in asdict(settings).items()]
    lines += ["", "Last lines of the training log:", ""]
    lines += [f"    {line}" for line in log[-5:]]
    return "\n".join(lines) + "\n"

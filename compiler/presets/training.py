"""Training a named architecture on labelled images: the settings, the loop, the files written.

Used for the networks kept with this package and by examples/train_ann.py; the compile
itself never trains on images of the world.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from compiler.ir.geometry import Array, Shape

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


@dataclass(frozen=True)
class TrainingSettings:
    """How to train; every random choice follows from `seed`.

    optimizer: `adamw` with one cycle of the learning rate (its peak is learning_rate), or
    `sgd` with momentum 0.9 whose rate falls to a tenth after the `milestones`, fractions
    of all epochs. dropout: share of the inputs of every dense layer left out. flip: mirror
    half of the images. shift: largest random shift, in pixels, in each direction.
    average: decay of the running average of the weights that is returned; 0 for none.
    """

    epochs: int = 20
    batch: int = 128
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    milestones: tuple[float, ...] = ()
    label_smoothing: float = 0.0
    dropout: float = 0.0
    flip: bool = False
    shift: int = 0
    average: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Epoch:
    """One pass over the images: its number from 1, mean loss, training accuracy, seconds."""

    number: int
    epochs: int
    loss: float
    accuracy: float
    seconds: float

    def __str__(self) -> str:
        return (
            f"epoch {self.number}/{self.epochs}: loss {self.loss:.4f}, "
            f"training accuracy {self.accuracy:.2%}, {self.seconds:.0f} s"
        )


def train(
    module: nn.Module,
    images_nchw: Array,
    labels: Array,
    settings: TrainingSettings,
    report: Callable[[Epoch], None] = lambda epoch: None,
) -> nn.Module:
    """Train `module` in place and return the network to keep, in evaluation mode, on the CPU.

    images_nchw: float32 (N, C, H, W) in [0, 1]; labels: int64 (N,). Uses the GPU where
    torch finds one.
    """
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(settings.seed)
    # Channels last is the quicker layout for convolutions on the CPU and on the GPU.
    module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = torch.tensor(images_nchw, device=device)
    targets = torch.tensor(labels, device=device)
    trainer = _Trainer(module, settings, steps=settings.epochs * -(-len(images) // settings.batch))
    for number in range(1, settings.epochs + 1):
        report(trainer.epoch(number, images, targets))
    return trainer.kept().to("cpu").eval()


def accuracy(module: nn.Module, images_nchw: Array, labels: Array, batch: int = 500) -> float:
    """Return the share of images whose largest logit is the labelled class."""
    import torch

    hits = 0
    with torch.inference_mode():
        for start in range(0, len(labels), batch):
            logits = module(torch.tensor(images_nchw[start : start + batch]))
            chosen = logits.argmax(1).numpy()
            hits += int((chosen == labels[start : start + batch]).sum())
    return hits / len(labels)


def save_network(
    module: nn.Module,
    file: Path,
    architecture: str,
    input_shape: Shape,
    card: str,
) -> None:
    """Write the state dict as safetensors, and `card` beside it as FILE.md."""
    import torch
    from safetensors.torch import save_file

    tensors = {
        name: tensor.detach().cpu().contiguous(memory_format=torch.contiguous_format)
        for name, tensor in module.state_dict().items()
    }
    about = {
        "architecture": architecture,
        "input_shape": ",".join(str(size) for size in input_shape),
    }
    unfinished = file.with_name(file.name + ".part")
    save_file(tensors, unfinished, metadata=about)
    unfinished.chmod(0o644)  # safetensors makes files that others cannot read
    unfinished.replace(file)
    file.with_suffix(".md").write_text(card)


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


class _Trainer:
    """Optimizer, schedule, augmentation and running average of one training run."""

    def __init__(self, module: nn.Module, settings: TrainingSettings, steps: int) -> None:
        self.module = module
        self.settings = settings
        self.optimizer, self.schedule = _optimizer(module, settings, steps)
        self.averaged = copy.deepcopy(module) if settings.average else None
        averaged = {} if self.averaged is None else self.averaged.state_dict()
        self.pairs = [(kept, module.state_dict()[name]) for name, kept in averaged.items()]
        self.step = 0

    def epoch(self, number: int, images: Tensor, targets: Tensor) -> Epoch:
        """Train on all images once, in random order."""
        import torch

        start = time.monotonic()
        self.module.train()
        hooks = _dropout_hooks(self.module, self.settings.dropout)
        loss, hits = torch.zeros(()), 0
        for chosen in torch.split(torch.randperm(len(images)), self.settings.batch):
            inputs = _augmented(images[chosen], self.settings)
            step_loss, step_hits = self._train_step(inputs, targets[chosen])
            loss += step_loss.cpu() * len(chosen)
            hits += step_hits
        for hook in hooks:
            hook.remove()
        seconds = time.monotonic() - start
        size = len(images)
        return Epoch(number, self.settings.epochs, float(loss) / size, hits / size, seconds)

    def kept(self) -> nn.Module:
        """Return the running average where there is one, otherwise the trained network."""
        return self.module if self.averaged is None else self.averaged

    def _train_step(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, int]:
        import torch
        from torch.nn import functional

        logits = self.module(inputs.contiguous(memory_format=torch.channels_last))
        loss = functional.cross_entropy(
            logits, targets, label_smoothing=self.settings.label_smoothing
        )
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.schedule.step()
        self._update_average()
        return loss.detach(), int((logits.argmax(1) == targets).sum())

    def _update_average(self) -> None:
        import torch

        self.step += 1
        if self.averaged is None:
            return
        # A short memory at first, so that the untrained weights are soon forgotten.
        decay = min(self.settings.average, self.step / (self.step + 10))
        with torch.no_grad():
            for kept, current in self.pairs:
                kept.lerp_(current, 1 - decay) if kept.is_floating_point() else kept.copy_(current)


def _optimizer(
    module: nn.Module, settings: TrainingSettings, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    from torch import optim

    if settings.optimizer == "adamw":
        adamw = optim.AdamW(
            module.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
        )
        return adamw, optim.lr_scheduler.OneCycleLR(adamw, settings.learning_rate, steps)
    sgd = optim.SGD(
        module.parameters(),
        settings.learning_rate,
        momentum=0.9,
        weight_decay=settings.weight_decay,
    )
    milestones = [int(share * steps) for share in settings.milestones]
    return sgd, optim.lr_scheduler.MultiStepLR(sgd, milestones, 0.1)


def _dropout_hooks(module: nn.Module, rate: float) -> list[torch.utils.hooks.RemovableHandle]:
    from torch import nn
    from torch.nn import functional

    def drop(_: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
        return functional.dropout(inputs[0], rate)

    dense = [part for part in module.modules() if isinstance(part, nn.Linear)]
    return [part.register_forward_pre_hook(drop) for part in dense] if rate else []


def _augmented(images: Tensor, settings: TrainingSettings) -> Tensor:
    """Mirror and shift every image of a batch by its own random choice."""
    import torch
    from torch.nn import functional

    size, device = len(images), images.device
    if settings.flip:
        mirrored = (torch.rand(size) < 0.5).to(device)[:, None, None, None]
        images = torch.where(mirrored, images.flip(3), images)
    if settings.shift:
        reach = settings.shift
        height, width = images.shape[2:]
        rows, columns = torch.randint(0, 2 * reach + 1, (2, size, 1)).to(device)
        rows = rows + torch.arange(height, device=device)
        columns = columns + torch.arange(width, device=device)
        padded = functional.pad(images, (reach,) * 4)
        pick = torch.arange(size, device=device)[:, None, None]
        images = padded[pick, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    return images

"""Training a named architecture on labelled images: the loop.

Used for the networks kept with this package and by examples/train_ann.py; the compile
itself never trains on images of the world.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compiler.errors import Problem, UsageError, one_problem
from compiler.ir.device import compute_device, repeatable
from compiler.ir.geometry import Array
from compiler.presets.batch_norm import fold_batch_norm, with_batch_norm
from compiler.presets.checkpoint import read_checkpoint, training_key, write_checkpoint
from compiler.presets.settings import TrainingSettings
from compiler.store import KEEP_SECONDS

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

EPOCH_SECONDS = 30
"""A state is not written after every epoch where epochs are short: it may take seconds."""


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


@repeatable(tf32=True)
def train(
    module: nn.Module,
    images_nchw: Array,
    labels: Array,
    settings: TrainingSettings,
    report: Callable[[Epoch], None] = lambda epoch: None,
    checkpoint: Path | None = None,
) -> nn.Module:
    """Train `module` in place and return the network to keep, in evaluation mode, on the CPU.

    images_nchw: float32 (N, C, H, W) in [0, 1]; labels: int64 (N,). Uses the GPU where
    torch finds one. checkpoint: file that holds the state after an epoch, where the last was
    EPOCH_SECONDS ago or more, after the last epoch, and every KEEP_SECONDS within one; where it
    exists already, the training goes on from there, to the same result on the same kind of
    machine, and reports the epochs passed once more. Raises
    UsageError where the file is of another training, or damaged, where the largest shift moves
    an image out of itself or what is erased is all of it, and where the training diverges.
    """
    import torch

    _check_sizes(settings, images_nchw)
    torch.manual_seed(settings.seed)
    trainer = _Trainer(module, images_nchw, labels, settings)
    key = None if checkpoint is None else trainer.key(images_nchw, labels)
    passed: list[Epoch] = []
    if checkpoint is not None and key is not None:
        passed = trainer.restored(read_checkpoint(checkpoint, key))
    for epoch in passed:
        report(epoch)

    def keep() -> None:
        if checkpoint is not None and key is not None:
            write_checkpoint(checkpoint, key, trainer.state(passed))

    due = time.monotonic() + EPOCH_SECONDS
    for number in range(len(passed) + 1, settings.epochs + 1):
        passed.append(trainer.epoch(number, keep))
        trainer.check_finite(passed[-1])
        if number == settings.epochs or time.monotonic() >= due:
            keep()
            due = time.monotonic() + EPOCH_SECONDS
        report(passed[-1])
    kept = trainer.kept().to("cpu").eval()
    return _folded(kept, settings)


def _check_sizes(settings: TrainingSettings, images_nchw: Array) -> None:
    side = min(images_nchw.shape[2:])
    allowed = f"below {side}, the images' shorter side in pixels"
    problems = [
        Problem(name, str(value), allowed, f"give a smaller {name}")
        for name, value in (("shift", settings.shift), ("erase", settings.erase))
        if value >= side
    ]
    if problems:
        raise UsageError("the settings of the training do not fit", problems)


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


@dataclass
class _Pass:
    """What an epoch has done so far: its order of the images, sums over the first `done`."""

    order: Tensor
    done: int = 0
    loss: float = 0.0
    hits: int = 0
    seconds: float = 0.0


class _Trainer:
    """Images, optimizer, schedule, augmentation and running average of one training run."""

    def __init__(
        self, module: nn.Module, images_nchw: Array, labels: Array, settings: TrainingSettings
    ) -> None:
        import torch

        self.device = compute_device()
        trained = _normalised(module, settings)
        # Channels last is the quicker layout for convolutions on the CPU and on the GPU.
        trained.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.module = trained
        self.images, self.targets = (
            torch.as_tensor(array if array.flags.writeable else array.copy(), device=self.device)
            for array in (images_nchw, labels)
        )
        self.settings = settings
        steps = settings.epochs * -(-len(labels) // settings.batch)
        self.optimizer, self.schedule = _optimizer(trained, settings, steps)
        self.averaged = copy.deepcopy(trained) if settings.average else None
        averaged = {} if self.averaged is None else self.averaged.state_dict()
        self.pairs = [(kept, trained.state_dict()[name]) for name, kept in averaged.items()]
        self.step = 0
        self.current: _Pass | None = None

    def key(self, images_nchw: Array, labels: Array) -> str:
        """Return what a checkpoint must have been written for."""
        shapes = {name: tuple(one.shape) for name, one in self.module.state_dict().items()}
        parameters = self.module.named_parameters()
        held = [name for name, parameter in parameters if not parameter.requires_grad]
        return training_key(self.settings, shapes, held, images_nchw, labels)

    def state(self, passed: list[Epoch]) -> dict[str, Any]:
        """Return all that the epochs to come depend on, and the epochs passed."""
        import torch

        return {
            "network": self.module.state_dict(),
            "averaged": None if self.averaged is None else self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "step": self.step,
            "random": torch.get_rng_state(),
            "random_gpu": torch.cuda.get_rng_state(self.device) if self.on_gpu else None,
            "epochs": [asdict(epoch) for epoch in passed],
            "within": None if self.current is None else dict(vars(self.current)),
        }

    def restored(self, state: dict[str, Any] | None) -> list[Epoch]:
        """Take over what `state` returned, if anything; return the epochs passed."""
        import torch

        if state is None:
            return []
        self.module.load_state_dict(state["network"])
        if self.averaged is not None:
            self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.step = state["step"]
        self.current = _Pass(**state["within"]) if state.get("within") else None
        torch.set_rng_state(state["random"])
        if self.on_gpu and isinstance(state["random_gpu"], torch.Tensor):
            torch.cuda.set_rng_state(state["random_gpu"], self.device)
        return [Epoch(**epoch) for epoch in state["epochs"]]

    def epoch(self, number: int, keep: Callable[[], None]) -> Epoch:
        """Train on all images once, in random order; `keep` is called now and then."""
        import torch

        size, batch = len(self.images), self.settings.batch
        if self.current is None:
            self.current = _Pass(torch.randperm(size))
        now = self.current
        kept = time.monotonic()
        began = kept - now.seconds
        self.module.train()
        hooks = _dropout_hooks(self.module, self.settings.dropout)
        while now.done < size:
            chosen = now.order[now.done : now.done + batch]
            inputs = _augmented(self.images[chosen], self.settings)
            loss, hits = self._train_step(inputs, self.targets[chosen])
            now.loss += float(loss) * len(chosen)
            now.hits += hits
            now.done += len(chosen)
            now.seconds = time.monotonic() - began
            if now.done < size and time.monotonic() - kept > KEEP_SECONDS:
                keep()
                kept = time.monotonic()
        for hook in hooks:
            hook.remove()
        self.current = None
        return Epoch(number, self.settings.epochs, now.loss / size, now.hits / size, now.seconds)

    def check_finite(self, epoch: Epoch) -> None:
        """Raise UsageError where an epoch ended with a loss or weights that are no numbers."""
        import torch

        finite = (torch.isfinite(one).all() for one in self.module.state_dict().values())
        if not (math.isfinite(epoch.loss) and all(finite)):
            raise one_problem(
                UsageError,
                "the training diverged",
                "learning_rate",
                f"a loss of {epoch.loss} or weights that are no numbers after epoch {epoch.number}",
                "finite weights",
                f"give a learning rate below {self.settings.learning_rate}",
            )

    @property
    def on_gpu(self) -> bool:
        """Whether the network is trained on a GPU."""
        return self.device.type == "cuda"

    def kept(self) -> nn.Module:
        """Return the running average where there is one, otherwise the trained network."""
        return self.module if self.averaged is None else self.averaged

    def _train_step(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, int]:
        import torch
        from torch.nn import functional

        with self._products():
            logits = self.module(inputs.contiguous(memory_format=torch.channels_last)).float()
        loss = functional.cross_entropy(
            logits, targets, label_smoothing=self.settings.label_smoothing
        )
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.schedule.step()
        self._update_average()
        return loss.detach(), int((logits.argmax(1) == targets).sum())

    def _products(self) -> AbstractContextManager[Any]:
        """The precision of what is computed inside."""
        import torch

        if self.settings.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

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


def _normalised(module: nn.Module, settings: TrainingSettings) -> nn.Module:
    if settings.norm == "scale":
        from compiler.presets.scale_norm import with_scale_norm

        return with_scale_norm(module)
    return with_batch_norm(module) if settings.norm == "batch" else module


def _folded(module: nn.Module, settings: TrainingSettings) -> nn.Module:
    if settings.norm == "scale":
        from compiler.presets.scale_norm import fold_scale_norm

        return fold_scale_norm(module)
    return fold_batch_norm(module) if settings.norm == "batch" else module


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
        nesterov=settings.optimizer == "nesterov",
    )
    if settings.optimizer == "nesterov":
        return sgd, optim.lr_scheduler.OneCycleLR(
            sgd, settings.learning_rate, steps, cycle_momentum=False
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
    """Mirror, shift and erase a part of every image of a batch by its own random choice."""
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
    return images * ~_squares(images, settings.erase) if settings.erase else images


def _squares(images: Tensor, side: int) -> Tensor:
    """True in a square around a random place of each image, (N, 1, H, W); borders cut it off."""
    import torch

    within = []
    for size in images.shape[2:]:
        first = (torch.randint(0, size, (len(images), 1)) - side // 2).to(images.device)
        distance = torch.arange(size, device=images.device) - first
        within.append((distance >= 0) & (distance < side))
    return (within[0][:, :, None] & within[1][:, None, :])[:, None]

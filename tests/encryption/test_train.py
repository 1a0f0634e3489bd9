"""Training with SLAYER blocks: it trains, it stops, it goes on after an interruption."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compiler.chip.fixed_point import quantize_bias
from compiler.config import EncryptionConfig
from compiler.encryption.checkpoint import Checkpoints
from compiler.encryption.losses import distillation
from compiler.encryption.train import Encryption, TrainingState, encrypt, with_contrast
from compiler.errors import EnvironmentProblem
from compiler.ir.geometry import Array
from compiler.ir.snn import SnnGraph
from compiler.store import save, write_state

ROOT = Path(__file__).parents[2]
CONFIG = EncryptionConfig(epochs=3, batch=32, learning_rate=2e-2, patience=3)


def train(lesson: Any, config: EncryptionConfig = CONFIG, seed: int = 0, **more: Any) -> Encryption:
    return encrypt(lesson.ann, lesson.converted, lesson.synthetic, config, seed, **more)


@pytest.fixture(scope="module")
def trained(lesson: Any) -> Encryption:
    return train(lesson)


def content(graph: SnnGraph, folder: Path) -> bytes:
    save(graph, folder / "graph.safetensors")
    return (folder / "graph.safetensors").read_bytes()


def test_the_loss_falls_and_every_weight_and_bias_moves(lesson: Any, trained: Encryption) -> None:
    losses = [epoch.loss for epoch in trained.epochs]
    assert trained.best_epoch > 0 and losses[trained.best_epoch] < 0.7 * losses[0]
    assert [epoch.epoch for epoch in trained.epochs] == list(range(len(losses)))
    for before, after in zip(lesson.converted.layers, trained.graph.layers, strict=True):
        assert np.linalg.norm(after.weight - before.weight) > 0.01 * np.linalg.norm(before.weight)
        assert np.any(quantize_bias(after.bias)), f"the bias of {before.name} stands still"


def test_biases_work(lesson: Any) -> None:
    """With weights that cannot move, biases alone must bring the loss down."""
    from compiler.encryption import train as module

    class BiasesAlone(torch.optim.Adam):
        def __init__(self, groups: list[dict[str, Any]], rate: float) -> None:
            biases = [[p for p in group["params"] if p.dim() in (1, 3)] for group in groups]
            changed = zip(groups, biases, strict=True)
            super().__init__([{**group, "params": some} for group, some in changed], rate)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.torch.optim, "Adam", BiasesAlone)
        found = train(lesson)
    for before, after in zip(lesson.converted.layers, found.graph.layers, strict=True):
        np.testing.assert_allclose(after.weight, before.weight, atol=1e-4)
    assert min(epoch.loss for epoch in found.epochs) < 0.9 * found.epochs[0].loss


def test_the_loss_is_the_weighted_sum_of_its_parts(lesson: Any) -> None:
    config = replace(CONFIG, epochs=1, hidden_weight=0.25, reconversion_weight=0.5)
    for epoch in train(lesson, config).epochs:
        parts = (epoch.answers, epoch.rates, epoch.reconversion)
        assert min(parts) > 0
        total = epoch.answers + 0.25 * epoch.rates + 0.5 * epoch.reconversion
        assert epoch.loss == pytest.approx(total, rel=1e-6)


def test_a_rate_in_units_of_the_weights_moves_every_layer_by_the_same_share(lesson: Any) -> None:
    """Adam's first step is the rate times the gradient's sign, for all weights."""
    samples = len(lesson.synthetic.pixels(lesson.synthetic.training))
    config = replace(CONFIG, epochs=1, batch=samples, learning_rate=0.01)

    def moved(unit: str) -> list[float]:
        """Of each layer, the largest step in root mean squares of its weights."""
        caught: dict[str, torch.Tensor] = {}
        train(
            lesson,
            replace(config, learning_rate_unit=unit),
            checkpoint=lambda s: caught.update({k: v.clone() for k, v in s.network.items()}),
        )
        shares = []
        for index, layer in enumerate(lesson.converted.layers):
            after = caught[f"blocks.{index}.synapse.weight"].double().numpy() * 64
            step = np.abs(after.reshape(layer.weight.shape) - layer.weight).max()
            shares.append(float(step / np.sqrt(np.mean(layer.weight**2))))
        return shares

    relative, absolute = moved("weights"), moved("absolute")
    assert relative == pytest.approx([0.01] * len(relative), rel=0.01)
    assert max(absolute) > 1.5 * min(absolute)


def test_held_out_images_have_the_contrasts_of_the_training(
    lesson: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from compiler.encryption import train as module

    seen: list[Array] = []
    encode = module.encode_nhwc

    def spied(images: Array, *more: Any) -> Array:
        seen.append(images)
        return encode(images, *more)

    monkeypatch.setattr(module, "encode_nhwc", spied)
    train(lesson, replace(CONFIG, epochs=1, lowest_contrast=0.2))
    images = lesson.synthetic.pixels(lesson.synthetic.validation)
    batches = -(-len(images) // CONFIG.batch)
    before, after = (np.concatenate(part) for part in (seen[:batches], seen[-batches:]))
    np.testing.assert_array_equal(before, after)
    share = before.std((1, 2, 3)) / images.std((1, 2, 3))
    assert share.min() >= 0.199 and share.max() <= 1.001 and share.std() > 0.1


def test_the_same_seed_gives_the_same_bytes(
    lesson: Any, trained: Encryption, tmp_path: Path
) -> None:
    torch.manual_seed(5)
    np.random.seed(5)
    assert content(train(lesson).graph, tmp_path) == content(trained.graph, tmp_path)
    assert content(train(lesson, seed=1).graph, tmp_path) != content(trained.graph, tmp_path)


class Stop(Exception):
    """An interruption."""


@pytest.mark.parametrize("after", [1, 2])
def test_going_on_from_a_checkpoint_is_the_same_bit_for_bit(
    lesson: Any, trained: Encryption, tmp_path: Path, after: int
) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoint", "key")
    assert checkpoints.read() is None

    def write_and_stop(state: TrainingState) -> None:
        checkpoints.write(state)
        if len(state.epochs) == after + 1:
            raise Stop

    with pytest.raises(Stop):
        train(lesson, checkpoint=write_and_stop)
    resumed = train(lesson, resume=checkpoints.read())
    assert resumed.epochs == trained.epochs and resumed.best_epoch == trained.best_epoch
    assert content(resumed.graph, tmp_path) == content(trained.graph, tmp_path)


@pytest.mark.parametrize("after", [1, 5, 8])
def test_going_on_within_an_epoch_is_the_same_bit_for_bit(
    lesson: Any,
    trained: Encryption,
    tmp_path: Path,
    after: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A state is kept after every step here; the training dies `after` of them."""
    from compiler.encryption import train as module

    monkeypatch.setattr(module, "KEEP_SECONDS", -1.0)
    checkpoints = Checkpoints(tmp_path / "checkpoint", "key")
    written = 0

    def write_and_stop(state: TrainingState) -> None:
        nonlocal written
        checkpoints.write(state)
        written += 1
        if written == after:
            raise Stop

    with pytest.raises(Stop):
        train(lesson, checkpoint=write_and_stop)
    kept = checkpoints.read()
    assert kept is not None and kept.steps > 0
    resumed = train(lesson, resume=kept)
    assert resumed.epochs == trained.epochs and resumed.best_epoch == trained.best_epoch
    assert content(resumed.graph, tmp_path) == content(trained.graph, tmp_path)


def test_a_checkpoint_of_other_settings_is_not_used(lesson: Any, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    config = replace(CONFIG, epochs=1)
    train(lesson, config, checkpoint=Checkpoints(path, "one").write)
    assert Checkpoints(path, "one").read() is not None
    assert Checkpoints(path, "other").read() is None
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint"]


class Recorder(torch.optim.Adam):
    """Adam at no rate to speak of, which keeps the gradients of every step."""

    seen: list[list[torch.Tensor]]

    def __init__(self, groups: list[dict[str, Any]], rate: float) -> None:
        super().__init__(groups, 1e-12)
        Recorder.seen = []

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        parameters = [p for group in self.param_groups for p in group["params"]]
        Recorder.seen.append([p.grad.clone() for p in parameters if p.grad is not None])


@pytest.mark.parametrize("lowest", [0.3, 0.9])
def test_less_contrast_keeps_an_image_s_mean_and_its_range(lowest: float) -> None:
    images = np.random.default_rng(0).random((200, 3, 5, 4)).astype(np.float32)
    found = with_contrast(images, lowest, [1, 2, 3])
    assert found.dtype == np.float32 and found.min() >= 0 and found.max() <= 1
    axes = (1, 2, 3)
    np.testing.assert_allclose(found.mean(axes), images.mean(axes), atol=1e-5)
    factors = found.std(axes) / images.std(axes)
    assert lowest <= factors.min() < lowest + 0.1 * (1 - lowest)
    assert 1 - 0.1 * (1 - lowest) < factors.max() <= 1 + 1e-5
    assert np.array_equal(found, with_contrast(images, lowest, [1, 2, 3]))
    assert not np.array_equal(found, with_contrast(images, lowest, [1, 2, 4]))
    assert with_contrast(images, 1.0, [1]) is images


@pytest.mark.parametrize("recipe", [{}, {"reconversion_weight": 1.0, "distill_share": 0.5}])
def test_a_batch_taken_in_parts_has_the_gradients_of_the_whole(
    lesson: Any, recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from compiler.encryption import train as module
    from compiler.encryption.network import SlayerNetwork

    monkeypatch.setattr(module.torch.optim, "Adam", Recorder)
    config = replace(CONFIG, epochs=1, **recipe)
    sizes: set[int] = set()
    forward = SlayerNetwork.forward

    def counted(self: SlayerNetwork, spikes: torch.Tensor) -> Any:
        sizes.add(spikes.shape[1])
        return forward(self, spikes)

    monkeypatch.setattr(SlayerNetwork, "forward", counted)
    whole = train(lesson, config)
    gradients = Recorder.seen
    assert config.batch in sizes
    sizes.clear()
    neurons = sum(int(np.prod(layer.shape)) for layer in lesson.converted.layers)
    seven = 7.5 * 16 * neurons * lesson.converted.timesteps / 1e9
    parts = train(lesson, replace(config, memory_gb=seven))
    assert max(sizes) == 7
    for epoch, other in zip(whole.epochs, parts.epochs, strict=True):
        assert other.loss == pytest.approx(epoch.loss, rel=1e-5)
        assert other.agreement == pytest.approx(epoch.agreement)
    for batch, summed in zip(gradients, Recorder.seen, strict=True):
        for gradient, found in zip(batch, summed, strict=True):
            scale = float(gradient.abs().max())
            torch.testing.assert_close(found, gradient, rtol=1e-4, atol=1e-5 * scale)


def test_the_best_epoch_is_kept(lesson: Any, tmp_path: Path) -> None:
    """Also when later ones are worse; every epoch's network is caught on the way."""
    caught: list[dict[str, Any]] = []
    config = replace(CONFIG, epochs=6, learning_rate=0.3, patience=6)
    found = train(
        lesson,
        config,
        checkpoint=lambda s: caught.append({k: v.clone() for k, v in s.network.items()}),
    )
    losses = [epoch.loss for epoch in found.epochs]
    assert found.best_epoch == int(np.argmin(losses))
    if found.best_epoch:
        state = caught[found.best_epoch - 1]
        for index, layer in enumerate(found.graph.layers):
            weight = state[f"blocks.{index}.synapse.weight"].double().numpy() * 64
            np.testing.assert_array_equal(layer.weight, weight.reshape(layer.weight.shape))


def test_it_stops_early_and_may_keep_the_network_untrained(lesson: Any, tmp_path: Path) -> None:
    config = replace(CONFIG, epochs=9, learning_rate=30.0, patience=2)
    found = train(lesson, config)
    assert found.best_epoch == 0 and len(found.epochs) == 3
    for before, after in zip(lesson.converted.layers, found.graph.layers, strict=True):
        np.testing.assert_allclose(after.weight, before.weight, rtol=1e-6, atol=1e-5)


def test_a_loss_that_is_no_number_is_named(lesson: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from compiler.encryption import train as module

    monkeypatch.setattr(module, "answer_loss", lambda logits, *_: logits.sum() * torch.nan)
    with pytest.raises(EnvironmentProblem, match=r"not finite after epoch 1(.|\n)*learning rate"):
        train(lesson)


def test_distillation_is_the_divergence_from_the_teacher() -> None:
    teacher = torch.tensor([[2.0, 0.0, -1.0]])
    assert float(distillation(teacher, teacher, 3.0)) == pytest.approx(0, abs=1e-6)
    student = torch.tensor([[0.0, 0.0, 0.0]])
    p = torch.softmax(teacher / 2, 1)
    expected = 4 * float((p * (p.log() - torch.log_softmax(student / 2, 1))).sum())
    assert float(distillation(student, teacher, 2.0)) == pytest.approx(expected, rel=1e-5)


def test_lava_dl_is_imported_without_a_word() -> None:
    """And without torchvision's detection models, which take seconds."""
    code = (
        "import sys, compiler.encryption.train;print('torchvision.models.detection' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("False\n", "")


@pytest.mark.parametrize("junk", [b"junk", b"hello", b"some text in a file\n", b""])
def test_a_text_is_no_state(tmp_path: Path, junk: bytes) -> None:
    path = tmp_path / "checkpoint"
    path.write_bytes(junk)
    assert Checkpoints(path, "key").read() is None


def test_a_state_with_parts_missing_or_of_another_kind_is_none(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    whole = {"key": "key", "network": {}, "optimizer": {}, "best": 0.0, "epochs": [], "steps": 0}
    for content in ({"key": "key"}, {**whole, "epochs": [{"other": 1}]}, {**whole, "epochs": 3}):
        write_state(path, content)
        assert Checkpoints(path, "key").read() is None

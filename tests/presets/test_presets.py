"""The networks kept with the package, and the loop that trained them."""

import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open

from compiler.errors import DataError, UsageError
from compiler.frontend.architectures import ARCHITECTURES
from compiler.ir import Conv2d, Dense
from compiler.ir.run_ann import run_ann
from compiler.presets import PRESETS, find_preset, load_preset
from compiler.presets.batch_norm import fold_batch_norm, with_batch_norm
from compiler.presets.files import model_card, save_network
from compiler.presets.settings import TrainingSettings
from compiler.presets.train import SETTINGS, TITLES, train_preset
from compiler.presets.training import accuracy, train
from sim.datasets import DATA_FOLDER_VARIABLE, DEBIAN_FASHION_MNIST, load_dataset


def preset_accuracy(name):
    graph = load_preset(name)
    data = load_dataset(PRESETS[name].data, graph.input_shape, classes=graph.classes)
    assert data.class_names == graph.class_names
    return float(np.mean(run_ann(graph, data.images_nchw).argmax(1) == data.labels))


def test_digits_accuracy_on_the_held_out_third():
    assert preset_accuracy("digits") >= 0.97


@pytest.mark.skipif(not DEBIAN_FASHION_MNIST.exists(), reason="apt-get install the images")
def test_fashion_mnist_accuracy_on_all_test_images():
    assert preset_accuracy("fashion-mnist") >= 0.91


@pytest.mark.slow
@pytest.mark.skipif(DATA_FOLDER_VARIABLE not in os.environ, reason="no folder with the images")
def test_cifar10_accuracy_on_all_test_images():
    assert preset_accuracy("cifar10") >= 0.87


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_small_have_biases_and_a_model_card(name):
    preset = PRESETS[name]
    assert preset.weights.stat().st_size <= 3_000_000
    assert "accuracy" in preset.weights.with_suffix(".md").read_text()
    graph = load_preset(name)
    assert graph.name == name and graph.input_shape == preset.input_shape
    linear = [layer for layer in graph.layers if isinstance(layer, (Conv2d, Dense))]
    assert sum(isinstance(layer, Conv2d) for layer in linear) >= 2
    assert all(layer.bias is not None and np.any(layer.bias) for layer in linear)


def test_a_preset_is_not_measured_on_its_training_images(tmp_path):
    data = load_dataset("digits", samples=50)
    np.savez(tmp_path / "one.npz", images=data.images_nchw, labels=data.labels)
    with pytest.raises(DataError, match="50 of 50 test images are training images"):
        train_preset(replace(PRESETS["digits"], data=f"npz:{tmp_path / 'one.npz'}"), tmp_path)
    assert not list(tmp_path.glob("*.md"))


def test_unknown_preset_lists_the_known_ones():
    with pytest.raises(UsageError, match="digits, fashion-mnist"):
        find_preset("mnist")


@pytest.mark.parametrize(
    "settings",
    [
        TrainingSettings(epochs=8, batch=32, dropout=0.1, average=0.9, learning_rate=5e-3),
        TrainingSettings(
            epochs=8,
            batch=32,
            optimizer="sgd",
            learning_rate=0.05,
            weight_decay=5e-4,
            milestones=(0.7,),
        ),
    ],
)
def test_training_learns_and_repeats(settings):
    data = load_dataset("digits", part="train", samples=400)
    accuracies, weights = [], []
    for _ in range(2):
        torch.manual_seed(0)
        module = ARCHITECTURES["digits-cnn"]((1, 8, 8), 10)
        epochs = []
        kept = train(module, data.images_nchw, data.labels, settings, epochs.append)
        assert [epoch.number for epoch in epochs] == list(range(1, 9))
        assert not kept.training
        accuracies.append(accuracy(kept, data.images_nchw, data.labels))
        weights.append(kept.state_dict()["0.weight"])
    assert accuracies[0] > 0.8
    assert torch.equal(*weights)


def test_augmentation_moves_and_mirrors_each_image_by_itself():
    from compiler.presets.training import _augmented

    torch.manual_seed(1)
    image = torch.zeros(64, 1, 5, 7)
    image[:, :, 2, 3] = 1
    image[:, :, 2, 4] = 0.5
    moved = _augmented(image, TrainingSettings(flip=True, shift=1))
    assert moved.shape == image.shape
    places = {tuple(torch.nonzero(one[0] == 1)[0].tolist()) for one in moved}
    assert places == {(row, column) for row in (1, 2, 3) for column in (2, 3, 4)}
    side = {float(one[0][tuple(torch.nonzero(one[0] == 1)[0])].item()) for one in moved}
    assert side == {1.0}
    halves = [
        int(torch.nonzero(one[0] == 0.5)[0][1] - torch.nonzero(one[0] == 1)[0][1]) for one in moved
    ]
    assert set(halves) == {-1, 1}


def test_a_square_of_each_image_is_erased():
    from compiler.presets.training import _augmented

    torch.manual_seed(1)
    erased = _augmented(torch.ones(400, 2, 6, 9), TrainingSettings(erase=3)) == 0
    assert torch.equal(erased[:, 0], erased[:, 1])
    rows, columns = erased[:, 0].any(2).sum(1), erased[:, 0].any(1).sum(1)
    assert torch.equal(erased[:, 0].sum((1, 2)), rows * columns)  # no shape but a rectangle
    assert set(rows.tolist()) == set(columns.tolist()) == {2, 3}  # cut off at the borders
    assert bool(erased[:, 0].any(0).all())


def test_saved_network_and_card(tmp_path):
    module = ARCHITECTURES["digits-cnn"]((1, 8, 8), 10)
    card = model_card("Title", {"Fact": "one"}, TrainingSettings(), ["a", "b"])
    file = tmp_path / "net.safetensors"
    save_network(module, file, "digits-cnn", (1, 8, 8), card)
    assert "* Fact: one" in file.with_suffix(".md").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.md", "net.safetensors"]
    with safe_open(file, "pt") as opened:
        assert opened.metadata()["input_shape"] == "1,8,8"
        assert torch.equal(opened.get_tensor("0.weight"), module.state_dict()["0.weight"])


def small_images(count=96):
    generator = np.random.default_rng(0)
    return generator.random((count, 3, 8, 8), np.float32), generator.integers(0, 3, count)


INTERRUPTIBLE = TrainingSettings(
    epochs=3, batch=32, optimizer="nesterov", learning_rate=0.05, flip=True, shift=1,
    dropout=0.2, average=0.9, norm="batch",
)  # fmt: skip


BIAS_FREE = replace(INTERRUPTIBLE, norm="scale", precision="bfloat16")


def trained(report=lambda epoch: None, checkpoint=None, settings=INTERRUPTIBLE):
    torch.manual_seed(0)
    module = ARCHITECTURES["digits-cnn"]((3, 8, 8), 3)
    return train(module, *small_images(), settings, report, checkpoint)


@pytest.mark.parametrize("settings", [INTERRUPTIBLE, BIAS_FREE], ids=["batch", "scale"])
@pytest.mark.parametrize("apart", [-1.0, 1e6])
def test_an_interrupted_training_goes_on_to_the_same_weights(
    tmp_path, monkeypatch, apart, settings
):
    """From the epoch before, or from the beginning where epochs are short."""
    from compiler.presets import training

    monkeypatch.setattr(training, "EPOCH_SECONDS", apart)
    checkpoint = tmp_path / "state"

    def interrupt(epoch):
        if epoch.number == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(interrupt, checkpoint, settings)
    assert checkpoint.exists() == (apart < 0)
    reported = []
    continued = trained(reported.append, checkpoint, settings)
    assert [epoch.number for epoch in reported] == [1, 2, 3]
    unbroken = trained(settings=settings).state_dict()
    assert all(torch.equal(unbroken[name], one) for name, one in continued.state_dict().items())
    again = trained(checkpoint=checkpoint, settings=settings).state_dict()
    assert all(torch.equal(unbroken[name], one) for name, one in again.items())
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


@pytest.mark.parametrize("after", [1, 2, 4])
def test_a_training_interrupted_within_an_epoch_goes_on_to_the_same_weights(
    tmp_path, monkeypatch, after
):
    """Every batch but an epoch's last writes a state here; the training dies at one of them."""
    from compiler.presets import training

    written = []
    write = training.write_checkpoint

    def write_and_die(path, key, state):
        write(path, key, state)
        written.append(state["within"])
        if len(written) == after:
            raise KeyboardInterrupt

    monkeypatch.setattr(training, "KEEP_SECONDS", -1.0)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training, "write_checkpoint", write_and_die)
        trained(checkpoint=tmp_path / "state")
    assert written[-1]["done"] > 0
    reported = []
    continued = trained(reported.append, tmp_path / "state").state_dict()
    whole = []
    unbroken = trained(whole.append).state_dict()
    assert all(torch.equal(unbroken[name], one) for name, one in continued.items())
    assert [replace(one, seconds=0) for one in reported] == [
        replace(one, seconds=0) for one in whole
    ]


def test_a_checkpoint_of_another_training_or_a_damaged_one_is_refused(tmp_path):
    checkpoint = tmp_path / "state"
    trained(checkpoint=checkpoint)
    with pytest.raises(UsageError, match="other settings, biases or images"):
        trained(checkpoint=checkpoint, settings=replace(INTERRUPTIBLE, seed=1))
    whole = checkpoint.read_bytes()
    for damage in (whole[: len(whole) // 2], b"", b"no archive at all"):
        checkpoint.write_bytes(damage)
        with pytest.raises(UsageError, match="damaged"):
            trained(checkpoint=checkpoint)


def test_batch_norm_is_folded_into_the_convolutions():
    torch.manual_seed(0)
    plain = ARCHITECTURES["digits-cnn"]((3, 8, 8), 3)
    names = list(plain.state_dict())
    normalised = with_batch_norm(plain)
    images = torch.tensor(small_images()[0])
    for _ in range(3):
        normalised(images)  # moves the running statistics
    folded = fold_batch_norm(normalised)
    assert sum(isinstance(layer, torch.nn.BatchNorm2d) for layer in normalised) == 2
    assert list(folded.state_dict()) == names
    torch.testing.assert_close(folded(images), normalised.eval()(images), rtol=1e-4, atol=1e-5)
    with pytest.raises(TypeError, match="Linear"):
        with_batch_norm(torch.nn.Linear(2, 2))
    with pytest.raises(TypeError, match="it has none"):
        with_batch_norm(torch.nn.Sequential(torch.nn.Sequential(plain), torch.nn.Flatten()))


@pytest.mark.parametrize("wrong", [{"optimizer": "adam"}, {"norm": "Batch"}, {"precision": "bf16"}])
def test_a_choice_that_there_is_not_is_refused(wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(UsageError, match=f"{name}: found {value}; allowed: one of"):
        TrainingSettings(**wrong)


def test_cifar_cnn_costs_less_than_40_million_products():
    module = ARCHITECTURES["cifar-cnn"]((3, 32, 32), 10).eval()
    products = []

    def count(layer, _, output):
        inputs = layer.weight[0].numel()
        products.append(inputs * output[0].numel())

    for layer in module:
        if isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear)):
            layer.register_forward_hook(count)
    assert module(torch.zeros(1, 3, 32, 32)).shape == (1, 10)
    assert sum(products) < 40e6
    assert sum(part.numel() for part in module.parameters()) * 4 < 3_000_000
    assert (
        ARCHITECTURES["cifar-cnn"]((3, 30, 33), 7).eval()(torch.zeros(1, 3, 30, 33)).shape[1] == 7
    )


def test_trainable_presets_have_settings_titles_and_an_architecture():
    assert set(SETTINGS) == set(TITLES) == set(PRESETS)
    for name, preset in PRESETS.items():
        assert preset.name == name and preset.weights.stem == name.replace("-", "_")
        assert SETTINGS[name].epochs > 0 and TITLES[name]
        assert preset.architecture in ARCHITECTURES

"""Models by name: safetensors with an architecture, factories, and what goes wrong."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from compiler.errors import ModelError, UsageError
from compiler.frontend import ARCHITECTURES, load_model
from compiler.ir import AvgPool2d, BatchNorm, InputAffine
from compiler.ir.run_ann import run_ann


@pytest.fixture
def digits(tmp_path):
    torch.manual_seed(0)
    module = ARCHITECTURES["digits-cnn"]((1, 8, 8), 10)
    file = tmp_path / "net.safetensors"
    save_file(module.state_dict(), file)
    return module.eval(), file, module.state_dict()


def test_weights_arrive(digits):
    module, file, _ = digits
    graph = load_model(file, arch="digits-cnn", class_names=("a",) * 10)
    images = torch.rand(2, 1, 8, 8)
    with torch.no_grad():
        expected = module(images).numpy()
    np.testing.assert_allclose(run_ann(graph, images.numpy()), expected, atol=1e-5)
    assert graph.name == "net" and graph.class_names == ("a",) * 10


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_prefixes_of_wrappers_are_removed(digits, prefix):
    _, file, state = digits
    save_file({prefix + name: tensor for name, tensor in state.items()}, file)
    assert load_model(file, arch="digits-cnn").parameters == 38282


def test_all_mismatches_are_listed(digits):
    _, file, state = digits
    state = {f"module.{name}": tensor for name, tensor in state.items()}
    state["module.extra"] = torch.zeros(2)
    del state["module.0.bias"]
    state["module.2.weight"] = torch.zeros(32, 16, 5, 5)
    save_file(state, file)
    with pytest.raises(ModelError) as caught:
        load_model(file, arch="digits-cnn", input_shape=(1, 8, 8))
    found = {problem.layer: (problem.found, problem.allowed) for problem in caught.value.problems}
    assert found == {
        "0.bias": ("missing", "shape (16,)"),
        "2.weight": ("shape (32, 16, 5, 5)", "shape (32, 16, 3, 3)"),
        "extra": ("shape (2,)", "no tensor of this name"),
    }


@pytest.mark.parametrize("classes,size", [(3, 8), (100, 28)])
def test_classes_channels_and_size_are_found_in_the_file(tmp_path, classes, size):
    module = ARCHITECTURES["fashion-cnn"]((3, size, size), classes)
    save_file(module.state_dict(), tmp_path / "net.safetensors")
    graph = load_model(tmp_path / "net.safetensors", arch="fashion-cnn")
    assert graph.input_shape == (3, size, size) and graph.classes == classes


def test_the_remark_on_the_shape_is_used(tmp_path):
    module = ARCHITECTURES["digits-cnn"]((1, 6, 10), 4)
    save_file(module.state_dict(), tmp_path / "n.safetensors", {"input_shape": "1,6,10"})
    assert load_model(tmp_path / "n.safetensors", arch="digits-cnn").input_shape == (1, 6, 10)


def test_half_precision_and_old_batch_norms(tmp_path):
    module = ARCHITECTURES["vgg5-bn"]((3, 8, 8), 10).half()
    state = {k: v for k, v in module.state_dict().items() if "num_batches" not in k}
    save_file(state, tmp_path / "n.safetensors")
    graph = load_model(tmp_path / "n.safetensors", arch="vgg5-bn")
    assert sum(isinstance(layer, BatchNorm) for layer in graph.layers) == 3


def test_unknown_architectures_list_the_known_ones(digits):
    _, file, _ = digits
    for arch in (None, "resnet18"):
        with pytest.raises(UsageError, match=r"digits-cnn, .*vgg5, .*vgg16, .*vgg19-bn"):
            load_model(file, arch=arch)


def test_files_that_are_no_safetensors(tmp_path):
    file = tmp_path / "net.safetensors"
    with pytest.raises(ModelError, match="no such model"):
        load_model(file, arch="digits-cnn")
    file.write_bytes(b"something else altogether")
    with pytest.raises(ModelError, match=r"net\.safetensors.*complete \.safetensors"):
        load_model(file, arch="digits-cnn")
    torch.save({"a": torch.zeros(2)}, file)
    with pytest.raises(ModelError, match="pickled torch file, which is never opened"):
        load_model(file, arch="digits-cnn")


def test_a_truncated_file_is_named(digits):
    _, file, _ = digits
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(ModelError, match=r"complete \.safetensors"):
        load_model(file, arch="digits-cnn")


def test_whole_numbers_are_no_weights(tmp_path):
    module = ARCHITECTURES["digits-cnn"]((1, 8, 8), 10)
    state = module.state_dict()
    state["0.weight"] = state["0.weight"].to(torch.int8)
    save_file(state, tmp_path / "n.safetensors")
    with pytest.raises(ModelError, match=r"0\.weight: found numbers of the type int8"):
        load_model(tmp_path / "n.safetensors", arch="digits-cnn")


@pytest.mark.parametrize("spec", ["net.pt", "net.pth", "C:net.pkl", "net", "net.h5"])
def test_other_files_are_refused(spec):
    with pytest.raises(ModelError, match="pickled files are never opened"):
        load_model(spec)


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name.startswith("vgg")])
def test_vgg_networks_are_bias_free_with_average_pooling(name):
    with torch.device("meta"):
        module = ARCHITECTURES[name]((3, 32, 32), 10)
    names = list(module.state_dict())
    assert names[0] == "features.0.weight" and names[-1].startswith("classifier.")
    assert not any(name.endswith("bias") for name in names) or name.endswith("-bn")
    assert not any(isinstance(part, nn.MaxPool2d) for part in module.modules())
    pools = sum(isinstance(part, nn.AvgPool2d) for part in module.modules())
    assert pools == {"vgg5": 2, "vgg9": 3, "vgg11": 4, "vgg13": 4}.get(name.removesuffix("-bn"), 5)


def test_vgg16_has_the_size_of_the_original():
    with torch.device("meta"):
        module = ARCHITECTURES["vgg16"]((3, 32, 32), 10)
    weights = sum(part.numel() for part in module.parameters())
    assert weights == 16_848_576


@pytest.mark.parametrize("name", ["vgg9", "vgg16", "vgg16-bn"])
def test_a_new_vgg_can_be_trained(name):
    """Its answers differ between images, and every layer has a gradient."""
    torch.manual_seed(0)
    module = ARCHITECTURES[name]((3, 32, 32), 10)
    logits = module(torch.rand(4, 3, 32, 32) * 2 - 1)
    nn.functional.cross_entropy(logits, torch.arange(4)).backward()
    assert logits.detach().std(0).mean() > 1e-2
    for weight in (part for part in module.parameters() if part.dim() > 1):
        assert weight.grad.norm() > 1e-4 * weight.detach().norm()


def test_an_image_too_small_is_said_so(tmp_path):
    module = ARCHITECTURES["vgg5"]((3, 8, 8), 10)
    save_file(module.state_dict(), tmp_path / "n.safetensors")
    assert any(
        isinstance(layer, AvgPool2d)
        for layer in load_model(tmp_path / "n.safetensors", arch="vgg5").layers
    )
    with pytest.raises(ModelError, match="larger images"):
        load_model(tmp_path / "n.safetensors", arch="vgg5", input_shape=(3, 2, 2))


FACTORY = """
import torch
from torch import nn

def net():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(24, 3))
    module.input_shape = (1, 5, 6)
    return module

def shapeless():
    return nn.Sequential(nn.Conv2d(1, 2, 3))

def broken():
    raise RuntimeError("no weights here")

def other():
    return 3

def program():
    raise SystemExit(3)

def talking():
    print("hello")
    return net()
"""


@pytest.fixture
def factories(tmp_path, monkeypatch):
    (tmp_path / "user_models.py").write_text(FACTORY)
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("factories")
def test_factory_in_a_package(tmp_path):
    (tmp_path / "users").mkdir()
    (tmp_path / "users" / "nets.py").write_text(FACTORY)
    assert load_model("users.nets:net").name == "net"
    assert load_model("users.nets:net", name="mine").name == "mine"


@pytest.mark.usefixtures("factories")
def test_factory_with_normalisation():
    graph = load_model("user_models:net", mean=[0.5], std=[0.25])
    assert graph.input_shape == (1, 5, 6) and graph.name == "net"
    assert isinstance(graph.layers[0], InputAffine)
    assert load_model("user_models:shapeless", input_shape=(1, 4, 4)).classes == 8


@pytest.mark.usefixtures("factories")
def test_what_a_factory_prints_leaves_the_standard_output_to_the_program(capsys):
    load_model("user_models:talking")
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "hello\n")


@pytest.mark.usefixtures("factories")
@pytest.mark.parametrize(
    "spec,said",
    [
        ("user_models:shapeless", "attribute `input_shape`"),
        ("user_models:broken", "RuntimeError: no weights here"),
        ("user_models:program", r"ends the program \(exit status 3\)"),
        ("user_models:other", "returns int"),
        ("user_models:absent", "AttributeError"),
        ("no_such_package:net", "ModuleNotFoundError"),
        (":net", "ValueError"),
    ],
)
def test_factories_that_cannot_be_used(spec, said):
    with pytest.raises(ModelError, match=said):
        load_model(spec)


@pytest.mark.usefixtures("factories")
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "mean,std,said",
    [
        ([0.1, 0.2], None, "--mean: found"),
        (None, [0.0], "positive numbers"),
        ([0.1], [float("nan")], "finite"),
        ([0.1], [0.1] * 3, "--std: found"),
        (None, [1e-320], r"1 / std \[inf\].*3.4e\+38"),
        ([1e308], [1e-308], r"1 / std \[1e\+308\](.|\n)*mean / std \[inf\]"),
        ([0.1, 0.2], [0.0], r"(?s)--mean: found \[0.1, 0.2\].*--std: found \[0.0\]"),
        ([123.7], [58.4], "pixels from 0 to 255"),
        ([123.7], None, "pixels from 0 to 255"),
    ],
)
def test_wrong_normalisation(mean, std, said):
    with pytest.raises(UsageError, match=said):
        load_model("user_models:net", mean=mean, std=std)


def test_importing_the_front_end_does_not_import_torch():
    packages = "compiler.frontend, compiler.passes, compiler.presets, compiler.ir.run_ann"
    code = f"import sys, {packages}; print('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert run.stdout.strip() == "False"

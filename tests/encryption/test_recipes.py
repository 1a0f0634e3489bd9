"""Recipes of the training: where their settings come from, and what their parts do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from audit.reconvert import reconvert
from compiler.config import CompileConfig, EncryptionConfig
from compiler.configure import configure
from compiler.encryption.dynamics import with_decays
from compiler.encryption.losses import answer_loss, distillation, relu_reading, told
from compiler.encryption.network import SlayerNetwork, Surrogate
from compiler.encryption.train import encrypt
from compiler.errors import UsageError
from compiler.ir.run_ann import run_ann
from compiler.quantization import quantize
from compiler.recipes import RECIPES
from sim.reference import simulate


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_its_settings(name: str) -> None:
    found = configure({"recipe": name}, None)
    assert found.encrypt.recipe == name
    expected = {**vars(EncryptionConfig()), **RECIPES[name].get("encrypt", {}), "recipe": name}
    assert vars(found.encrypt) == expected
    assert replace(found, encrypt=EncryptionConfig()) == CompileConfig()


def test_files_and_flags_go_over_the_recipe(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text('[encrypt]\nrecipe = "adversarial"\nepochs = 2\n')
    of_file = configure({"config": file}, None).encrypt
    assert (of_file.recipe, of_file.epochs) == ("adversarial", 2)
    assert of_file.current_decay == RECIPES["adversarial"]["encrypt"]["current_decay"]
    by_flag = configure({"config": file, "recipe": "paper"}, None).encrypt
    assert (by_flag.recipe, by_flag.epochs, by_flag.current_decay) == ("paper", 2, 4096)
    assert by_flag.surrogate == "linear"


def test_the_name_of_a_recipe_is_not_put_over_the_settings_of_another() -> None:
    """As config.toml of a compile has them: nothing of the recipe would be left."""
    file = {"encrypt": vars(configure({"recipe": "adversarial"}, None).encrypt)}
    file["encrypt"] = {name: value for name, value in file["encrypt"].items() if value is not None}
    assert configure({"config": file, "recipe": "adversarial"}, None).encrypt.epochs == 8
    with pytest.raises(UsageError, match=r"every setting of the recipe adversarial(.|\n)*epochs"):
        configure({"config": file, "recipe": "paper"}, None)


@pytest.mark.parametrize(
    "wrong",
    [{"schedule": "never"}, {"surrogate": "cubic"}, {"current_decay": 0}, {"voltage_decay": 4096},
     {"distill_share": 1.5}, {"reconversion_weight": -1.0}, {"recipe": "magic"},
     {"lowest_contrast": 0.0}, {"lowest_contrast": 1.1}],
)  # fmt: skip
def test_what_is_impossible_is_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        configure({"config": {"encrypt": wrong}}, None)


def test_the_reading_is_the_attacker_s(lesson: Any) -> None:
    """What the loss makes useless is what the audit reads, slow currents made up for."""
    slow = with_decays(lesson.converted, 2048, 300)
    images = lesson.synthetic.pixels(slice(0, 32))
    pixels = torch.from_numpy(images).permute(0, 2, 3, 1).contiguous()
    for name, clipped in (("relu", False), ("clipped_relu", True)):
        found = relu_reading(SlayerNetwork(slow, Surrogate()), pixels, clipped).detach().numpy()
        read = run_ann(reconvert(quantize(slow), name), images)  # type: ignore[arg-type]
        factor = float(found.std() / read.std())
        np.testing.assert_allclose(found, factor * read, rtol=2e-3, atol=2e-3 * np.abs(found).max())


def test_told_is_a_squared_correlation() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(500, 10, generator=generator)
    assert float(told(logits, -3 * logits + 2)) == pytest.approx(1, abs=1e-4)
    other = torch.randn(500, 10, generator=generator)
    assert float(told(logits, other)) == pytest.approx(1 / 9, abs=0.02)
    one = np.corrcoef(logits[0].numpy(), other[0].numpy())[0, 1] ** 2
    assert float(told(logits[:1], other[:1])) == pytest.approx(one, abs=1e-4)


def test_the_loss_of_the_answers_is_a_mixture() -> None:
    generator = torch.Generator().manual_seed(1)
    logits, teacher = torch.randn(2, 20, 5, generator=generator)
    config = EncryptionConfig(distill_share=0.7, distill_temperature=20.0)
    by_class = torch.nn.functional.cross_entropy(logits, teacher.argmax(1))
    expected = 0.7 * distillation(logits, teacher, 20.0) + 0.3 * by_class
    assert float(answer_loss(logits, teacher, config)) == pytest.approx(float(expected), rel=1e-6)


def test_without_decays_nothing_changes(lesson: Any) -> None:
    assert with_decays(lesson.converted, 4096, 0) is lesson.converted


@pytest.mark.parametrize("decays", [(1024, 0), (4096, 256), (2048, 512)])
def test_decays_roughly_keep_the_rates(lesson: Any, decays: tuple[int, int]) -> None:
    slow = with_decays(lesson.converted, *decays)
    assert all((one.i_decay, one.v_decay) == decays for one in slow.layers[:-1])
    assert (slow.layers[-1].i_decay, slow.layers[-1].v_decay) == (4096, 0)
    images = lesson.synthetic.pixels(slice(0, 64))
    before, after = (
        [layer.spikes_n.mean() for layer in simulate(quantize(graph), images).layers[:-1]]
        for graph in (lesson.converted, slow)
    )
    for one, two in zip(before, after, strict=True):
        assert 0.4 * one < two < 1.6 * one


def test_the_reading_tells_less_after_training_against_it(lesson: Any) -> None:
    images = lesson.synthetic.pixels(lesson.synthetic.validation)
    teacher = torch.from_numpy(run_ann(lesson.ann, images))

    def read(weight: float) -> float:
        config = EncryptionConfig(
            epochs=6, batch=32, learning_rate=1e-2, hidden_weight=0.0, current_decay=2048,
            voltage_decay=512, reconversion_weight=weight, patience=6,
        )  # fmt: skip
        graph = encrypt(lesson.ann, lesson.converted, lesson.synthetic, config, 0).graph
        return float(told(torch.from_numpy(run_ann(reconvert(quantize(graph), "relu"), images)),
                          teacher))  # fmt: skip

    assert read(5.0) < 0.7 * read(0.0)

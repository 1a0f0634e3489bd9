"""What the spike-based training makes small."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from compiler.chip.execute import apply_synapses
from compiler.chip.fields import DECAY_ONE
from compiler.config import EncryptionConfig
from compiler.encryption.network import SlayerNetwork
from compiler.encryption.neuron import STATE_SCALE, constants_of

_TINY = 1e-6


def distillation(logits: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """temperature^2 * KL(teacher || student) of the softened outputs (Hinton et al. 2015)."""
    student = torch.log_softmax(logits / temperature, 1)
    target = torch.softmax(teacher / temperature, 1)
    divergence: torch.Tensor = functional.kl_div(student, target, reduction="batchmean")
    return temperature**2 * divergence


def answer_loss(
    logits: torch.Tensor, teacher: torch.Tensor, config: EncryptionConfig
) -> torch.Tensor:
    """m KD + (1 - m) CE with m = `config.distill_share`, CE to the ANN's first answer.

    The published code ends before this loss; that its labels are the ANN's answers is this
    project's choice: the class that an image was made for is often not the one it shows.
    """
    share = config.distill_share
    loss = logits.new_zeros(())
    if share > 0:
        loss = loss + share * distillation(logits, teacher, config.distill_temperature)
    if share < 1:
        loss = loss + (1 - share) * functional.cross_entropy(logits, teacher.argmax(1))
    return loss


def relu_reading(network: SlayerNetwork, images_nhwc: torch.Tensor, clipped: bool) -> torch.Tensor:
    """Logits (N, classes), up to a factor, of the weights read as an ordinary network.

    Each layer is y = max(0, gain W x + b) / threshold, at most 1 if `clipped`, with the rounded
    weights and gain = 4096 / iDecay: what an attacker gets who takes rates for activations
    (audit.reconvert).
    images_nhwc: (N, H, W, C) in [0, 1].
    """
    rates, drive = images_nhwc, images_nhwc
    blocks: Any = network.blocks
    for block in blocks:
        neuron = constants_of(block.neuron)
        drive = apply_synapses(rates, block.folded_weight(), block.geometry)
        gain = DECAY_ONE / (DECAY_ONE - neuron.keep_current)
        drive = gain * drive.reshape(len(rates), -1) + block.bias_per_neuron()
        if block.readout:
            break
        rates = torch.relu(drive / (neuron.threshold / STATE_SCALE))
        rates = rates.clamp(max=1) if clipped else rates
        channels, height, width = block.chip_shape
        rates = rates.reshape(-1, height, width, channels)
    return drive


def told(logits: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Mean squared correlation of two networks' logits over the classes of a sample, 0 to 1.

    0: they tell nothing of each other by a scale; 1: one is the other, up to scale, sign and
    offset.
    """
    products = _unit(logits) * _unit(teacher)
    return products.sum(1).square().mean()


def _unit(logits: torch.Tensor) -> torch.Tensor:
    centred = logits - logits.mean(1, keepdim=True)
    return centred / (centred.square().sum(1, keepdim=True) + _TINY).sqrt()


def reconversion(
    network: SlayerNetwork, images_nhwc: torch.Tensor, teacher: torch.Tensor
) -> torch.Tensor:
    """What the plain and the clipped reading of the weights tell of the ANN's logits, 0 to 1."""
    readings = [relu_reading(network, images_nhwc, clipped) for clipped in (False, True)]
    return torch.stack([told(reading, teacher) for reading in readings]).mean()

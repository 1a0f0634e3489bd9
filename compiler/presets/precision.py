"""What products in bfloat16 cost on this machine."""

from __future__ import annotations

import time

from compiler.ir.device import compute_device

_SHAPE, _FILTERS = (8, 64, 16, 16), (64, 64, 3, 3)
"""Of the convolution that is timed: a middle layer of a VGG, on few images."""

_ROUNDS = 3


def bfloat16_seconds() -> float:
    """Seconds of a convolution, forward and backward, in bfloat16 over those in float32.

    Half or less where the device has instructions for bfloat16; 5 to 20 where a processor has none
    and computes it piece by piece. The least of some runs each, in a tenth of a second to one.
    """
    times = {precise: [_seconds(precise) for _ in range(1 + _ROUNDS)] for precise in (True, False)}
    return min(times[False][1:]) / min(times[True][1:])


def _seconds(precise: bool) -> float:
    import torch
    from torch.nn.functional import conv2d

    device = compute_device()
    images = torch.ones(_SHAPE, device=device).to(memory_format=torch.channels_last)
    weight = torch.ones(_FILTERS, device=device, requires_grad=True)
    began = time.perf_counter()
    with torch.autocast(device.type, torch.bfloat16, enabled=not precise):
        outputs = conv2d(images.requires_grad_(), weight, padding=1)
    slopes = torch.autograd.grad(outputs.float().sum(), (images, weight))
    float(slopes[0].sum() + slopes[1].sum())  # waits for the GPU
    return time.perf_counter() - began

"""The judges' architectures: four kinds of network, none of them a preset's ANN.

They share no layer type above the first: batch-normalised convolutions without pooling, residual
blocks between max-pools, dense layers alone, attention over patches. What all of them take for a
class is then less likely to be an accident of one architecture. Each module has `features`, from
images (N, C, H, W) in [0, 1] to vectors (N, F), and `head`, from vectors to logits (N, K).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compiler.ir.geometry import Shape

SMALL_SIDE = 12
"""Images whose shorter side is at most this get a stride less and smaller patches."""


class JudgeNetwork(nn.Module):
    """features, then head; `features` is also what distances between images are measured in."""

    def __init__(self, features: nn.Module, width: int, classes: int) -> None:
        super().__init__()
        self.features = features
        self.head = nn.Linear(width, classes)
        self.width = width

    def forward(self, images_nchw: Tensor) -> Tensor:
        """Return logits (N, K)."""
        logits: Tensor = self.head(self.features(images_nchw))
        return logits


def conv_bn(input_shape: Shape, classes: int) -> JudgeNetwork:
    """Three convolutions with batch-norm (5 x 5, then 3 x 3 with stride), mean over places."""
    channels = input_shape[0]
    first = 1 if min(input_shape[1:]) <= SMALL_SIDE else 2
    features = nn.Sequential(
        *_conv_bn(channels, 24, 5, 1),
        *_conv_bn(24, 48, 3, first),
        *_conv_bn(48, 64, 3, 2),
        *_conv_bn(64, 64, 3, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    return JudgeNetwork(features, 64, classes)


def residual(input_shape: Shape, classes: int) -> JudgeNetwork:
    """Two residual blocks behind a max-pool each, group-norm, maximum over places."""
    features = nn.Sequential(
        nn.Conv2d(input_shape[0], 24, 3, padding=1),
        nn.MaxPool2d(2),
        _Residual(24),
        nn.Conv2d(24, 64, 1),
        nn.MaxPool2d(2),
        _Residual(64),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
    )
    return JudgeNetwork(features, 64, classes)


def perceptron(input_shape: Shape, classes: int) -> JudgeNetwork:
    """Two dense layers with layer-norm and GELU; it knows nothing of neighbourhood."""
    channels, height, width = input_shape
    hidden = 128
    features = nn.Sequential(
        nn.Flatten(),
        nn.Linear(channels * height * width, hidden),
        nn.LayerNorm(hidden),
        nn.GELU(),
        nn.Linear(hidden, 64),
        nn.LayerNorm(64),
        nn.GELU(),
    )
    return JudgeNetwork(features, 64, classes)


def patches(input_shape: Shape, classes: int) -> JudgeNetwork:
    """Attention between square patches, two blocks, mean over patches."""
    return JudgeNetwork(_Patches(input_shape, 64), 64, classes)


ARCHITECTURES = {
    "conv-bn": conv_bn,
    "residual": residual,
    "perceptron": perceptron,
    "patches": patches,
}
"""Name of a judge -> its factory, from input shape (C, H, W) and number of classes."""


def _conv_bn(before: int, after: int, kernel: int, stride: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=False)
    return convolution, nn.BatchNorm2d(after), nn.ReLU()


class _Residual(nn.Module):
    """y = x + conv(relu(norm(conv(relu(norm(x))))))"""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.GroupNorm(8, channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.GroupNorm(8, channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = inputs + self.branch(inputs)
        return outputs


class _Patches(nn.Module):
    def __init__(self, input_shape: Shape, width: int, blocks: int = 2) -> None:
        super().__init__()
        channels, height, across = input_shape
        side = 2 if min(height, across) <= SMALL_SIDE else 4
        self.embed = nn.Conv2d(channels, width, side, side)
        places = (height // side) * (across // side)
        self.place = nn.Parameter(0.02 * torch.randn(1, places, width))
        self.blocks = nn.ModuleList(_Attention(width) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)

    def forward(self, images_nchw: Tensor) -> Tensor:
        tokens = self.embed(images_nchw).flatten(2).transpose(1, 2) + self.place
        for block in self.blocks:
            tokens = block(tokens)
        vectors: Tensor = self.norm(tokens).mean(1)
        return vectors


class _Attention(nn.Module):
    """Pre-norm attention and a dense layer of twice the width, each added to its input."""

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.to_qkv = nn.Linear(width, 3 * width)
        self.merge = nn.Linear(width, width)
        self.dense = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 2 * width),
            nn.GELU(),
            nn.Linear(2 * width, width),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        size, places, width = tokens.shape
        parts = self.to_qkv(self.norm(tokens)).view(size, places, 3, self.heads, -1)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value)
        tokens = tokens + self.merge(mixed.transpose(1, 2).reshape(size, places, width))
        outputs: Tensor = tokens + self.dense(tokens)
        return outputs

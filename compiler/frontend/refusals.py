"""What cannot be compiled, and what to do instead; shared by all front ends."""

from __future__ import annotations

from typing import NamedTuple

from compiler.errors import Problem


class Refusal(NamedTuple):
    """What is allowed in place of something refused, and the remedy."""

    allowed: str
    remedy: str


_SUPPORTED = "conv, dense, ReLU, batch-norm, average pooling, flatten, normalisation, padding"

REFUSALS = {
    "max-pool": Refusal(
        "average pooling",
        "replace it by average pooling or by a convolution with stride, and train again",
    ),
    "residual": Refusal(
        "a chain of layers",
        "two branches cannot be joined in a NetX file; "
        "train a network without skip connections (VGG style)",
    ),
    "concat": Refusal(
        "a chain of layers", "train a network without concatenated branches (VGG style)"
    ),
    "transposed": Refusal(
        "ordinary convolutions", "a classifier needs no transposed convolution; leave it out"
    ),
    "activation": Refusal(
        "ReLU (or ReLU6)", "replace it by ReLU and train again; only ReLU becomes a firing rate"
    ),
    "sigmoid-end": Refusal(
        "logits at the end", "leave it out: the largest output stays the same class"
    ),
    "recurrent": Refusal(
        "feed-forward layers", "recurrent layers cannot be converted; use convolutions"
    ),
    "normalisation": Refusal(
        "batch-norm with running statistics", "replace it by batch-norm and train again"
    ),
    "attention": Refusal("conv and dense layers", "attention cannot be converted; use a conv net"),
    "resampling": Refusal("strided convolution, average pooling", "leave the resampling out"),
    "quantized": Refusal("float weights", "export the float network; the compiler quantizes it"),
    "axes": Refusal("two-dimensional convolutions", "reshape the network to 2-D convolutions"),
    "dynamic": Refusal("fixed shapes but for the batch", "export with a fixed image size"),
    "branch": Refusal("a chain of layers", "remove the branch"),
    "unknown": Refusal(_SUPPORTED, "replace it by one of these, or leave it out, and train again"),
}

_KINDS = {
    "max-pool": ("maxpool", "adaptivemaxpool", "globalmaxpool", "max_pool", "fractionalmax"),
    "transposed": ("convtranspose", "conv_transpose", "convtransp"),
    "recurrent": ("lstm", "gru", "rnn", "scan", "loop"),
    "attention": ("attention", "transformer", "einsum"),
    "normalisation": (
        "layernorm", "layer_norm", "groupnorm", "group_norm", "instancenorm", "instance_norm",
        "localresponse", "lrn", "lpnorm", "rmsnorm",
    ),
    "activation": (
        "sigmoid", "tanh", "gelu", "silu", "swish", "mish", "elu", "selu", "leaky", "prelu",
        "softplus", "softsign", "hardswish", "hardsigmoid", "hardtanh", "rrelu", "thresholded",
        "softmax", "erf", "celu", "glu", "threshold", "clip", "clamp",
    ),
    "resampling": ("upsample", "resize", "interpolate", "pixelshuffle", "depthtospace"),
    "quantized": ("quantize", "qlinear", "integer"),
    "residual": ("sum",),
    "concat": ("concat", "cat", "stack"),
    "axes": ("conv1d", "conv3d", "avgpool1d", "avgpool3d"),
    "dynamic": ("if", "nonzero"),
}  # fmt: skip


def kind_of(operation: str) -> str:
    """Return the key of REFUSALS for an operation or class name, `unknown` where none fits."""
    plain = operation.lower()
    for kind, words in _KINDS.items():
        if any(plain == word or (len(word) > 3 and word in plain) for word in words):
            return kind
    return "unknown"


def refuse(layer: str, operation: str, kind: str | None = None, at_end: bool = False) -> Problem:
    """Return the problem that names `operation` in `layer` and a way out.

    at_end: whether nothing but the output follows; a sigmoid need only be left out there.
    """
    if at_end and operation.lower() == "sigmoid":
        kind = "sigmoid-end"
    refusal = REFUSALS[kind or kind_of(operation)]
    return Problem(layer, operation, refusal.allowed, refusal.remedy)

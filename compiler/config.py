"""Settings of the compile: one frozen dataclass a stage, validated when built."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from dataclasses import MISSING, dataclass, field, fields, replace
from typing import Any

from compiler.chip.fields import I_DECAY, TIMESTEP_CHOICES, V_DECAY
from compiler.errors import Problem, UsageError
from compiler.ir.snn import IMAGE_CODES
from compiler.recipes import DEFAULT_RECIPE, RECIPES

AUTO = "auto"
ALSO = "also"
"""Key of a field's metadata: values that a setting may have beside those of its type."""

TEXT, COUNT, NUMBER, SWITCH = "a text", "a whole number", "a number", "true or false"
KINDS = {str: TEXT, int: COUNT, float: NUMBER, bool: SWITCH}
"""Type of a setting -> what its value must be, in words."""

MOST_COUNT = 1_000_000_000
"""No machine holds so many images, nor ends so many steps; beyond it libraries fail in their own
words."""

POOL_WAYS = (AUTO, "fold", "neurons")
_POWERS = "a power of two, one of " + ", ".join(map(str, TIMESTEP_CHOICES))


_Check = tuple[bool, str, object, str]
"""Whether it holds, the setting, what was found, what is allowed."""


def _above_0(name: str, found: float, most: float) -> _Check:
    return 0 < found <= most, name, found, f"above 0, at most {most}"


def _from_0(name: str, found: float, most: float) -> _Check:
    return 0 <= found <= most, name, found, f"0..{most}"


def _count(name: str, found: int, least: int = 1) -> _Check:
    return least <= found <= MOST_COUNT, name, found, f"{least}..{MOST_COUNT}"


def _validate(where: str, checks: Iterable[_Check]) -> None:
    """Raise UsageError with every check that failed."""
    problems = [
        Problem(f"{where}.{name}", str(found), allowed, f"set {name} to a value that is allowed")
        for holds, name, found, allowed in checks
        if not holds
    ]
    if problems:
        raise UsageError("the settings do not fit", problems)


@dataclass(frozen=True)
class SynthesisConfig:
    """Images made from the ANN alone.

    Targets are Dirichlet samples, half with each concentration; an image's temperature is
    drawn log-uniformly between the two bounds, and each image starts from smooth random noise of
    its own grain, contrast and brightness. `smoothness`: standard deviation of the Gaussian that
    every step's change is smoothed with, in pixels of a 32 x 32 image; 0 for none.
    """

    count: int = 4096
    held_out: int = 512
    steps: int = 40
    learning_rate: float = 0.02
    concentrations: tuple[float, ...] = (1.0, 0.1)
    temperature_low: float = 0.3
    temperature_high: float = 1.5
    smoothness: float = 0.0
    batch: int = 512

    def __post_init__(self) -> None:
        _validate(
            "synthesize",
            [
                _count("count", self.count, 16),
                (0 < self.held_out < self.count, "held_out", self.held_out, "1..count - 1"),
                _count("steps", self.steps),
                _above_0("learning_rate", self.learning_rate, 1000),
                (
                    bool(self.concentrations) and all(0 < c <= 1000 for c in self.concentrations),
                    "concentrations",
                    self.concentrations,
                    "one or more numbers above 0, at most 1000",
                ),
                (
                    0 < self.temperature_low <= self.temperature_high,
                    "temperature_low",
                    self.temperature_low,
                    "above 0, at most temperature_high",
                ),
                _above_0("temperature_high", self.temperature_high, 1000),
                (0 <= self.smoothness <= 8, "smoothness", self.smoothness, "0..8"),
                _count("batch", self.batch),
            ],
        )


@dataclass(frozen=True)
class ConversionConfig:
    """Thresholds balanced on the synthetic images.

    A candidate's thresholds are a multiple, one of `threshold_scales`, of a percentile of each
    channel's activation; the candidate whose softmax outputs diverge least from the ANN's on
    the held-out synthetic images is kept. `images` bounds the images used for balancing;
    `bias_passes` is how often biases are corrected by the mean error that is left.
    With `timesteps` "auto" every number in `auto_timesteps` is tried, and the smallest kept
    whose agreement is within `auto_margin` of the best; see compiler.conversion.auto.
    `pools`: whether pools that can be folded are (`fold`), have neurons of their own
    (`neurons`), or whichever costs fewer operations while the agreement falls by at most
    `pool_margin` (`auto`); see compiler.pools.
    """

    timesteps: int | str = field(default=32, metadata={ALSO: (AUTO,)})
    auto_timesteps: tuple[int, ...] = (4, 8, 16, 32, 64)
    auto_margin: float = 0.02
    percentiles: tuple[float, ...] = (99.9,)
    threshold_scales: tuple[float, ...] = (0.7, 1.0, 1.5, 2.0, 3.0)
    bias_passes: int = 1
    pools: str = AUTO
    pool_margin: float = 0.01
    images: int = 512
    readout_margin: float = 4.0

    def __post_init__(self) -> None:
        _validate(
            "convert",
            [
                (
                    self.timesteps in (*TIMESTEP_CHOICES, AUTO),
                    "timesteps",
                    self.timesteps,
                    f"{AUTO}, or {_POWERS}",
                ),
                (
                    bool(self.auto_timesteps) and set(self.auto_timesteps) <= set(TIMESTEP_CHOICES),
                    "auto_timesteps",
                    self.auto_timesteps,
                    f"one or more, each {_POWERS}",
                ),
                (0 <= self.auto_margin < 1, "auto_margin", self.auto_margin, "0 or more, below 1"),
                (
                    bool(self.percentiles) and all(50 <= p <= 100 for p in self.percentiles),
                    "percentiles",
                    self.percentiles,
                    "one or more numbers in 50..100",
                ),
                (
                    bool(self.threshold_scales)
                    and all(0 < scale <= 1000 for scale in self.threshold_scales),
                    "threshold_scales",
                    self.threshold_scales,
                    "one or more numbers above 0, at most 1000",
                ),
                _count("bias_passes", self.bias_passes, 0),
                (self.pools in POOL_WAYS, "pools", self.pools, "one of " + ", ".join(POOL_WAYS)),
                (0 <= self.pool_margin < 1, "pool_margin", self.pool_margin, "0 or more, below 1"),
                _count("images", self.images, 16),
                (
                    1.5 <= self.readout_margin <= 64,
                    "readout_margin",
                    self.readout_margin,
                    "1.5..64",
                ),
            ],
        )

    @property
    def most_timesteps(self) -> int:
        """T, or the largest number that is tried where T is to be chosen."""
        return max(self.auto_timesteps) if isinstance(self.timesteps, str) else self.timesteps


@dataclass(frozen=True)
class EncryptionConfig:
    """Spike-based training with SLAYER blocks, distilling from the ANN.

    The loss is m KD + (1 - m) CE: KD the divergence from the ANN's softened output at
    `distill_temperature`, CE the cross-entropy to the ANN's answer, m = `distill_share`; plus
    `hidden_weight` times the squared error of the hidden firing rates against the ANN's
    activations, plus `reconversion_weight` times what the weights, read as a ReLU network,
    still tell of the ANN's logits (compiler.encryption.losses).
    `schedule`: half a cosine, or a tenth of the learning rate from 50 % and 70 % on (`steps`).
    `learning_rate_unit`: `weights` multiplies the learning rate by the root mean square of each
    layer's weights before training, in units of 64 mantissas and 0.001 at least, for its weights
    and biases (Adafactor's relative step, Shazeer and Stern 2018); `absolute` takes it as it is.
    `surrogate_height`: 0 for 2 / T. `current_decay` and `voltage_decay` are those of hidden
    neurons, of 4096; with 4096 and 0 they integrate without leak.
    `lowest_contrast`: an image's differences from its mean are multiplied by a number drawn from
    here to 1, a training image's each time anew, a held-out one's once, and the ANN is asked about
    the image that comes out.
    `memory_gb`: what the voltages and spikes of a training step may take, in 10^9 bytes; a batch
    that needs more runs in parts whose gradients are added up.
    `recipe` only names where the settings came from: see compiler.recipes.
    """

    recipe: str = DEFAULT_RECIPE
    epochs: int = 4
    batch: int = 64
    learning_rate: float = 1e-3
    learning_rate_unit: str = "absolute"
    schedule: str = "cosine"
    distill_temperature: float = 2.0
    distill_share: float = 1.0
    hidden_weight: float = 1.0
    reconversion_weight: float = 0.0
    surrogate: str = "exponential"
    surrogate_width: float = 1.0
    surrogate_height: float = 0.0
    current_decay: int = 4096
    voltage_decay: int = 0
    patience: int = 3
    lowest_contrast: float = 1.0
    memory_gb: float = 4.0

    def __post_init__(self) -> None:
        _validate(
            "encrypt",
            [
                (self.recipe in RECIPES, "recipe", self.recipe, "one of " + ", ".join(RECIPES)),
                _count("epochs", self.epochs),
                _count("batch", self.batch),
                _above_0("learning_rate", self.learning_rate, 1000),
                _above_0("distill_temperature", self.distill_temperature, 1000),
                (0 <= self.distill_share <= 1, "distill_share", self.distill_share, "0 to 1"),
                _from_0("hidden_weight", self.hidden_weight, 1_000_000),
                _from_0("reconversion_weight", self.reconversion_weight, 1_000_000),
                _above_0("surrogate_width", self.surrogate_width, 1000),
                _from_0("surrogate_height", self.surrogate_height, 1000),
                _count("patience", self.patience),
                (
                    0 < self.lowest_contrast <= 1,
                    "lowest_contrast",
                    self.lowest_contrast,
                    "above 0, at most 1",
                ),
                _above_0("memory_gb", self.memory_gb, 1_000_000),
                *self._choices(),
            ],
        )

    def _choices(self) -> list[_Check]:
        decays = (
            ("current_decay", I_DECAY),
            ("voltage_decay", V_DECAY),
        )
        named = (
            ("schedule", SCHEDULES),
            ("surrogate", SURROGATES),
            ("learning_rate_unit", LEARNING_RATE_UNITS),
        )
        return [
            (getattr(self, name) in names, name, getattr(self, name), "one of " + ", ".join(names))
            for name, names in named
        ] + [
            (
                limits.low <= getattr(self, name) <= limits.high,
                name,
                getattr(self, name),
                f"{limits.low}..{limits.high}",
            )
            for name, limits in decays
        ]


SCHEDULES = ("cosine", "steps")
SURROGATES = ("exponential", "linear")
LEARNING_RATE_UNITS = ("absolute", "weights")


@dataclass(frozen=True)
class EncodingConfig:
    """The input code; see compiler.chip.encoding."""

    code: str = "rate"
    x_min: float = 0.0

    def __post_init__(self) -> None:
        codes = IMAGE_CODES
        _validate(
            "encoding",
            [
                (self.code in codes, "code", self.code, "one of " + ", ".join(codes)),
                (0 <= self.x_min < 1, "x_min", self.x_min, "0 or more, below 1"),
            ],
        )


@dataclass(frozen=True)
class CompileConfig:
    """All settings that decide the bytes of model.net, beside the ANN."""

    seed: int = 0
    encoding: EncodingConfig = field(default_factory=EncodingConfig)
    synthesize: SynthesisConfig = field(default_factory=SynthesisConfig)
    convert: ConversionConfig = field(default_factory=ConversionConfig)
    encrypt: EncryptionConfig = field(default_factory=EncryptionConfig)

    def __post_init__(self) -> None:
        _validate("compile", [(0 <= self.seed < 2**63, "seed", self.seed, "0 up to 2**63 - 1")])


def with_overrides(config: CompileConfig, overrides: dict[str, Any]) -> CompileConfig:
    """`config` with values from nested tables, as a TOML file gives them.

    Unknown names, wrong types and values out of range, of all tables, are listed together in
    a UsageError.
    """
    problems: list[Problem] = []
    result = _overridden(config, overrides, "compile", problems)
    if problems:
        raise UsageError("the configuration has settings that do not exist or do not fit", problems)
    return result  # type: ignore[no-any-return]


def _overridden(table: Any, values: dict[str, Any], where: str, problems: list[Problem]) -> Any:
    """`table` with the values that fit; what does not is added to `problems`."""
    known = {entry.name: entry for entry in fields(table)}
    changes: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            allowed = "one of " + ", ".join(sorted(known))
            problems.append(Problem(where, f"setting {name}", allowed, "correct or remove it"))
        elif hasattr(getattr(table, name), "__dataclass_fields__"):
            if isinstance(value, dict):
                changes[name] = _overridden(getattr(table, name), value, name, problems)
            else:
                problems.append(Problem(where, f"{name} = {value}", "a table", f"write [{name}]"))
        else:
            changes[name] = _setting(table, known[name], value, f"{where}.{name}", problems)
    try:
        return replace(table, **changes)
    except UsageError as error:
        problems += error.problems
        return table


def _setting(table: Any, entry: Any, value: Any, where: str, problems: list[Problem]) -> Any:
    """The value as the field takes it; the present one where its type does not fit."""
    also = entry.metadata.get(ALSO, ())
    if value in also:
        return value
    current = getattr(table, entry.name)
    like = current if entry.default is MISSING else entry.default
    try:
        return _converted(like, value)
    except TypeError:
        allowed = " or ".join((_words(like), *(f'"{word}"' for word in also)))
        problems.append(Problem(where, _shown(value), allowed, f"write {allowed}"))
        return current


def _converted(like: Any, value: Any) -> Any:
    """The value in the type of `like`; TypeError where it has another."""
    if isinstance(like, tuple) and isinstance(value, list):
        return tuple(_converted(like[0], item) for item in value)
    if isinstance(like, float) and type(value) is int:
        return float(value) if abs(value) <= sys.float_info.max else math.inf
    if type(value) is not type(like):
        raise TypeError
    return value


def _words(like: Any) -> str:
    """What a value has to be, in words."""
    return f"a list such as {list(like)}" if isinstance(like, tuple) else KINDS[type(like)]


def _shown(value: Any) -> str:
    """The value as a file has it."""
    return str(value).lower() if isinstance(value, bool) else repr(value)

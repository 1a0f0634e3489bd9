"""Images made from the network alone: ours in batches against the published recipe, one by one.

The published recipe (PrivateSNN, Kim et al., AAAI 2022, and its code): every image alone starts
from uniform noise and takes 2,499 steps of Adam at a learning rate of 0.001; the loss is the
cross-entropy of softmax(logits / 20) to a Dirichlet sample; what is kept is clamped to [0, 1] and
rounded to 8 bits. The loss that is compared is that of the kept images, for the same samples.
"""

from __future__ import annotations

import statistics
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from benchmarks.common import alternate, limits_as_data, measure_limits, median_ratio

if TYPE_CHECKING:
    import torch

    from compiler.config import SynthesisConfig
    from compiler.ir.ann import AnnGraph

UNIT = "images per second"
TEMPERATURE = 20.0
OFFICIAL_STEPS = 2499
OFFICIAL_RATE = 1e-3


def measure(rounds: int, quick: bool) -> dict[str, Any]:
    """Images per second at equal or lower loss; `details` has the default settings as well."""
    graph = _network(quick)
    made, official_steps, judged = (32, 5, 4) if quick else (512, OFFICIAL_STEPS, 48)
    settings = {"ours": equal_loss(made), "defaults": _defaults(made)}
    bench = _Bench(graph, settings, official_steps)
    seconds = alternate(
        {"official": bench.official_image, **{name: bench.maker(name) for name in settings}},
        rounds,
        warm_up=0 if quick else 1,
    )
    images = {"official": 1, "ours": made, "defaults": made}
    rates = {name: images[name] / statistics.median(times) for name, times in seconds.items()}
    losses = bench.losses(judged)
    limits = measure_limits(quick=quick)
    reached = rates["ours"] * settings["ours"].steps * _macs_of_a_step(graph) / 1e9
    per_image = {name: [t / images[name] for t in times] for name, times in seconds.items()}
    return {
        "ours": rates["ours"],
        "peers": {"official": rates["official"]},
        "unit": UNIT,
        "roofline_fraction": reached / limits.convolution_float32,
        "roofline": "of a float32 convolution",
        "notes": _notes(losses),
        "details": {
            "network": graph.name,
            "official": {"steps": official_steps, "learning_rate": OFFICIAL_RATE},
            "settings": {name: asdict(config) for name, config in settings.items()},
            "rates": rates,
            "speedup_of_the_defaults": rates["defaults"] / rates["official"],
            "seconds_per_image": per_image,
            "times_slower_same_round": median_ratio(per_image["official"], per_image["ours"]),
            "loss_images": judged,
            "losses": losses,
            "limits": limits_as_data(limits),
        },
    }


def _notes(losses: dict[str, dict[str, float]]) -> list[str]:
    loss = {name: row["at_20"] for name, row in losses.items()}
    told = f"loss {loss['ours']:.3f} of ours, {loss['official']:.3f} of the published recipe"
    if loss["ours"] <= loss["official"]:
        return [told]
    return [f"{told}: not equal, so that the figures do not compare"]


def _network(quick: bool) -> AnnGraph:
    from compiler.passes import lower
    from compiler.presets import load_preset

    return lower(load_preset("digits" if quick else "fashion-mnist")).graph


def equal_loss(count: int) -> SynthesisConfig:
    """The published loss, from this project's start images, in few large steps."""
    from compiler.config import SynthesisConfig

    return SynthesisConfig(
        count=count, held_out=1, steps=12, learning_rate=0.2, concentrations=(1.0,),
        temperature_low=TEMPERATURE, temperature_high=TEMPERATURE,
    )  # fmt: skip


def _defaults(count: int) -> SynthesisConfig:
    from compiler.config import SynthesisConfig

    return SynthesisConfig(count=count, held_out=1, concentrations=(1.0,))


def official_images(
    module: torch.nn.Module,
    shape: tuple[int, int, int],
    targets: torch.Tensor,
    generator: torch.Generator,
    steps: int = OFFICIAL_STEPS,
) -> torch.Tensor:
    """The published recipe's images (N, C, H, W) for soft targets (N, classes), in 8 bits of 0..1.

    Images do not meet each other in the loss or in Adam, so that a batch of them gives what
    each alone gives; only one alone is ever timed.
    """
    import torch

    images = torch.rand(len(targets), *shape, generator=generator)
    images.requires_grad_()
    optimizer = torch.optim.Adam([images], OFFICIAL_RATE)
    for _ in range(steps):
        optimizer.zero_grad()
        log_probabilities = torch.log_softmax(module(images) / TEMPERATURE, 1)
        (-(targets * log_probabilities).sum()).backward()
        optimizer.step()
    return (images.detach().clamp(0, 1) * 255).round() / 255


class _Bench:
    """Both recipes on one network. Ours and the defaults draw the same Dirichlet samples."""

    def __init__(
        self, graph: AnnGraph, settings: dict[str, SynthesisConfig], official_steps: int
    ) -> None:
        import torch

        from compiler.ir.run_ann import to_module

        self.graph, self.settings, self.steps = graph, settings, official_steps
        self.module = to_module(graph).requires_grad_(False)
        self.one_target = torch.full((1, graph.classes), 1 / graph.classes)
        self.generator = torch.Generator().manual_seed(0)
        self.made: dict[str, Any] = {}

    def maker(self, name: str) -> Any:
        """A call that makes a set of images by one of our settings."""
        from compiler.synthesis import synthesize

        def make() -> None:
            self.made[name] = synthesize(self.graph, self.settings[name], seed=0)

        return make

    def official_image(self) -> None:
        """One image by the published recipe, start to end."""
        self._official(self.one_target, self.generator)

    def _official(self, targets: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return official_images(self.module, self.graph.input_shape, targets, generator, self.steps)

    def losses(self, count: int) -> dict[str, dict[str, float]]:
        """Mean cross-entropy of the kept images to the same `count` samples, and its floor.

        at_20: the loss of the published recipe; at_1: the same for softmax(logits), the
        network's own answer; floor: the samples' entropy, which no image can go below.
        """
        import torch

        targets = torch.from_numpy(self.made["ours"].soft_targets_nk[:count])
        official = self._official(targets, torch.Generator().manual_seed(1))
        images = {"official": official} | {
            name: torch.from_numpy(made.images_nchw[:count]).float() / 255
            for name, made in self.made.items()
        }
        floor = float(-(targets * targets.clamp_min(1e-30).log()).sum(1).mean())
        return {
            name: {
                "at_20": self._loss(stack, targets, TEMPERATURE),
                "at_1": self._loss(stack, targets, 1.0),
                "floor": floor,
            }
            for name, stack in images.items()
        }

    def _loss(self, images: torch.Tensor, targets: torch.Tensor, temperature: float) -> float:
        import torch

        with torch.inference_mode():
            log_probabilities = torch.log_softmax(self.module(images) / temperature, 1)
            return float(-(targets * log_probabilities).sum(1).mean())


def _macs_of_a_step(graph: AnnGraph) -> int:
    """Multiply-accumulates of an image's forward run and of the gradient of its pixels."""
    from compiler.ir.geometry import products
    from compiler.ir.stages import stages

    return sum(2 * products(stage.synapse.weight, stage.shape) for stage in stages(graph))

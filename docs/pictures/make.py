"""Draw the pictures of the pages: `uv run python docs/pictures/make.py`.

What a picture shows of the method is computed by the package itself: the neuron by
compiler.chip.neuron, the codes by compiler.chip.encoding, the ranges from compiler.chip.fields.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np

from compiler.chip.encoding import encode
from compiler.chip.fields import (
    BIAS_MANT,
    HIDDEN_V_TH_MANT,
    READOUT_V_TH_MANT,
    STATE_LIMIT,
    STATE_SHIFT,
    WEIGHT,
)
from compiler.chip.neuron import run_neurons
from compiler.encryption.network import Surrogate
from compiler.ir.chip import CubaFields
from compiler.ir.snn import Encoding

FOLDER = Path(__file__).parent
STYLE = """
.back{fill:#ffffff}.box{fill:#eef3fb;stroke:#2f6fd0}.house{fill:none;stroke:#c2532d;
stroke-dasharray:6 4}.out{fill:#e6f5ee;stroke:#1f8f6b}.line{fill:none;stroke:#2f6fd0;
stroke-width:2}.second{fill:none;stroke:#d07a1f;stroke-width:2}.third{fill:none;stroke:#1f9a8a;
stroke-width:2}.grid{fill:none;stroke:#dcdfe4}.dash{stroke:#c2532d;stroke-dasharray:5 4;fill:none}
.mark{fill:#2f6fd0}.arrow{stroke:#5c6675;stroke-width:1.5;fill:none}.head{fill:#5c6675}
text{fill:#1d2430;font:13px system-ui,sans-serif}.soft{fill:#5c6675;font-size:12px}
.warm{fill:#c2532d}.bold{font-weight:600;font-size:12.5px}
@media (prefers-color-scheme:dark){.back{fill:#1d2229}.box{fill:#24344d;stroke:#6ea3f5}
.house{stroke:#ef8257}.out{fill:#1d3d33;stroke:#49c79c}.line{stroke:#6ea3f5}
.second{stroke:#eda257}.third{stroke:#4cc4b3}.grid{stroke:#343b46}.dash{stroke:#ef8257}
.mark{fill:#6ea3f5}.arrow{stroke:#9da8b8}.head{fill:#9da8b8}text{fill:#e8ebf0}
.soft{fill:#9da8b8}.warm{fill:#ef8257}}
""".replace("\n", "")


class Picture:
    """An SVG with a ground of its own, so that it reads well on a light and on a dark page."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self.size = (width, height)
        self.title = title
        self.parts: list[str] = []

    def text(self, x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> None:
        """One line of words."""
        self.parts.append(
            f'<text x="{x:g}" y="{y:g}" class="{kind}" text-anchor="{anchor}">'
            f"{escape(words)}</text>"
        )

    def box(
        self, x: float, y: float, w: float, h: float, lines: Sequence[str], kind: str = "box"
    ) -> None:
        """A rounded box with lines in its middle, the first of them bold."""
        self.rect(x, y, w, h, kind, round_by=8)
        top = y + h / 2 - 8 * (len(lines) - 1) + 4
        for i, words in enumerate(lines):
            self.text(x + w / 2, top + 16 * i, words, "soft" if i else "bold", "middle")

    def rect(self, x: float, y: float, w: float, h: float, kind: str, round_by: int = 0) -> None:
        """A rectangle."""
        corner = f' rx="{round_by}"' if round_by else ""
        self.parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" class="{kind}"{corner}/>'
        )

    def lines(self, points: Sequence[tuple[float, float]], kind: str = "line") -> None:
        """A line through points."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(f'<polyline points="{path}" class="{kind}"/>')

    def arrow(self, x0: float, y0: float, x1: float, y1: float) -> None:
        """A straight arrow."""
        self.lines([(x0, y0), (x1, y1)], "arrow")
        angle = math.atan2(y1 - y0, x1 - x0)
        wings = [
            (x1 - 9 * math.cos(angle + turn), y1 - 9 * math.sin(angle + turn))
            for turn in (0.4, -0.4)
        ]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in [(x1, y1), *wings])
        self.parts.append(f'<polygon points="{path}" class="head"/>')

    def __str__(self) -> str:
        width, height = self.size
        ground = f'<rect width="{width}" height="{height}" rx="10" class="back"/>'
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" role="img"><title>{escape(self.title)}</title>'
            f"<style>{STYLE}</style>{ground}\n" + "\n".join(self.parts) + "\n</svg>\n"
        )


def flow() -> Picture:
    """What goes in, what stays in the house, what leaves it."""
    picture = Picture(720, 300, "From a trained network to a file that may leave the house")
    picture.rect(12, 34, 500, 252, "house", round_by=12)
    picture.text(26, 26, "in the house; no training image is read on the way", "warm")
    picture.box(24, 60, 128, 56, ["trained network", "ANN"])
    picture.box(30, 190, 120, 56, ["private images", "never opened"], "house")
    steps = ["synthesize", "convert", "train", "round"]
    for i, (name, what) in enumerate(
        zip(steps, ["images", "thresholds", "in spikes", "integers"], strict=True)
    ):
        x = 186 + (i % 2) * 160
        y = 60 + (i // 2) * 90
        picture.box(x, y, 120, 56, [name, what])
    picture.arrow(152, 88, 184, 88)
    picture.arrow(306, 88, 344, 88)
    picture.lines([(406, 116), (406, 133), (246, 133)], "arrow")
    picture.arrow(246, 133, 246, 148)
    picture.arrow(306, 178, 344, 178)
    picture.box(346, 234, 120, 40, ["proof"])
    picture.arrow(406, 206, 406, 232)
    picture.arrow(466, 254, 556, 254)
    picture.box(558, 226, 140, 56, ["model.net", "may leave"], "out")
    picture.box(558, 60, 140, 56, ["report", "stays"], "house")
    picture.lines([(466, 246), (530, 246), (530, 88)], "arrow")
    picture.arrow(530, 88, 556, 88)
    return picture


def neuron() -> Picture:
    """Voltage of one neuron: it adds, fires above its threshold, and falls to 0."""
    steps, threshold = 32, 201
    current = np.zeros((steps, 1, 1), np.int32)
    current[1::3] = 90
    current[2::7] += 64
    fields = CubaFields(threshold)
    run = run_neurons(current, np.zeros(1, np.int32), fields, traces=True)
    assert run.v_tnm is not None
    before = run.v_tnm[:, 0, 0] / (1 << STATE_SHIFT)
    spikes = run.spikes_tnm[:, 0, 0]
    picture = Picture(720, 300, "Voltage of an integrate-and-fire neuron over 32 steps")
    left, top, width, height, most = 60, 30, 630, 190, 280

    def place(step: float, value: float) -> tuple[float, float]:
        return left + width * step / steps, top + height * (1 - value / most)

    picture.lines([place(0, 0), place(steps, 0)], "grid")
    picture.lines([place(0, threshold), place(steps, threshold)], "dash")
    picture.text(left - 8, place(0, threshold)[1] + 4, str(threshold), "soft", "end")
    picture.text(left - 8, place(0, 0)[1] + 4, "0", "soft", "end")
    picture.text(left, 20, "voltage, in mantissas; dashed: the threshold vThMant", "soft")
    points, level = [place(0, 0)], 0.0
    for step in range(steps):
        points += [place(step, level), place(step, float(before[step]))]
        level = 0.0 if spikes[step] else float(before[step])
        points += [place(step + 1, float(before[step])), place(step + 1, level)]
    picture.lines(points)
    for step in range(steps):
        x = place(step, 0)[0]
        if current[step, 0, 0]:
            picture.rect(x, 240, 6, 14, "mark")
        if spikes[step]:
            picture.rect(x, 264, 6, 14, "head")
    picture.text(left - 8, 252, "in", "soft", "end")
    picture.text(left - 8, 276, "out", "soft", "end")
    picture.text(left + width, 294, "32 steps", "soft", "end")
    return picture


def codes() -> Picture:
    """The three input codes for pixels of growing brightness."""
    steps = 32
    pixels = np.linspace(0, 1, 9, dtype=np.float32)
    picture = Picture(720, 330, "Three input codes for nine pixels over 32 steps")
    for part, code in enumerate(("rate", "poisson", "latency")):
        encoding = Encoding(code, 0, 0.0)
        spikes = encode(pixels.reshape(1, 1, 1, -1), steps, encoding)[:, 0, 0, 0]
        left = 60 + 225 * part
        picture.text(left, 24, code, "bold")
        for row, pixel in enumerate(pixels):
            y = 40 + 29 * row
            picture.rect(left, y, 6 * steps, 22, "grid")
            if part == 0:
                picture.text(left - 8, y + 16, f"{pixel:.3g}", "soft", "end")
            for step in np.flatnonzero(spikes[:, row]):
                picture.rect(left + 6 * int(step) + 1, y + 3, 4, 16, "mark")
        picture.text(left + 6 * steps, 318, "32 steps", "soft", "end")
    picture.text(8, 318, "pixel", "soft")
    return picture


def staircase() -> Picture:
    """Firing rate of a neuron under constant drive: a staircase under the ReLU."""
    picture = Picture(720, 330, "Firing rate against constant drive, with and without half a spike")
    left, top, width, height = 60, 24, 400, 260
    steps, threshold = 32, 2047
    drives = np.linspace(0, 1, 401)

    def place(x: float, y: float) -> tuple[float, float]:
        return left + width * x, top + height * (1 - y)

    for i in range(5):
        picture.lines([place(0, i / 4), place(1, i / 4)], "grid")
        picture.text(left - 8, place(0, i / 4)[1] + 4, f"{i / 4:g}", "soft", "end")
        picture.text(place(i / 4, 0)[0], top + height + 18, f"{i / 4:g}", "soft", "middle")
    picture.text(left + width, top + height + 36, "drive a step, in thresholds", "soft", "end")
    picture.text(left, 16, "spikes a step", "soft")
    picture.lines([place(0, 0), place(1, 1)], "dash")
    for owed, kind in ((0.0, "line"), (0.5, "second")):
        current = np.rint((drives + owed / steps) * threshold).astype(np.int32)
        run = run_neurons(
            np.tile(current, (steps, 1, 1)),
            np.zeros(len(drives), np.int32),
            CubaFields(threshold),
        )
        rate = run.spikes_tnm.sum(0)[0] / steps
        picture.lines([place(x, y) for x, y in zip(drives, rate, strict=True)], kind)
    legend = ("dash", "ReLU"), ("line", "hard reset, T = 32"), ("second", "with half a spike more")
    for i, (kind, words) in enumerate(legend):
        y = 60 + 28 * i
        picture.lines([(490, y), (520, y)], kind)
        picture.text(530, y + 4, words)
    return picture


def synthesis() -> Picture:
    """From the last layer's weights to an image."""
    picture = Picture(720, 210, "Images from the trained network alone")
    names = [
        ["last layer", "one row a class"],
        ["similarity", "cosine of rows"],
        ["soft target", "Dirichlet sample"],
        ["Adam on pixels", "clamped to 0..1"],
        ["image", "and its logits"],
    ]
    for i, lines in enumerate(names):
        x = 14 + 142 * i
        picture.box(x - 6, 40, 128, 56, lines, "out" if i == 4 else "box")
        if i:
            picture.arrow(x - 20, 68, x - 8, 68)
    picture.box(286, 136, 130, 56, ["random numbers", "from the seed"])
    picture.box(440, 136, 130, 56, ["trained network", "gives the gradient"])
    picture.arrow(351, 136, 351, 98)
    picture.arrow(499, 136, 499, 98)
    picture.arrow(398, 136, 446, 98)
    picture.text(14, 24, "no data set is opened at any of these steps", "warm")
    return picture


def surrogate() -> Picture:
    """The stand-in for the derivative of a spike."""
    picture = Picture(720, 280, "A spike's surrogate gradient against the voltage")
    left, top, width, height = 60, 24, 400, 210
    given = Surrogate()
    v = np.linspace(-1, 3, 401)
    bump = np.exp(-np.abs(v - 1) / given.width)

    def place(x: float, y: float) -> tuple[float, float]:
        return left + width * (x + 1) / 4, top + height * (1 - y / 1.1)

    for y in (0.0, 0.5, 1.0):
        picture.lines([place(-1, y), place(3, y)], "grid")
    for x in (-1, 0, 1, 2, 3):
        picture.text(place(x, 0)[0], top + height + 18, str(x), "soft", "middle")
    picture.text(left + width, top + height + 36, "voltage, in thresholds", "soft", "end")
    picture.lines([place(-1, 0), place(1, 0), place(1, 1), place(3, 1)], "dash")
    picture.lines([place(x, y) for x, y in zip(v, bump, strict=True)])
    for i, (kind, words) in enumerate(
        (("dash", "forward: spike or none"), ("line", "backward: its shape"))
    ):
        y = 60 + 28 * i
        picture.lines([(490, y), (520, y)], kind)
        picture.text(530, y + 4, words)
    return picture


def ranges() -> Picture:
    """Which integers the chip holds."""
    picture = Picture(720, 190, "Integers that the chip holds")
    rows = (
        ("weight", WEIGHT.low, WEIGHT.high, "steps of 2"),
        ("threshold", HIDDEN_V_TH_MANT.low, HIDDEN_V_TH_MANT.high, "odd"),
        ("bias", BIAS_MANT.low, BIAS_MANT.high, "steps of 2"),
        ("read-out threshold", READOUT_V_TH_MANT, READOUT_V_TH_MANT, "one value: it must not fire"),
        ("u and v", -STATE_LIMIT, STATE_LIMIT - 1, "u wraps, v is clipped"),
    )
    for i, (name, low, high, note) in enumerate(rows):
        y = 24 + 32 * i
        bits = math.log2(max(abs(low), high))
        picture.text(150, y + 13, name, "bold", "end")
        picture.rect(160, y, 10 * bits, 18, "mark")
        span = f"{low:,} .. {high:,}" if low != high else f"{high:,}"
        picture.text(170 + 10 * bits, y + 13, f"{span}   ({note})", "soft")
    picture.text(160, 184, "length of a bar: bits of the largest size", "soft")
    return picture


def proof() -> Picture:
    """The file and the network it was made from in three simulators, every spike compared."""
    picture = Picture(720, 230, "Every spike compared in three simulators")
    picture.box(14, 18, 140, 52, ["trained network", "before rounding"])
    picture.box(14, 122, 140, 56, ["model.net", "read back"], "out")
    names = (
        ["SLAYER", "stock lava-dl"],
        ["integer simulator", "this project"],
        ["Lava", "fixed point, on the CPU"],
    )
    for i, lines in enumerate(names):
        y = 18 + 70 * i
        picture.box(220, y, 180, 52, lines)
        picture.arrow(154, 150 if i else 44, 218, y + 26)
        picture.arrow(400, y + 26, 478, 114)
    picture.box(480, 86, 220, 56, ["every spike equal?", "layer, step, neuron"])
    picture.text(480, 168, "yes: the file keeps its name", "soft")
    picture.text(480, 188, "no: model.net.rejected, status 1", "warm")
    return picture


PICTURES: dict[str, Callable[[], Picture]] = {
    "flow": flow,
    "neuron": neuron,
    "codes": codes,
    "staircase": staircase,
    "synthesis": synthesis,
    "surrogate": surrogate,
    "ranges": ranges,
    "proof": proof,
}


def main(folder: Path = FOLDER) -> None:
    """Write all pictures into a folder."""
    for name, draw in PICTURES.items():
        (folder / f"{name}.svg").write_text(str(draw()), encoding="utf-8")


if __name__ == "__main__":
    main()

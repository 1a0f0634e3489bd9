"""Small SVG drawings, made as text. Colours come from the page's style sheet by class.

Every function returns safe markup: numbers are formatted here, words are escaped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import ceil, floor, log10
from typing import Any

from markupsafe import Markup, escape

COLOURS = 8
"""Number of series colours in the style sheet, s0 to s7."""

_CELL = 14
_CELLS_A_ROW = 20
_PLOT = (44, 10, 306, 150)
"""Left, top, width and height of a plot inside a picture of 360 x 200."""


def bar(share: float, series: int = 0) -> Markup:
    """A horizontal bar filling `share` (0..1) of its width."""
    width = 100 * min(max(share, 0.0), 1.0)
    return _svg(
        100,
        10,
        f'<rect class="track" width="100" height="10"/>'
        f'<rect class="s{series % COLOURS}" width="{width:.2f}" height="10"/>',
        stretch=True,
    )


def bar_row(
    name: str, share: float | None, value: str, small: str = "", series: int = 0
) -> dict[str, Any]:
    """One line of a list of bars: its name, a small remark, the bar and a number in words."""
    drawn = Markup("") if share is None else bar(share, series)
    return {"name": name, "small": small, "drawn": drawn, "value": value}


def gain_bar(gain: float, most: float) -> Markup:
    """A bar from the middle (1 x) to the right for less energy, to the left for more.

    Logarithmic; `most` is the largest factor either way, at the border.
    """
    reach = max(log10(max(most, 1.0)), 0.01)
    length = 50 * min(abs(log10(gain)) / reach, 1.0)
    start, colour = (50.0, "good") if gain >= 1 else (50.0 - length, "bad")
    return _svg(
        100,
        10,
        f'<rect class="track" width="100" height="10"/>'
        f'<rect class="{colour}" x="{start:.2f}" width="{length:.2f}" height="10"/>'
        '<rect class="axis" x="49.8" width="0.4" height="10"/>',
        stretch=True,
    )


def core_map(cores: Sequence[Mapping[str, Any]], limits: Mapping[str, Mapping[str, Any]]) -> Markup:
    """One square a core, coloured by layer, filled from below by its fullest resource."""
    series = {name: i for i, name in enumerate(dict.fromkeys(use["layer"] for use in cores))}
    rows = -(-len(cores) // _CELLS_A_ROW) or 1
    parts = []
    for i, use in enumerate(cores):
        row, column = divmod(i, _CELLS_A_ROW)
        share = _fullest(use, limits)
        x, y, side = column * _CELL, row * _CELL, _CELL - 2
        height = max(side * share, 1)
        colour = series[use["layer"]] % COLOURS
        label = f"core {use['core']}: {use['layer']}, {use['neurons']} neurons, {share:.0%} full"
        parts.append(
            f"<g><title>{escape(label)}</title>"
            f'<rect class="s{colour} faint" x="{x}" y="{y}" width="{side}" height="{side}"/>'
            f'<rect class="s{colour}" x="{x}" y="{y + side - height:.2f}" width="{side}" '
            f'height="{height:.2f}"/></g>'
        )
    title = f"{len(cores)} cores"
    return _svg(_CELLS_A_ROW * _CELL, rows * _CELL, "".join(parts), title=title)


def line_plot(
    points: Sequence[tuple[float, float]],
    x_title: str,
    y_title: str,
    reference: float | None,
    chosen: float | None = None,
) -> Markup:
    """Shares (0..1) against a positive number, logarithmic.

    `reference` is a dashed line; the point at `chosen` has a ring around it.
    """
    left, top, width, height = _PLOT
    xs = [x for x, _ in points]
    first, last = log10(min(xs)), log10(max(xs))
    low = floor(10 * min([y for _, y in points] + ([reference] if reference else []))) / 10
    span_x, span_y = (last - first) or 1.0, (1.0 - low) or 1.0

    def place(x: float, y: float) -> tuple[float, float]:
        return (left + width * (log10(x) - first) / span_x, top + height * (1 - (y - low) / span_y))

    parts = [_axes(low, x_title)]
    if reference is not None:
        y = place(min(xs), reference)[1]
        parts.append(
            f'<line class="dashed" x1="{left}" x2="{left + width}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )
    placed = [place(x, y) for x, y in points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
    parts.append(f'<polyline class="line" points="{path}"/>')
    for (x, y), (number, share) in zip(placed, points, strict=True):
        if number == chosen:
            parts.append(f'<circle class="ring" cx="{x:.1f}" cy="{y:.1f}" r="6"/>')
        parts.append(
            f'<circle class="s0" cx="{x:.1f}" cy="{y:.1f}" r="3">'
            f"<title>{number:g}: {share:.1%}</title></circle>"
        )
    for number in _few(xs):
        x = place(number, low)[0]
        parts.append(f'<text x="{x:.1f}" y="{top + height + 15}" class="mid">{number:g}</text>')
    return _svg(360, 200, "".join(parts), title=f"{y_title} against {x_title}")


def log_plot(
    series: Mapping[str, Sequence[tuple[float, float]]],
    x_title: str,
    y_title: str,
    in_words: Callable[[float], str],
) -> Markup:
    """Lines of positive values against a positive number, both logarithmic.

    One colour a name, in order; the y axis is marked at powers of ten, in the words of `in_words`.
    """
    left, top, width, height = _PLOT
    points = [point for line in series.values() for point in line]
    xs, ys = sorted({x for x, _ in points}), [y for _, y in points]
    low, high = floor(log10(min(ys))), ceil(log10(max(ys)))
    span_x, span_y = (log10(xs[-1] / xs[0])) or 1.0, max(high - low, 1)

    def place(x: float, y: float) -> tuple[float, float]:
        down = height * (1 - (log10(y) - low) / span_y)
        return (left + width * log10(x / xs[0]) / span_x, top + down)

    every = -(-span_y // 5)
    marks = [(10.0**power, place(xs[0], 10.0**power)[1]) for power in range(low, high + 1, every)]
    parts = [_grid(y, in_words(value)) for value, y in marks]
    parts += [
        _line(line, place, i, name, in_words) for i, (name, line) in enumerate(series.items())
    ]
    for x in _few(xs):
        label = (
            f'<text x="{place(x, ys[0])[0]:.1f}" y="{top + height + 15}" class="mid">{x:g}</text>'
        )
        parts.append(label)
    parts.append(_below(x_title))
    return _svg(360, 200, "".join(parts), title=f"{y_title} against {x_title}")


def _line(
    points: Sequence[tuple[float, float]],
    place: Callable[[float, float], tuple[float, float]],
    series: int,
    name: str,
    in_words: Callable[[float], str],
) -> str:
    colour = series % COLOURS
    placed = [place(x, y) for x, y in points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
    dots = "".join(
        f'<circle class="s{colour}" cx="{x:.1f}" cy="{y:.1f}" r="3">'
        f"<title>{escape(name)}, {number:g}: {escape(in_words(value))}</title></circle>"
        for (x, y), (number, value) in zip(placed, points, strict=True)
    )
    return f'<polyline class="line l{colour}" points="{path}"/>{dots}'


def band_plot(
    series: Mapping[str, tuple[Sequence[float], Sequence[float], Sequence[float]]],
    x_title: str,
    y_title: str,
    in_words: Callable[[float], str],
) -> Markup:
    """A line a name, step by step from 0, with a band around it: (mean, least, most)."""
    left, top, width, height = _PLOT
    high = _round_up(max(max(most) for _, _, most in series.values()) or 1.0)
    steps = max(len(mean) for mean, _, _ in series.values())

    def path(values: Sequence[float], backwards: bool = False) -> str:
        points = [
            f"{left + width * t / max(steps - 1, 1):.1f},{top + height * (1 - value / high):.1f}"
            for t, value in enumerate(values)
        ]
        return " ".join(points[::-1] if backwards else points)

    parts = [_grid(top + height * (1 - i / 4), in_words(high * i / 4)) for i in range(5)]
    for i, (name, (mean, least, most)) in enumerate(series.items()):
        colour = i % COLOURS
        band = f"{path(most)} {path(least, backwards=True)}"
        parts.append(f'<polygon class="s{colour} faint" points="{band}"/>')
        title = f"<title>{escape(name)}</title>"
        line = f'<polyline class="line l{colour}" points="{path(mean)}">{title}</polyline>'
        parts.append(line)
    for t in _few(range(steps)):
        at = left + width * t / max(steps - 1, 1)
        parts.append(f'<text x="{at:.1f}" y="{top + height + 15}" class="mid">{t}</text>')
    parts.append(_below(x_title))
    return _svg(360, 200, "".join(parts), title=f"{y_title} against {x_title}")


def raster(rows: Sequence[str]) -> Markup:
    """Spikes of one layer: a string a neuron from the top, a character a step, `1` for a spike."""
    steps, neurons = max(map(len, rows), default=0), len(rows)
    width, height = 360, min(max(3 * neurons, 24), 150)
    across, down = width / max(steps, 1), height / max(neurons, 1)
    mark, tall = max(across - 1, 1), max(down * 0.8, 1.2)
    marks = "".join(
        f'<rect class="ink" x="{t * across:.1f}" y="{n * down:.1f}" '
        f'width="{mark:.1f}" height="{tall:.2f}"/>'
        for n, row in enumerate(rows)
        for t, spike in enumerate(row)
        if spike == "1"
    )
    frame = f'<rect class="track" width="{width}" height="{height}"/>'
    spikes = sum(row.count("1") for row in rows)
    title = f"{spikes} spikes of {neurons} neurons in {steps} steps"
    return _svg(width, height, frame + marks, title=title)


def heat_map(counts: Sequence[Sequence[int]]) -> Markup:
    """A confusion matrix of many classes: a square a pair, the darker the more often.

    The diagonal is shaded by its share of the row, everything else by four times that.
    """
    size = 360 / max(len(counts), 1)
    squares = []
    for i, row in enumerate(counts):
        total = sum(row) or 1
        for j, n in enumerate(row):
            share = min(n / total * (1 if i == j else 4), 1.0)
            if share:
                kind = "good" if i == j else "bad"
                squares.append(
                    f'<rect class="{kind}" x="{j * size:.2f}" y="{i * size:.2f}" '
                    f'width="{size:.2f}" height="{size:.2f}" fill-opacity="{share:.2f}"/>'
                )
    frame = '<rect class="track" width="360" height="360"/>'
    title = f"confusion matrix of {len(counts)} classes"
    return _svg(360, 360, frame + "".join(squares), title=title)


def rate_dots(
    rows: Sequence[tuple[str, Mapping[str, Mapping[str, float]]]], names: Sequence[str]
) -> Markup:
    """One line a row from 0 to 100 %, a dot with its interval for each of `names`.

    rows: title -> name -> value, low, high (shares 0..1); colours follow the order of names,
    and what is not among them is drawn in the colour of text.
    """
    left, width, step = 146, 192, 12 + 7 * len(names)
    height = step * len(rows)
    parts = [
        f'<line class="grid" x1="{left + width * i / 4}" x2="{left + width * i / 4}" y1="0" '
        f'y2="{height}"/><text x="{left + width * i / 4}" y="{height + 14}" class="mid">'
        f"{25 * i} %</text>"
        for i in range(5)
    ]
    for i, (title, found) in enumerate(rows):
        top = i * step
        middle = top + step / 2 + 4
        parts.append(f'<text x="{left - 8}" y="{middle}" class="end">{escape(title)}</text>')
        for name, ends in found.items():
            place = names.index(name) if name in names else (len(names) - 1) / 2
            colour = f"s{names.index(name) % COLOURS}" if name in names else "ink"
            parts.append(_dot(ends, name, colour, left, width, top + 10 + 7 * place))
    return _svg(360, height + 22, "".join(parts), title="recognition rates with intervals")


def _dot(
    ends: Mapping[str, float], name: str, colour: str, left: float, width: float, y: float
) -> str:
    low, value, high = (left + width * ends[key] for key in ("low", "value", "high"))
    label = f"{name}: {ends['value']:.1%} ({ends['low']:.1%} to {ends['high']:.1%})"
    return (
        f"<g><title>{escape(label)}</title>"
        f'<rect class="{colour}" x="{low:.1f}" y="{y - 0.8:.1f}" '
        f'width="{max(high - low, 0.5):.1f}" height="1.6"/>'
        f'<circle class="{colour}" cx="{value:.1f}" cy="{y:.1f}" r="2.8"/></g>'
    )


def _axes(low: float, x_title: str) -> str:
    _, top, _, height = _PLOT
    shares = [low + (1 - low) * i / 4 for i in range(5)]
    heights = [top + height * (1 - i / 4) for i in range(5)]
    marks = [_grid(y, f"{100 * share:.3g}%") for share, y in zip(shares, heights, strict=True)]
    return "".join([*marks, _below(x_title)])


def _grid(y: float, words: str) -> str:
    left, _, width, _ = _PLOT
    line = f'<line class="grid" x1="{left}" x2="{left + width}" y1="{y:g}" y2="{y:g}"/>'
    return f'{line}<text x="{left - 6}" y="{y + 4:g}" class="end">{escape(words)}</text>'


def _below(x_title: str) -> str:
    left, top, width, height = _PLOT
    y = top + height + 34
    return f'<text x="{left + width / 2}" y="{y}" class="mid">{escape(x_title)}</text>'


def _round_up(value: float) -> float:
    """The next of 1, 2, 4 and 8 times a power of ten, so that quarters of it read well."""
    power = 10.0 ** floor(log10(value))
    return float(next(times * power for times in (1, 2, 4, 8, 10) if times * power >= value))


def _few(values: Sequence[float], most: int = 6) -> list[float]:
    """At most `most` of the values, the ends among them."""
    if len(values) <= most:
        return list(values)
    step = -(-(len(values) - 1) // (most - 1))
    return [*values[:-1:step], values[-1]]


def _fullest(use: Mapping[str, Any], limits: Mapping[str, Mapping[str, Any]]) -> float:
    keys = ("neurons", "synaptic_words", "input_axons", "output_axons")
    shares = [use[key] / limits[key]["value"] for key in keys if key in use and key in limits]
    return min(max(shares, default=0.0), 1.0)


def _svg(width: int, height: int, content: str, title: str = "", stretch: bool = False) -> Markup:
    fit = ' preserveAspectRatio="none" class="bar"' if stretch else ' class="chart"'
    name = f' role="img" aria-label="{escape(title)}"' if title else ' aria-hidden="true"'
    return Markup(f'<svg viewBox="0 0 {width} {height}"{fit}{name}>{content}</svg>')

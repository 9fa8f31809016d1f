"""Percentiles, and how they are drawn. No I/O."""

import math
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

PERCENTILES = (50, 90, 95, 99, 100)

_WIDTH, _HEIGHT = 720, 360
_LEFT, _TOP, _RIGHT, _BOTTOM = 56, 40, 16, 48
_COLOURS = ("#0b6cc4", "#c4560b", "#2c8a3d", "#7a3db8")
_BAR = 40


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return the smallest of the sorted values that ``percent`` of them don't exceed."""
    rank = math.ceil(len(ordered) * percent / 100)
    return ordered[max(rank, 1) - 1]


def summary_ms(values_s: Sequence[float]) -> dict[str, float]:
    """Return the percentiles of some durations, in milliseconds; nothing for none."""
    ordered = sorted(values_s)
    if not ordered:
        return {}
    names = {100: "max"}
    return {names.get(p, f"p{p}"): round(percentile(ordered, p) * 1000, 3) for p in PERCENTILES}


def histogram(values_s: Sequence[float], rows: int = 12) -> list[str]:
    """Return a drawing in text: a line a class, of equal width on a logarithmic scale."""
    ordered = sorted(max(value * 1000, 0.001) for value in values_s)
    if not ordered:
        return []
    low, high = math.log10(ordered[0]), math.log10(ordered[-1])
    step = max((high - low) / rows, 1e-9)
    counts = [0] * rows
    for value in ordered:
        counts[min(int((math.log10(value) - low) / step), rows - 1)] += 1
    most = max(counts)
    lines = []
    for row, count in enumerate(counts):
        end_ms = 10 ** (low + step * (row + 1))
        bar = "#" * math.ceil(count * _BAR / most)
        lines.append(f"{end_ms:10.2f} ms  {count:6}  {bar}".rstrip())
    return lines


def svg_of(series: Mapping[str, Sequence[float]], title: str) -> str:
    """Return a plot of cumulative distributions, time on a logarithmic scale.

    Args:
        series: By name, durations in seconds.
        title: What stands above it.
    """
    ordered = {
        name: sorted(max(value * 1000, 0.01) for value in values)
        for name, values in series.items()
        if values
    }
    low = math.floor(math.log10(min((v[0] for v in ordered.values()), default=1.0)))
    high = math.ceil(math.log10(max((v[-1] for v in ordered.values()), default=10.0)))
    high = max(high, low + 1)

    def x(value_ms: float) -> float:
        return _LEFT + (math.log10(value_ms) - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)

    def y(part: float) -> float:
        return _HEIGHT - _BOTTOM - part * (_HEIGHT - _TOP - _BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
        f'<text x="{_LEFT}" y="22" font-size="14">{escape(title)}</text>',
    ]
    for exponent in range(low, high + 1):
        at = x(10.0**exponent)
        parts.append(f'<path d="M{at:.1f} {y(0):.1f}V{y(1):.1f}" stroke="#ddd"/>')
        label = f"{10.0**exponent:g} ms"
        parts.append(f'<text x="{at:.1f}" y="{y(0) + 18:.1f}" text-anchor="middle">{label}</text>')
    for percent in (0, 25, 50, 75, 95, 100):
        at = y(percent / 100)
        parts.append(f'<path d="M{x(10.0**low):.1f} {at:.1f}H{x(10.0**high):.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{percent} %</text>')
    for place, (name, values) in enumerate(ordered.items()):
        colour = _COLOURS[place % len(_COLOURS)]
        points = [f"{x(values[0]):.1f},{y(0):.1f}"]
        for index in _thinned(len(values)):
            points.append(f"{x(values[index]):.1f},{y((index + 1) / len(values)):.1f}")
        line = " ".join(points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        text_x = _LEFT + place * 170
        parts.append(
            f'<text x="{text_x}" y="{_HEIGHT - 8}" fill="{colour}">{escape(name)} '
            f"({len(values)})</text>"
        )
    return "\n".join([*parts, "</svg>", ""])


def _thinned(count: int, most: int = 500) -> list[int]:
    """Return the places of at most so many points, the last among them."""
    step = max(count // most, 1)
    return sorted({*range(0, count, step), count - 1})

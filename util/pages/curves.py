"""Small loss curves as inline SVG."""

from __future__ import annotations

import numpy as np
from dominate import svg, tags

WIDTH, HEIGHT = 300, 90
MARGIN = 4  # keeps the line's thickness inside the picture


def curve_figure(name: str, positions: np.ndarray, values: np.ndarray) -> tags.html_tag | None:
    """Return a figure with one curve, its latest value and its range; None if no value is finite.

    ``positions`` and ``values`` have shape [P]; points whose value is not finite break the line.
    """
    finite = np.isfinite(values)
    if not finite.any():
        return None
    low, high = float(values[finite].min()), float(values[finite].max())
    last = float(values[finite][-1])
    picture = svg.svg(
        svg.title(f"{name} over epochs, from {low:.3g} to {high:.3g}"),
        *(svg.line(x1=0, x2=WIDTH, y1=y, y2=y, cls="rule") for y in (MARGIN, HEIGHT / 2, HEIGHT - MARGIN)),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        preserveAspectRatio="none",
        role="img",
    )
    x = _scale(positions, float(positions.min()), float(positions.max()), 0, WIDTH)
    y = _scale(values, low, high, HEIGHT - MARGIN, MARGIN)
    for run in _runs(finite):
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x[run], y[run], strict=True))
        picture.add(svg.polyline(points=points, cls="curve", vector_effect="non-scaling-stroke"))
    scale = tags.div(tags.span(f"{high:.3g}"), tags.span(f"{low:.3g}"), cls="scale", aria_hidden="true")
    caption = tags.figcaption(tags.span(name, cls="words"), tags.strong(f"{last:.4g}"))
    epochs = tags.div(tags.span(f"epoch {positions.min():.3g}"), tags.span(f"{positions.max():.4g}"), cls="epochs")
    return tags.figure(caption, tags.div(picture, scale, cls="plot"), epochs, cls="chart")


def _scale(values: np.ndarray, low: float, high: float, start: float, end: float) -> np.ndarray:
    """Map [low, high] linearly to [start, end]; a range of zero goes to the middle."""
    if high <= low:
        return np.full(len(values), (start + end) / 2)
    return start + (values - low) / (high - low) * (end - start)


def _runs(finite: np.ndarray) -> list[slice]:
    """Return the longest stretches of True as slices."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], finite, [False]]).astype(np.int8)))
    return [slice(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]

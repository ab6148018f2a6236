"""Figures of a report, as SVG elements."""

import io
import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .curves import Curve
from .runs import running_mean

BLUE, LIGHT_BLUE, RED, GRAY = '#2563eb', '#bfdbfe', '#f87171', '#64748b'

#: Points of a curve that are drawn at most.
MAX_POINTS = 400

STYLE: Any = {
    'svg.fonttype': 'none',  # texts stay texts
    'svg.hashsalt': 'report',
    'font.size': 9,
    'text.color': '#0f172a',
    'axes.labelcolor': '#475569',
    'axes.edgecolor': '#cbd5e1',
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.axisbelow': True,
    'axes.grid': True,
    'grid.color': '#e2e8f0',
    'grid.linewidth': 0.7,
    'xtick.color': '#cbd5e1',
    'ytick.color': '#cbd5e1',
    'xtick.labelcolor': '#475569',
    'ytick.labelcolor': '#475569',
}


@matplotlib.rc_context(STYLE)
def draw_curve(name: str, curve: Curve) -> str:
    """Draw one scalar of a training.

    Long curves of training are averaged; the logged values are drawn pale behind.
    """
    figure = _figure(4.2, 2.5)
    axes = figure.subplots()
    stride = -(-len(curve.steps) // MAX_POINTS)
    steps, values = curve.steps[::stride], curve.values[::stride]
    smooth = 1
    if not curve.validation and not name.endswith('lr'):
        smooth = max(1, len(curve.steps) // 25)
    if smooth > 1:
        axes.plot(steps, values, color=BLUE, alpha=0.25, linewidth=1)
    few = curve.validation or len(steps) == 1
    axes.plot(
        steps,
        running_mean(curve.values, smooth)[::stride],
        color=BLUE,
        linewidth=1.8,
        marker='o' if few and len(steps) < 60 else None,
        markersize=4,
    )
    axes.set_xlabel(curve.unit)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True))
    axes.margins(x=0.02)
    return _svg(figure)


@matplotlib.rc_context(STYLE)
def draw_confusion(confusion: np.ndarray, classes: Sequence[str]) -> str:
    """Draw a confusion matrix, as percentages of each class in the truth.

    Args:
        confusion: Counts by truth (rows) and prediction (columns), (C, C).
        classes: Their names; from 41 classes on they are not written.
    """
    size = len(classes)
    shares = 100 * confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    side = min(8.4, max(6.2, 2 + 0.45 * size))
    figure = _figure(side, side * 0.92)
    axes = figure.subplots()
    axes.grid(False)
    image = axes.imshow(shares, cmap='Blues', vmin=0, vmax=100)
    axes.set(xlabel='prediction', ylabel='truth')
    if size <= 40:
        names = [textwrap.shorten(name, 22, placeholder='…') for name in classes]
        if size <= 21:
            axes.set_xticks(range(size), names, rotation=45, ha='right')
        else:
            axes.set_xticks(range(size), names, rotation=90)
        axes.set_yticks(range(size), names)
    if size <= 21:
        _write_shares(axes, shares)
    axes.tick_params(length=0)
    bar = figure.colorbar(image, shrink=0.5, aspect=25, pad=0.02)
    bar.set_label('% of the truth')
    bar.outline.set_visible(False)
    return _svg(figure)


def _write_shares(axes: Axes, shares: np.ndarray) -> None:
    for (row, column), share in np.ndenumerate(shares):
        if share >= 0.5:
            axes.text(
                column,
                row,
                f'{share:.0f}',
                ha='center',
                va='center',
                color='white' if share > 55 else '#0f172a',
            )


@matplotlib.rc_context(STYLE)
def draw_reliability(bins: Sequence[dict]) -> str:
    """Draw the accuracy at each confidence, and how frequent each confidence is.

    Args:
        bins: With ``low``, ``high``, ``count``, ``confidence`` and ``accuracy``.
    """
    filled = [row for row in bins if row['count']]
    middles = [(row['low'] + row['high']) / 2 for row in filled]
    width = 0.92 / len(bins)
    figure = _figure(4.6, 4.4)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    accuracy = np.array([row['accuracy'] for row in filled])
    confidence = np.array([row['confidence'] for row in filled])
    both = np.minimum(accuracy, confidence)
    upper.bar(middles, both, width, color=LIGHT_BLUE)
    for label, color, top in (
        ('too confident', RED, confidence),
        ('not confident enough', BLUE, accuracy),
    ):
        upper.bar(middles, top - both, width, bottom=both, color=color, label=label)
    upper.plot([0, 1], [0, 1], color=GRAY, linestyle='--', linewidth=1.2)
    upper.set(ylabel='accuracy', ylim=(0, 1), xlim=(0, 1))
    upper.legend(loc='upper left', frameon=False)
    total = sum(row['count'] for row in filled)
    share = [100 * row['count'] / total for row in filled]
    lower.bar(middles, share, width, color=GRAY)
    lower.set(xlabel='confidence', ylabel='share (%)')
    return _svg(figure)


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout='constrained')


def _svg(figure: Figure) -> str:
    """Return a figure as an ``<svg>`` element."""
    buffer = io.StringIO()
    figure.savefig(buffer, format='svg', transparent=True, metadata={'Date': None})
    text = buffer.getvalue()
    return text[text.index('<svg') :]

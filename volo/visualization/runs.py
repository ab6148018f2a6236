"""Drawing the scalars of one or more trainings."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from volo.errors import ConfigError

from .curves import Curve


def default_scalars(runs: list[dict[str, Curve]]) -> list[str]:
    """Return the names of the loss, the metrics of validation and the learning rate."""
    validation = {n: c.validation for curves in runs for n, c in curves.items()}

    def ending(*endings: str) -> list[str]:
        return [name for name in validation if name.rpartition('/')[2] in endings]

    loss, rate, times = ending('loss'), ending('lr'), ending('time', 'data_time')
    measured = [
        name for name in validation if validation[name] and name not in loss + times
    ]
    return [*loss, *measured, *rate] or list(validation)


def draw_runs(
    runs: dict[str, dict[str, Curve]],
    path: Path,
    scalars: list[str] | None = None,
    smooth: int = 1,
) -> None:
    """Draw one panel per scalar with one line per run.

    Args:
        runs: Curves of each run, by its label.
        path: Image file to write; its suffix is the format.
        scalars: Scalars to draw; None: :func:`default_scalars`. A run without a scalar
            has no line in its panel.
        smooth: Number of logged values to average; the values themselves are drawn
            pale. Scalars of validation and the learning rate are not averaged.

    Raises:
        ConfigError: No run has such a scalar, or the image cannot be written.
    """
    known = sorted({name for curves in runs.values() for name in curves})
    scalars = scalars or default_scalars(list(runs.values()))
    for name in scalars:
        if name not in known:
            raise ConfigError(f'no scalar {name!r}: there are {", ".join(known)}')
    columns = min(len(scalars), 3)
    rows = -(-len(scalars) // columns)
    figure = Figure(figsize=(4.5 * columns, 3.2 * rows + 0.6), layout='constrained')
    formats = FigureCanvasAgg(figure).get_supported_filetypes()
    if path.suffix[1:].lower() not in formats:
        raise ConfigError(
            f'{path}: unknown image format: use the suffix .{", .".join(formats)}'
        )
    panels = figure.subplots(rows, columns, squeeze=False).flat
    for axes, name in zip(panels, scalars, strict=False):
        for number, curves in enumerate(runs.values()):
            if name in curves:
                count = 1 if name.endswith('lr') else smooth
                _plot(axes, curves[name], f'C{number}', count)
        units = {curves[name].unit for curves in runs.values() if name in curves}
        axes.set(title=name, xlabel=' or '.join(sorted(units)))
        axes.grid(alpha=0.3)
    for axes in figure.axes[len(scalars) :]:
        axes.remove()
    handles = [
        Line2D([], [], color=f'C{number}', label=label)
        for number, label in enumerate(runs)
    ]
    figure.legend(handles=handles, loc='outside lower center', ncols=min(len(runs), 4))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=110)
    except OSError as error:
        raise ConfigError(f'{path} cannot be written: {error}') from error


def _plot(axes: Axes, curve: Curve, color: str, smooth: int) -> None:
    smooth = 1 if curve.validation else smooth
    if smooth > 1:
        axes.plot(curve.steps, curve.values, color=color, alpha=0.25)
    # A line through a single value is invisible.
    marker = 'o' if curve.validation or len(curve.steps) == 1 else None
    means = running_mean(curve.values, smooth)
    axes.plot(curve.steps, means, color=color, marker=marker, markersize=3)


def running_mean(values: list[float], count: int) -> np.ndarray:
    """Return the mean of each value and the ``count - 1`` values before it."""
    sums = np.convolve(values, np.ones(count))[: len(values)]
    return sums / np.minimum(np.arange(1, len(values) + 1), count)

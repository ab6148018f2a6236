"""Draw training curves, and predictions beside the truth."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from volo.visualization.curves import Curve

from .shapes import SEGMENTATION_CLASSES, SEGMENTATION_PALETTE


def _new_figure(width: float, height: float) -> Figure:
    """A figure in inches that never asks for a display."""
    figure = Figure(figsize=(width, height), layout='constrained')
    FigureCanvasAgg(figure)
    return figure


def color_mask(mask: np.ndarray) -> np.ndarray:
    """Paint a mask (H, W) of class indices in the palette: (H, W, 3), uint8."""
    return np.array(SEGMENTATION_PALETTE, dtype=np.uint8)[mask]


def _plot(axes: Axes, curves: dict[str, Curve], scalar: str, **style: object) -> None:
    # A training shorter than the logging interval has no losses to show.
    curve = curves.get(scalar, Curve())
    axes.plot(curve.steps, curve.values, **style)


def draw_curves(
    classifier: dict[str, Curve],
    segmentors: dict[str, dict[str, Curve]],
    path: Path,
) -> None:
    """Draw loss and metric of the classifier and of every segmentor.

    Args:
        classifier: Curves of the classifier, by scalar name.
        segmentors: Curves of each segmentor, by its name.
        path: PNG file to write.
    """
    figure = _new_figure(11, 6.5)
    (class_loss, class_metric), (mask_loss, mask_metric) = figure.subplots(2, 2)
    for axes, scalar, title, unit in (
        (class_loss, 'loss', 'Classification: training loss', 'iteration'),
        (class_metric, 'accuracy/top1', 'Classification: top-1 (%)', 'epoch'),
    ):
        _plot(axes, classifier, scalar)
        axes.set(title=title, xlabel=unit)
    for axes, scalar, title in (
        (mask_loss, 'loss', 'Segmentation: training loss'),
        (mask_metric, 'mIoU', 'Segmentation: mIoU (%)'),
    ):
        for name, curves in segmentors.items():
            _plot(axes, curves, scalar, label=name)
        axes.set(title=title, xlabel='iteration')
        axes.legend()
    for axes in (class_metric, mask_metric):
        axes.set_ylim(0, 100)
    for axes in figure.axes:
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def draw_predictions(
    images: Sequence[Path],
    class_names: Sequence[tuple[str, str]],
    masks: dict[str, Sequence[np.ndarray]],
    path: Path,
) -> None:
    """Draw images in a row, with masks below and class names above.

    Args:
        images: Image files.
        class_names: Predicted and true class of each image.
        masks: For each row, its name and the mask (H, W) of each image.
        path: PNG file to write.
    """
    columns, rows = len(images), 1 + len(masks)
    figure = _new_figure(1.15 * columns + 1, 1.2 * rows + 0.9)
    grid = figure.subplots(rows, columns, squeeze=False)
    for column, image in enumerate(images):
        with Image.open(image) as opened:
            grid[0, column].imshow(opened)
        predicted, true = class_names[column]
        grid[0, column].set_title(
            f'{predicted}\n(true: {true})',
            fontsize=8,
            color='green' if predicted == true else 'red',
        )
    for row, (name, row_masks) in enumerate(masks.items(), start=1):
        for column, mask in enumerate(row_masks):
            grid[row, column].imshow(color_mask(mask))
        grid[row, 0].set_ylabel(name, fontsize=8)
    grid[0, 0].set_ylabel('image', fontsize=8)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set_visible(False)
    handles = [
        grid[0, 0].scatter(
            [], [], marker='s', s=60, label=name, color=np.array([rgb]) / 255
        )
        for name, rgb in zip(SEGMENTATION_CLASSES, SEGMENTATION_PALETTE, strict=True)
    ]
    figure.legend(
        handles=handles,
        loc='outside lower center',
        ncols=len(handles),
        fontsize=8,
        frameon=False,
    )
    figure.savefig(path, dpi=110)

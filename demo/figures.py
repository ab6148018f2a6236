"""Draw training curves, and predictions beside the ground truth."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from PIL import Image

from volo.visualization.curves import Curve

from .shapes import SEGMENTATION_CLASSES, SEGMENTATION_PALETTE


def _new_figure(width: float, height: float) -> Figure:
    """Return a figure of this size in inches that needs no display."""
    figure = Figure(figsize=(width, height), layout='constrained')
    FigureCanvasAgg(figure)
    return figure


def color_mask(mask: np.ndarray) -> np.ndarray:
    """Color a mask (H, W) of class indices with the palette: (H, W, 3), uint8."""
    return np.array(SEGMENTATION_PALETTE, dtype=np.uint8)[mask]


def _plot(
    axes: Axes, curves: Mapping[str, Mapping[str, Curve]], scalar: str, name: str
) -> None:
    """Plot one scalar of all trainings.

    Args:
        axes: Where to plot.
        curves: Names of trainings, and their curves by scalar name.
        scalar: Which curve.
        name: The scalar in words.
    """
    shown = {run: found[scalar] for run, found in curves.items() if scalar in found}
    for run, curve in shown.items():
        axes.plot(curve.steps, curve.values, marker='.', label=run)
    if shown:
        axes.set_xlabel(next(iter(shown.values())).unit)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_xlim(left=0)
        axes.legend()
    else:
        axes.set(xticks=[], yticks=[])
        axes.text(
            *(0.5, 0.5, 'nothing logged in so short a training'),
            transform=axes.transAxes,
            ha='center',
        )
    axes.set_ylabel(name)
    axes.grid(alpha=0.3)


def draw_curves(
    classifiers: Mapping[str, Mapping[str, Curve]],
    segmentors: Mapping[str, Mapping[str, Curve]],
    path: Path,
) -> None:
    """Draw loss and metric of all trainings.

    Args:
        classifiers: Names of classification trainings, and the curves of each by
            scalar name.
        segmentors: The same of segmentation trainings.
        path: PNG file to write.
    """
    figure = _new_figure(11, 6.5)
    (class_loss, class_metric), (mask_loss, mask_metric) = figure.subplots(2, 2)
    _plot(class_loss, classifiers, 'loss', 'training loss')
    _plot(class_metric, classifiers, 'accuracy/top1', 'validation top-1 (%)')
    _plot(mask_loss, segmentors, 'loss', 'training loss')
    _plot(mask_metric, segmentors, 'mIoU', 'validation mIoU (%)')
    for axes in (class_loss, class_metric):
        axes.set_title('Classification with VOLO-tiny')
    for axes in (mask_loss, mask_metric):
        axes.set_title('Segmentation with UPerNet')
    for axes in (class_metric, mask_metric):
        axes.set_ylim(0, 100)
    figure.savefig(path, dpi=110)


def draw_predictions(
    images: Sequence[Path],
    class_names: Sequence[tuple[str, str]],
    masks: Mapping[str, Sequence[np.ndarray]],
    path: Path,
) -> None:
    """Draw a column for each image: class names, the image and its masks.

    Args:
        images: Image files.
        class_names: Predicted and true class of each image.
        masks: Names of rows, and the masks (H, W) of all images in each.
        path: PNG file to write.
    """
    columns, rows = len(images), 1 + len(masks)
    figure = _new_figure(1.15 * columns + 1, 1.2 * rows + 1.2)
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
    figure.suptitle(
        'Validation images, with the predicted class above (red: wrong) and the '
        'masks below',
        fontsize=11,
    )
    handles = [
        Patch(color='#{:02x}{:02x}{:02x}'.format(*rgb), label=name)
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

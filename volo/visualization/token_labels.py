"""Drawing an image, its label map and an augmented crop with its targets."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Polygon
from PIL import Image

from volo.token_label.dataset import TokenLabel
from volo.token_label.targets import label_map_targets

#: Number of classes with a color of their own; the others are gray.
_SHOWN = 10


def draw_token_label(
    image: Image.Image,
    crop: np.ndarray,
    label: TokenLabel,
    classes: tuple[str, ...],
    grid: tuple[int, int],
    path: Path,
) -> None:
    """Draw the best class of every cell, and of every token of an augmented crop.

    The image shows the outline of the crop. The more probable a class, the stronger the
    color of its cell or token.

    Args:
        image: The whole image.
        crop: The augmented image, RGB, shape (H, W, 3).
        label: The label map and the geometry of the crop.
        classes: Names of the classes.
        grid: Rows and columns of tokens.
        path: PNG file to write.
    """
    num_classes = max(len(classes), int(label.classes.max()) + 1)
    scores, indices = (
        torch.as_tensor(part.astype(kind))[None]
        for part, kind in ((label.scores, np.float32), (label.classes, np.int32))
    )
    cells = label.scores.shape[1:]
    no_frames = np.empty((1, 0, 3, 3))
    maps = []
    for matrix, frames, size in (
        (np.eye(3)[None], no_frames, cells),
        (label.matrix[None], label.frames[None], grid),
    ):
        targets = label_map_targets(
            scores, indices, matrix, frames, size, num_classes, 0.0
        )
        best = targets.to_dense(num_classes)[0].max(dim=-1)
        maps.append((best.indices.view(size).numpy(), best.values.view(size).numpy()))

    counts = np.bincount(np.concatenate([m[0].ravel() for m in maps]))
    shown = [c for c in np.argsort(-counts)[:_SHOWN] if counts[c]]
    colors = {c: colormaps['tab10'](i) for i, c in enumerate(shown)}
    figure = Figure(figsize=(13, 4), layout='constrained')
    FigureCanvasAgg(figure)
    whole, augmented, painted = figure.subplots(1, 3)
    _show(whole, np.asarray(image), *maps[0], colors)
    height, width = np.asarray(image).shape[:2]
    corners = label.matrix @ [[0, 1, 1, 0], [0, 0, 1, 1], [1, 1, 1, 1]]
    outline = corners[:2].T * [width, height]
    whole.add_patch(Polygon(outline, fill=False, edgecolor='white', linewidth=2))
    augmented.imshow(crop)
    _show(painted, crop, *maps[1], colors)
    for axes, title in (
        (whole, f'label map, {cells[0]} x {cells[1]} cells'),
        (augmented, 'augmented image'),
        (painted, f'targets of {grid[0]} x {grid[1]} tokens'),
    ):
        axes.set(title=title, xticks=[], yticks=[])
    names = {c: classes[c] if c < len(classes) else f'class {c}' for c in shown}
    figure.legend(
        handles=[Patch(color=colors[c]) for c in shown],
        # ImageNet's classes have several names each.
        labels=[names[c].partition(',')[0] for c in shown],
        loc='outside right center',
    )
    figure.savefig(path)


def _show(
    axes: Axes,
    image: np.ndarray,
    best: np.ndarray,
    share: np.ndarray,
    colors: Mapping[int, tuple[float, ...]],
) -> None:
    height, width = image.shape[:2]
    axes.imshow(image)
    paint = np.array([[colors.get(c, (0.5, 0.5, 0.5, 1)) for c in row] for row in best])
    paint[..., 3] = 0.1 + 0.6 * share / share.max()
    axes.imshow(paint, extent=(-0.5, width - 0.5, height - 0.5, -0.5))

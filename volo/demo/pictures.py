"""What the demo leaves to look at."""

import json
from pathlib import Path

import matplotlib
import numpy as np
from mmpretrain import ImageClassificationInferencer
from mmseg.apis import inference_model, init_model
from PIL import Image

from volo.datasets.shapes import SEGMENTATION_PALETTE, SHAPE_CLASSES

matplotlib.use('Agg')

from matplotlib import pyplot as plt  # noqa: E402  after the choice of the backend


def draw_predictions(
    data: Path, classifier: Path, segmentor: Path, path: Path, per_class: int = 1
) -> Path:
    """Draw input, predicted and true mask of validation pictures side by side.

    Args:
        data: The drawn data set.
        classifier: Checkpoint of the classifier; its config lies beside it.
        segmentor: Checkpoint of the segmentor, likewise.
        path: The PNG to write.
        per_class: Pictures of each class.

    Returns:
        ``path``.
    """
    segment = init_model(_config_beside(segmentor), str(segmentor), device='cpu')
    classify = ImageClassificationInferencer(
        str(_config_beside(classifier)), pretrained=str(classifier), device='cpu'
    )
    palette = np.array(SEGMENTATION_PALETTE, dtype=np.uint8)
    pictures = [
        picture
        for name in SHAPE_CLASSES
        for picture in sorted((data / 'images/val' / name).iterdir())[:per_class]
    ]
    # The classifier first: each library sets its own default scope for good.
    guesses = [classify(str(picture))[0]['pred_class'] for picture in pictures]
    figure, axes = plt.subplots(
        len(pictures), 3, figsize=(6, 2 * len(pictures)), squeeze=False
    )
    for row, picture, guess in zip(axes, pictures, guesses, strict=True):
        truth = data / 'masks/val' / picture.parent.name / f'{picture.stem}.png'
        predicted = inference_model(segment, str(picture)).pred_sem_seg.data[0].numpy()
        shown = (
            (np.asarray(Image.open(picture)), f'called {guess}'),
            (palette[predicted], 'predicted mask'),
            (palette[np.asarray(Image.open(truth))], f'truth: {picture.parent.name}'),
        )
        for axis, (image, title) in zip(row, shown, strict=True):
            axis.imshow(image)
            axis.set_title(title, fontsize=9)
            axis.axis('off')
    return _save(figure, path)


def draw_curves(work_dirs: list[Path], path: Path) -> Path:
    """Draw the training loss and the validation metric of some runs.

    Args:
        work_dirs: Folders that ``tools/train.py`` wrote.
        path: The PNG to write.

    Returns:
        ``path``.
    """
    figure, axes = plt.subplots(2, len(work_dirs), figsize=(4 * len(work_dirs), 6))
    for (upper, lower), work_dir in zip(axes.T, work_dirs, strict=True):
        (log,) = work_dir.glob('*/vis_data/scalars.json')
        records = [json.loads(line) for line in log.read_text().splitlines()]
        upper.set_title(work_dir.name)
        for axis, names in ((upper, ('loss',)), (lower, ('accuracy/top1', 'mIoU'))):
            for name in names:
                points = [(r['step'], r[name]) for r in records if name in r]
                if points:
                    axis.plot(*zip(*points, strict=True), marker='.', label=name)
            axis.legend()
            axis.grid(alpha=0.3)
    return _save(figure, path)


def _config_beside(checkpoint: Path) -> Path:
    (config,) = checkpoint.parent.glob('*.py')
    return config


def _save(figure: plt.Figure, path: Path) -> Path:
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    plt.close(figure)
    return path

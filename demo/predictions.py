"""Run the trained models on a few validation images and draw what they predict."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from mmpretrain import ImageClassificationInferencer
from mmseg.apis import inference_model, init_model
from PIL import Image

from .figures import draw_predictions
from .shapes import SHAPE_CLASSES

IMAGES_PER_CLASS = 2


def predict_and_draw(
    data_root: Path,
    classifier: tuple[Path, Path],
    segmentors: Mapping[str, tuple[Path, Path]],
    path: Path,
) -> None:
    """Draw the predictions for the first validation images of each class.

    Args:
        data_root: Folder of the dataset.
        classifier: Config and checkpoint.
        segmentors: Names, and config and checkpoint of each.
        path: PNG file to write.
    """
    # One thread: this process may have started with threads that spin.
    torch.set_num_threads(1)
    images = [
        image
        for name in SHAPE_CLASSES
        for image in sorted((data_root / 'images/val' / name).glob('*.jpg'))[
            :IMAGES_PER_CLASS
        ]
    ]
    config, checkpoint = map(str, classifier)
    classify = ImageClassificationInferencer(
        config, pretrained=checkpoint, device='cpu'
    )
    classes = [
        (result['pred_class'], image.parent.name)
        for result, image in zip(
            classify([str(image) for image in images]), images, strict=True
        )
    ]
    masks = {'ground truth': [_true_mask(data_root, image) for image in images]}
    for name, (config_path, checkpoint_path) in segmentors.items():
        model = init_model(str(config_path), str(checkpoint_path), device='cpu')
        masks[f'UPerNet,\n{name}'] = [
            inference_model(model, str(image)).pred_sem_seg.data[0].numpy()
            for image in images
        ]
    draw_predictions(images, classes, masks, path)


def _true_mask(data_root: Path, image: Path) -> np.ndarray:
    name = image.relative_to(data_root / 'images').with_suffix('.png')
    with Image.open(data_root / 'masks' / name) as mask:
        return np.asarray(mask)

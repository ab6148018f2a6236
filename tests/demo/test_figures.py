import numpy as np
from PIL import Image

from demo.figures import draw_curves, draw_predictions
from demo.shapes import SEGMENTATION_PALETTE
from volo.visualization.curves import Curve


def test_curves_of_all_runs_are_drawn(tmp_path):
    curve = Curve([1, 2], [2.0, 1.0])
    segmentors = {n: {'loss': curve, 'mIoU': curve} for n in ('a', 'b')}
    classifiers = {n: {'loss': curve, 'accuracy/top1': curve} for n in ('c', 'd')}
    draw_curves(classifiers, segmentors, tmp_path / 'curves.png')
    image = Image.open(tmp_path / 'curves.png').convert('RGB')
    assert image.width > 800 and len(image.getcolors(1 << 22)) > 20


def test_a_training_without_logged_losses_is_drawn(tmp_path):
    curves = {'mIoU': Curve([1], [50.0])}
    draw_curves({}, {'a': curves}, tmp_path / 'curves.png')
    assert (tmp_path / 'curves.png').stat().st_size > 0


def test_masks_are_drawn_in_the_palette_and_wrong_names_in_red(tmp_path):
    images = [tmp_path / f'{number}.png' for number in range(3)]
    for path in images:
        Image.new('RGB', (8, 8), (1, 2, 3)).save(path)
    masks = {'truth': [np.full((8, 8), label) for label in (1, 2, 3)]}

    def drawn(predicted):
        path = tmp_path / 'predictions.png'
        draw_predictions(images, [(predicted, 'ring')] * 3, masks, path)
        with Image.open(path) as image:
            return {rgb for _, rgb in image.convert('RGB').getcolors(1 << 22)}

    right, wrong = drawn('ring'), drawn('star')
    assert {(1, 2, 3), *SEGMENTATION_PALETTE[1:4]} <= right
    assert (0, 128, 0) in right and (255, 0, 0) not in right
    assert (255, 0, 0) in wrong and (0, 128, 0) not in wrong

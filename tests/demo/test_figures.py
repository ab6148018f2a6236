from PIL import Image

from volo.demo.figures import draw_curves
from volo.demo.results import Curve


def test_curves_of_all_runs_are_drawn(tmp_path):
    curve = Curve([1, 2], [2.0, 1.0])
    segmentors = {n: {'loss': curve, 'mIoU': curve} for n in ('a', 'b')}
    classifier = {'loss': curve, 'accuracy/top1': curve}
    draw_curves(classifier, segmentors, tmp_path / 'curves.png')
    picture = Image.open(tmp_path / 'curves.png').convert('RGB')
    assert picture.width > 800 and len(picture.getcolors(1 << 22)) > 20

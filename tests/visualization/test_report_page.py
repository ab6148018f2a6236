import re

import numpy as np
import pytest

from volo.visualization.curves import Curve
from volo.visualization.report_data import NUM_BINS
from volo.visualization.report_page import frequent_confusions, render_page
from volo.visualization.report_scores import calibration, class_scores, to_plain

PIXEL = 'data:image/webp;base64,AAAA'


def make_report(task):
    confusion = np.array([[8, 2], [0, 0]])
    bins = np.zeros((3, NUM_BINS))
    bins[:, 9] = 10, 6.4, 8
    scores = class_scores(confusion)
    sample = dict(path='/data/val/<b>.png', score=0.25)
    if task == 'classification':
        sample.update(truth='cat', prediction='dog & cat', confidence=0.5)
    return to_plain(
        dict(
            task=task,
            unit='pixels' if task == 'segmentation' else 'images',
            work_dir='/runs/<script>run',
            config='/runs/a.py',
            checkpoint='/runs/best.pth',
            checkpoint_name='best.pth',
            trained='iter 4',
            split='val',
            samples=12345,
            time='2026-01-31T12:00:00',
            command='volo report /runs',
            versions=dict(torch='2.11.0'),
            metrics={'aAcc': 80.0, 'mIoU': 40.123, 'per class': [1.0, 2.0]},
            classes=[
                dict(name=name, **{key: scores[key][i] for key in scores})
                for i, name in enumerate(('cat', 'dog & cat'))
            ],
            class_means={key: 0.5 for key in scores},
            confusion_matrix=confusion,
            calibration=calibration(bins),
            speed=dict(images_per_second=2.5, batch_size=1, device='CPU', threads=2),
            model=dict(parameters=2_900_000, gmac=4.72, input_size=[360, 480]),
            shown_classes=[0],
            best=[sample],
            worst=[sample],
        )
    )


@pytest.mark.parametrize('task', ['segmentation', 'classification'])
def test_a_page_stands_alone(task):
    uris = dict(image=PIXEL)
    if task == 'segmentation':
        uris |= dict(truth=PIXEL, prediction=PIXEL, difference=PIXEL)
    page = render_page(
        make_report(task),
        dict(loss=Curve([1, 2], [2.0, 1.0])),
        ['#ff0000', '#00ff00'],
        dict(best=[uris], worst=[uris]),
    )
    for text in ('40.12', 'mean IoU (%)', '12,345', '2.50', '480 x 360', '2.11.0'):
        assert text in page
    # Names come from files of the user.
    assert '&lt;script&gt;run' in page and '<script' not in page
    assert 'dog &amp; cat' in page
    assert page.count('<img loading="lazy"') == 2 * len(uris)
    # Only the namespaces of SVG are URLs.
    urls = re.findall(r'(?:src|href|url)\s*[=(]\s*["\']?(?!#|data:)([^"\')\s]+)', page)
    assert not [url for url in urls if not url.startswith('#')]
    assert ('IoU</th>' in page) == (task == 'segmentation')


def test_a_page_without_logs_says_so():
    page = render_page(
        make_report('segmentation'), {}, ['#ff0000'] * 2, dict(best=[{}], worst=[{}])
    )
    assert 'no logs of a training' in page


def test_frequent_confusions_are_sorted_by_their_share_of_the_truth():
    confusion = np.array([[90, 10, 0], [3, 5, 2], [0, 0, 0]])
    pairs = frequent_confusions(confusion, ['a', 'b', 'c'])
    assert [(p['truth'], p['prediction'], p['count']) for p in pairs] == [
        ('b', 'a', 3),
        ('b', 'c', 2),
        ('a', 'b', 10),
    ]
    assert pairs[0]['share'] == 0.3

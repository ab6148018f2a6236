import json

import numpy as np
import pytest

from volo.datasets.findings import Finding
from volo.doctor.check import SplitReport
from volo.doctor.class_counts import ClassCounts
from volo.doctor.report import report_dict, report_text
from volo.doctor.samples import SampleReport


def counted(*pixels):
    """Counts of one image with so many pixels of each class."""
    counts = ClassCounts(tuple(f'c{label}' for label in range(len(pixels))))
    counts.add(SampleReport('x', counts=np.array(pixels)))
    return counts


def test_splits_are_listed_with_their_notes():
    reports = [SplitReport('train', size=3), SplitReport('test', 'as val')]
    assert report_text(reports).splitlines() == [
        *('train: 3 samples', 'test: 0 samples (as val)', '', 'No findings.')
    ]


@pytest.mark.parametrize('count, end', [(1, '\n1 finding.'), (2, '\n2 findings.')])
def test_findings_are_counted(count, end):
    findings = [Finding('mask-size', 'm', '4x4')] * count
    assert report_text([SplitReport('val', findings=findings)]).endswith(end)


def test_findings_are_grouped_by_kind_over_the_splits():
    sizes = [Finding('mask-size', f'{i}.png', f'{i}x{i}') for i in range(5)]
    sizes[1] = Finding('mask-size', '1.png', '1x1', 'Turn it')
    empty = Finding('split-empty', 'val split', 'no samples')
    reports = [
        SplitReport('train', findings=sizes[:2]),
        SplitReport('val', findings=[*sizes[2:], empty]),
    ]
    _, _, _, title, line, remedy, _, *group, _, _ = report_text(reports).splitlines()
    assert title == '1 x splits that are empty or cannot be listed [split-empty]'
    assert line == '  val: val split: no samples' and empty.remedy in remedy
    assert group == [
        '5 x masks of another size than their image [mask-size]',
        '  train: 0.png: 0x0',
        '  train: 1.png: 1x1',
        '  val: 2.png: 2x2',
        '  ... and 2 more',
        f'  -> {sizes[0].remedy}.',
        '  -> Turn it.',
    ]


def test_only_train_has_class_weights():
    train = report_text([SplitReport('train', counts=counted(60, 0, 20))])
    assert 'Classes of train: share of pixels, number of images' in train
    assert '  c0   75.000%        1  weight 0.667' in train
    assert '  c1    0.000%        0  weight -' in train
    assert '  class_weight = [0.667, 0.000, 2.000]' in train
    val = report_text([SplitReport('val', counts=counted(60, 0, 20))])
    assert '  c2   25.000%        1\n' in val and 'weight' not in val


def test_long_class_lists_show_the_rarest():
    text = report_text([SplitReport('train', counts=counted(*range(100, 0, -1)))])
    assert 'Classes of train, the 40 rarest of 100' in text
    names = [line.split()[0] for line in text.splitlines() if '  weight ' in line]
    assert names == [f'c{label}' for label in range(99, 59, -1)]
    assert 'class_weight' not in text


def test_uncounted_classes_are_left_out():
    assert 'Classes' not in report_text([SplitReport('train', counts=counted(0, 0))])


def test_the_json_report_has_everything():
    finding = Finding('mask-labels', 'a.png', 'label 7', 'Correct it')
    reports = [
        SplitReport('train', size=2, findings=[finding], counts=counted(3, 1)),
        SplitReport('test', note='as val'),
    ]
    content = report_dict('c.py', reports)
    assert json.loads(json.dumps(content)) == content
    assert content['config'] == 'c.py' and content['clean'] is False
    assert content['findings'] == [
        dict(
            split='train',
            kind='mask-labels',
            file='a.png',
            value='label 7',
            remedy='Correct it',
        )
    ]
    train, test = content['splits']['train'], content['splits']['test']
    assert train['samples'] == 2 and train['classes'] == reports[0].counts.rows()
    assert test == dict(samples=0, note='as val', classes=[])
    assert report_dict('c.py', reports[1:])['clean'] is True

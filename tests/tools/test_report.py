import html.parser
import json
import shutil
import subprocess

import pytest

from tests.toy import run_tool

pytestmark = pytest.mark.slow

LAST = dict(classify='epoch_2.pth', segment='iter_4.pth')
PER_CLASS = 'val_evaluator.iou_metrics=[mIoU,mDice,mFscore]'


@pytest.fixture(scope='module')
def reports(trained, tmp_path_factory):
    """The folder with a page and its JSON for each task."""
    folder = tmp_path_factory.mktemp('reports')
    for task, last in LAST.items():
        options = ['--checkpoint', trained / task / last, '--images', 2]
        if task == 'segment':
            options += ['--cfg-options', PER_CLASS]
        out = folder / f'{task}.html'
        done = run_tool('report.py', trained / task, '--out', out, *options)
        assert done.returncode == 0, done.stderr
        assert str(out) in done.stdout
    return folder


@pytest.mark.parametrize('task', LAST)
def test_numbers_are_those_of_the_evaluation(trained, reports, tmp_path, task):
    options = []
    if task == 'segment':
        options = ['--cfg-options', PER_CLASS.replace('val_', 'test_')]
    done = run_tool(
        'test.py',
        trained / f'{task}.py',
        trained / task / LAST[task],
        '--work-dir',
        tmp_path,
        '--out',
        tmp_path / 'metrics.json',
        *options,
    )
    assert done.returncode == 0, done.stderr
    evaluated = json.loads((tmp_path / 'metrics.json').read_text())
    report = json.loads((reports / f'{task}.json').read_text())
    for name, value in report['metrics'].items():
        assert value == pytest.approx(evaluated[name], abs=1e-6)
    total = sum(map(sum, report['confusion_matrix']))
    right = sum(row[i] for i, row in enumerate(report['confusion_matrix']))
    means = report['class_means']
    if task == 'classify':
        assert 100 * right / total == pytest.approx(evaluated['accuracy/top1'])
    else:
        assert 100 * right / total == pytest.approx(evaluated['aAcc'], abs=0.01)
        for ours, theirs in (
            ('iou', 'mIoU'),
            ('accuracy', 'mAcc'),
            ('precision', 'mPrecision'),
            ('f1', 'mDice'),  # mFscore leaves out classes that were never predicted
        ):
            # mmseg rounds to two digits.
            assert 100 * means[ours] == pytest.approx(evaluated[theirs], abs=0.01)
        for row in report['classes']:
            scores = evaluated['per_class'][row['name']]
            for ours, theirs in (
                ('iou', 'IoU'),
                ('accuracy', 'Acc'),
                ('precision', 'Precision'),
                ('recall', 'Recall'),
            ):
                if scores[theirs] is None:
                    assert row[ours] is None
                else:
                    assert 100 * row[ours] == pytest.approx(scores[theirs], abs=1e-3)
    assert report['calibration']['count'] == total
    assert report['samples'] == 7 and len(report['classes']) == (
        7 if task == 'classify' else 8
    )
    assert report['model']['gmac'] > 0 and report['speed']['images_per_second'] > 0
    assert {'loss', 'lr'} <= report['curves'].keys()


class Tags(html.parser.HTMLParser):
    """Collect the attributes of a page's tags, by their names."""

    def __init__(self, page):
        super().__init__()
        self.found = {}
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.setdefault(tag, []).append(dict(attrs))


@pytest.mark.parametrize('task', LAST)
def test_the_page_needs_no_other_file(reports, task):
    page = (reports / f'{task}.html').read_text()
    tags = Tags(page).found
    assert not {'script', 'link', 'iframe'} & tags.keys()
    images = tags['img']
    # Two best and two worst samples.
    assert len(images) == 4 * (4 if task == 'segment' else 1)
    assert all(image['src'].startswith('data:image/webp') for image in images)
    assert all(link['href'].startswith('#') for link in tags['a'])
    assert len(page) < 3_000_000


@pytest.mark.skipif(not shutil.which('chromium'), reason='needs Chromium')
def test_a_browser_shows_every_image(reports, tmp_path):
    page = (reports / 'segment.html').read_text()
    check = (
        '<script>addEventListener("load", () => { document.title = [...document'
        '.images].filter(image => image.complete && image.naturalWidth > 0).length + '
        '" of " + document.images.length + (document.documentElement.scrollWidth > '
        'innerWidth ? ", too wide" : "") })</script>'
    )
    (tmp_path / 'page.html').write_text(page.replace('loading="lazy"', '') + check)
    done = subprocess.run(
        ['chromium', '--headless', '--no-sandbox', '--disable-gpu']
        + [f'--user-data-dir={tmp_path}/profile', '--window-size=390,800']
        + ['--virtual-time-budget=10000', '--dump-dom', str(tmp_path / 'page.html')],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert '<title>16 of 16</title>' in done.stdout, done.stderr


def test_training_writes_a_report(trained, tmp_path):
    options = ('--work-dir', tmp_path / 'run', '--report')
    done = run_tool('train.py', trained / 'segment.py', *options)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / 'run/report.json').read_text())
    assert report['checkpoint_name'].startswith('best_mIoU')
    # The evaluation left the config and the logs of the training alone.
    assert len(list((tmp_path / 'run').glob('*/vis_data'))) == 1


@pytest.mark.parametrize(
    'kind, message',
    [
        ('no folder', 'no such folder'),
        ('no config', 'no config (*.py). Name it with --config'),
        ('no checkpoint', 'no checkpoints (best_*.pth, epoch_*.pth, iter_*.pth)'),
        ('no validation', 'no val_dataloader: there is nothing to evaluate'),
    ],
)
def test_what_is_missing_is_one_clear_error(trained, tmp_path, kind, message):
    arguments = [tmp_path / 'run']
    if kind != 'no folder':
        arguments[0].mkdir()
    if kind in ('no checkpoint', 'no validation'):
        config = (trained / 'segment/segment.py').read_text()
        if kind == 'no validation':
            config += '\nval_dataloader = None\n'
            arguments += ['--checkpoint', trained / 'segment/iter_4.pth']
        (tmp_path / 'run/segment.py').write_text(config)
    done = run_tool('report.py', *arguments)
    assert done.returncode == 2, done.stderr
    assert 'Traceback' not in done.stderr
    (error,) = [li for li in done.stderr.splitlines() if li.startswith('error: ')]
    assert message in error
    assert not list(tmp_path.glob('run/report*'))

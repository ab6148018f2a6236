import json

import pytest

from tests.toy import run_tool

pytestmark = pytest.mark.slow


@pytest.fixture
def runs(tmp_path):
    """Two work dirs of the same name, each with the logs of a short training."""
    for group in ('a', 'b'):
        log = tmp_path / group / 'run/20200101/vis_data/scalars.json'
        log.parent.mkdir(parents=True)
        lines = [
            dict(loss=2.0, lr=0.1, epoch=1, iter=4, step=4),
            {'accuracy/top1': 40.0, 'step': 1},
        ]
        log.write_text('\n'.join(map(json.dumps, lines)))
    return tmp_path / 'a/run', tmp_path / 'b/run'


def test_draws_runs(runs, tmp_path):
    out = tmp_path / 'curves.svg'
    done = run_tool('plot_logs.py', *runs, '--out', out, '--smooth', 5)
    assert done.returncode == 0, done.stderr
    assert str(out) in done.stdout
    # matplotlib names each text of an SVG in a comment.
    drawn = out.read_text()
    texts = ('loss', 'accuracy/top1', 'lr', 'iteration', 'epoch', *map(str, runs))
    assert all(f'<!-- {text} -->' in drawn for text in texts)


def test_draws_what_is_asked_for(runs, tmp_path):
    out = tmp_path / 'curves.svg'
    arguments = ('--scalars', 'lr', '--labels', 'one', 'two', '--out', out)
    done = run_tool('plot_logs.py', *runs, *arguments)
    assert done.returncode == 0, done.stderr
    drawn = out.read_text()
    assert all(f'<!-- {text} -->' in drawn for text in ('lr', 'one', 'two'))
    assert '<!-- loss -->' not in drawn


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['--scalars', 'los'], "no scalar 'los': there are accuracy/top1, loss, lr"),
        (['--labels', 'one'], '--labels: 1 for 2 runs: give one per run'),
        (
            ['--labels', 'one', 'one'],
            '--labels one one: two are equal: give diff',
        ),
        (['--smooth', 0], '--smooth 0: must be 1 or more'),
    ],
)
def test_a_wrong_option_is_one_clear_error(runs, tmp_path, arguments, message):
    done = run_tool('plot_logs.py', *runs, '--out', tmp_path / 'a.png', *arguments)
    assert done.returncode == 2 and f'error: {message}' in done.stderr


def test_a_folder_without_logs_is_one_clear_error(tmp_path):
    done = run_tool('plot_logs.py', tmp_path, '--out', tmp_path / 'a.png')
    assert done.returncode == 2
    assert f'error: {tmp_path}: no */vis_data/scalars.json' in done.stderr

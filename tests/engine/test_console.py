import logging
import re

import pytest

from tests.toy import run_tool
from volo.engine.console import is_for_console

pytestmark = pytest.mark.slow


def test_the_console_shows_a_short_header_and_the_log_file_all(trained, tmp_path):
    done = run_tool('train.py', trained / 'classify.py', '--work-dir', tmp_path)
    assert done.returncode == 0, done.stderr
    console = (done.stderr + done.stdout).splitlines()
    before = [i for i, line in enumerate(console) if 'Epoch(train)' in line][0]
    assert before < 40
    shown = '\n'.join(console[:before])
    for setting in (
        f'config    {trained / "classify.py"}',
        f'work dir  {tmp_path}',
        f'log       {tmp_path}/',
        'model     ImageClassifier with VOLO tiny, ',
        'train     14 images, 7 per batch and process',
        'val       7 images, 7 per batch and process',
    ):
        assert f'\n  {setting}' in shown
    (log,) = tmp_path.glob('*/*.log')
    everything = log.read_text()
    for text in (
        'System environment:',
        'Config:\n',
        'Hooks will be executed',
        shown[-9:],
    ):
        assert text in everything


def test_an_evaluation_shows_a_header_and_its_results(trained, tmp_path):
    checkpoint = trained / 'segment/iter_4.pth'
    arguments = (trained / 'segment.py', checkpoint, '--work-dir', tmp_path)
    done = run_tool('test.py', *arguments)
    assert done.returncode == 0, done.stderr
    output = done.stdout + done.stderr
    assert '\n  test      7 images, 1 per batch and process' in output
    assert re.search(r'\| background \|', output) and 'mIoU: ' in output
    assert 'arning' not in output.replace('WARNING', '')
    # One's own checkpoint needs no note.
    notes = [line for line in output.splitlines() if str(checkpoint) in line]
    assert all(line.partition('oad')[0][-1:] in 'lL' for line in notes)


def test_records_of_the_set_up_are_for_the_file_only():
    def record(message, *arguments):
        return logging.LogRecord('a', logging.INFO, '', 1, message, arguments, None)

    assert not is_for_console(record('Config:\n%s', 'a = 1'))
    assert not is_for_console(record('paramwise_options -- a:lr=1'))
    assert is_for_console(record('\n+---+\n| Class |'))

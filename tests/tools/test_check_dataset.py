import json
import runpy

import pytest

from tests.toy import ROOT, run_tool, write_tasks

pytestmark = pytest.mark.slow


@pytest.fixture
def check(monkeypatch):
    """Run the tool in this process; return its exit status."""

    def run(*arguments):
        tool = str(ROOT / 'tools/check_dataset.py')
        monkeypatch.setattr('sys.argv', [tool, *map(str, arguments)])
        try:
            runpy.run_path(tool, run_name='__main__')
        except SystemExit as end:
            return end.code
        return 0

    return run


def test_findings_exit_with_1_and_are_in_the_json_report(tmp_path):
    config = write_tasks(tmp_path)['segment']
    mask = next((tmp_path / 'data/masks/train/cross').iterdir())
    mask.write_bytes(b'')
    out = tmp_path / 'report.json'
    options = ('--splits', 'train', '--workers', 1, '--out', out)
    done = run_tool('check_dataset.py', config, *options)
    assert done.returncode == 1, done.stderr
    assert str(mask) in done.stdout and '[file-broken]' in done.stdout
    assert 'Restore the file' in done.stdout and '1 finding.' in done.stdout
    assert json.loads(out.read_text())['findings'][0]['file'] == str(mask)


def test_clean_data_and_ignored_findings_exit_with_0(tmp_path, capsys, check):
    config = write_tasks(tmp_path)['classify']
    assert check(config, '--workers', 0) == 0
    assert 'No findings.' in capsys.readouterr().out
    (tmp_path / 'data/images/train/ring/ring_0000.webp').touch()
    assert check(config, '--workers', 0) == 1
    ignored = ('--ignore', 'image-left-out')
    assert check(config, '--workers', 0, *ignored) == 0


def test_unusable_configs_and_options_exit_with_2(tmp_path, capsys, check):
    assert check(tmp_path / 'no.py') == 2
    assert 'error: ' in (error := capsys.readouterr().err) and 'no such conf' in error
    (tmp_path / 'typo.py').write_text("train_dataloader = dict(dataset=dict(type='X'))")
    assert check(tmp_path / 'typo.py') == 2
    assert "unknown type 'X'" in capsys.readouterr().err
    assert check(tmp_path / 'typo.py', '--out', tmp_path / 'no/report.json') == 2
    assert 'Create it' in capsys.readouterr().err

"""The command ``volo``, and what all tools share."""

import os
import re
import shutil
import subprocess
import sys

import pytest

import volo_cli
from tests.forked import ROOT
from tests.toy import run_tool
from tools import check_dataset, train
from volo.doctor.check import SPLITS
from volo.engine import load_config
from volo.engine.hooks.resumed_settings import SOURCES
from volo.engine.tracking import TRACKERS
from volo.errors import ConfigError
from volo_cli import find_commands, natural, positive

TOOLS = sorted(path.name for path in find_commands().values() if path.stem[0] != '_')


def python(*arguments, cwd):
    """Run this Python in another folder, with the checkout on its path."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'},
    )


def test_help_lists_every_command_that_has_a_file(capsys, monkeypatch):
    for arguments in ([], ['--help']):
        monkeypatch.setattr('sys.argv', ['volo', *arguments])
        volo_cli.main()
        lines = capsys.readouterr().out.splitlines()
        assert [line.split()[0] for line in lines[2:-3]] == list(find_commands())
        assert '  train    Train a classifier or a segmentor.' in lines
        assert max(map(len, lines)) < 90


def test_an_unknown_command_suggests_a_similar_one(capsys, monkeypatch):
    monkeypatch.setattr('sys.argv', ['volo', 'trian'])
    with pytest.raises(SystemExit) as end:
        volo_cli.main()
    assert end.value.code == 2
    error = "error: volo has no command 'trian'. Did you mean train?"
    assert error in capsys.readouterr().err


def test_a_wheel_has_its_tools_inside_the_package_and_no_demo(tmp_path, monkeypatch):
    for folder in ('volo/.mim/tools', 'tools', 'demo'):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(ROOT / 'tools/plot_logs.py', tmp_path / 'volo/.mim/tools')
    # Other packages in site-packages.
    (tmp_path / 'tools/train.py').touch()
    (tmp_path / 'demo/__main__.py').touch()
    monkeypatch.setattr(volo_cli, 'ROOT', tmp_path)
    assert find_commands() == dict(plot=tmp_path / 'volo/.mim/tools/plot_logs.py')


@pytest.mark.parametrize('command', find_commands())
def test_help_imports_neither_torch_nor_volo(tmp_path, command):
    done = python('-X', 'importtime', '-m', 'volo_cli', command, '--help', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    name = 'python -m demo' if command == 'demo' else f'volo {command}'
    assert done.stdout.startswith(f'usage: {name} ')
    imported = set(re.findall(r'\| +(\w+)$', done.stderr, re.MULTILINE))
    assert 'argparse' in imported
    assert not imported & {'torch', 'volo', 'mmcv', 'matplotlib'}
    assert 'Warning' not in done.stderr and 'Could not' not in done.stdout


@pytest.mark.parametrize('tool', TOOLS)
def test_each_tool_is_a_script_as_well(tmp_path, tool):
    done = python(ROOT / 'tools' / tool, '--help', cwd=tmp_path)
    assert done.returncode == 0 and f'usage: {tool} ' in done.stdout, done.stderr


def test_choices_that_are_spelled_twice_agree():
    assert train.SOURCES == SOURCES
    assert train.TRACKERS == tuple(TRACKERS)
    assert check_dataset.SPLITS == SPLITS


def test_numbers_below_the_minimum_are_refused():
    assert (natural('0'), natural('2'), positive('2')) == (0, 2, 2)
    for read, text in ((natural, '-1'), (positive, '0'), (positive, '-1')):
        with pytest.raises(ValueError):
            read(text)


@pytest.mark.parametrize('name', ['volo_tiny_upernet_camvid', 'volo_d1_imagenet.py'])
def test_a_config_of_the_package_needs_no_folder(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    path = ROOT / 'configs' / f'{name.removesuffix(".py")}.py'
    assert load_config(name).filename == str(path)
    # A file of the user comes first.
    (tmp_path / name).write_text('mine = 1')
    if name.endswith('.py'):
        assert load_config(name).mine == 1


def test_a_mistyped_name_of_a_config_is_corrected(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = 'no such config file. Did you mean volo_tiny_upernet_camvid?'
    for name in ('volo_tiny_upernet_camvit', 'configs/volo_tiny_upernet_camvit.py'):
        with pytest.raises(ConfigError, match=re.escape(message)):
            load_config(name)


@pytest.mark.slow
def test_python_m_volo_runs_a_command(toy, tmp_path):
    done = run_tool('volo', 'test', toy / 'segment.py', tmp_path / 'none.pth')
    assert done.returncode == 2
    assert done.stderr == f'error: {tmp_path / "none.pth"}: no such checkpoint\n'


@pytest.mark.slow
def test_importing_volo_prints_nothing(tmp_path):
    done = python('-c', 'import volo', cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, '', '')


@pytest.mark.slow
def test_torchrun_trains(toy, tmp_path):
    launch = ('-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', 2)
    train = ('-m', 'volo', 'train', toy / 'segment.py', '--launcher', 'pytorch')
    done = python(*launch, *train, '--work-dir', tmp_path / 'run', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / 'run/iter_4.pth').is_file()

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.bad_checkpoints import BROKEN, MALICIOUS, make_broken, make_malicious
from tests.classifier import build
from tests.synth_weights import synth_state_dict
from volo.checkpoints.layouts import to_official_layout
from volo.checkpoints.reading import read_checkpoint
from volo.errors import CheckpointError

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / 'tools' / 'convert_checkpoint.py'


def run(*args):
    """Run the tool as a user does."""
    return subprocess.run(
        [sys.executable, str(TOOL), *map(str, args)],
        capture_output=True,
        text=True,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        timeout=300,
    )


@pytest.fixture
def convert():
    """Run the tool within this process: the libraries take seconds to import."""
    import runpy

    tool = runpy.run_path(str(TOOL))

    def convert(*args):
        tool['main'](tool['make_parser']().parse_args(list(map(str, args))))

    return convert


@pytest.fixture(scope='module')
def weights():
    return synth_state_dict({k: v.shape for k, v in build().state_dict().items()})


@pytest.fixture
def official(tmp_path, weights):
    path = tmp_path / 'official.pth.tar'
    torch.save(to_official_layout(weights), path)
    return path


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_command_line(tmp_path, official, weights):
    result = run(official, tmp_path / 'x.pth')

    assert result.returncode == 0, result.stderr
    assert 'volo tiny, volo layout' in result.stdout
    assert f'{len(weights)} tensors' in result.stdout
    checkpoint = read_checkpoint(tmp_path / 'x.pth')
    assert checkpoint['meta'] == {}
    assert_same(checkpoint['state_dict'], weights)


def test_command_line_refuses_malicious_files(tmp_path):
    path, canary = make_malicious('torch.save', tmp_path)

    result = run(path, tmp_path / 'y.pth')

    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].startswith(f'error: {path} was refused')
    assert 'Traceback' not in result.stderr
    assert not canary.exists() and not (tmp_path / 'y.pth').exists()


def test_there_and_back(tmp_path, official, weights, convert, capsys):
    convert(official, tmp_path / 'ours.safetensors')
    convert(tmp_path / 'ours.safetensors', tmp_path / 'x.pth', '--to', 'official')

    assert_same(load_file(tmp_path / 'ours.safetensors'), weights)
    # A flat dict of tensors, as the authors release them.
    assert_same(torch.load(tmp_path / 'x.pth'), torch.load(official))
    # Batch norms' statistics are tensors, but no parameters.
    parameters = sum(
        value.numel()
        for name, value in weights.items()
        if 'running' not in name and 'num_batches' not in name
    )
    first, second = capsys.readouterr().out.splitlines()
    assert f'{parameters:,} parameters' in first and 'volo layout' in first
    assert f'{parameters:,} parameters' in second and 'official layout' in second


def test_ema(tmp_path, weights, convert):
    averaged = {name: value + 1 for name, value in weights.items()}
    content = dict(state_dict=weights, state_dict_ema=averaged)
    torch.save(content, tmp_path / 'both.pth')

    convert(tmp_path / 'both.pth', tmp_path / 'x.safetensors', '--ema')

    assert_same(load_file(tmp_path / 'x.safetensors'), averaged)


def test_no_ema(tmp_path, official, convert):
    with pytest.raises(CheckpointError, match='no averaged weights'):
        convert(official, tmp_path / 'x.pth', '--ema')


def test_existing_file_is_kept_unless_forced(tmp_path, official, weights, convert):
    target = tmp_path / 'x.pth'
    target.write_text('precious')

    with pytest.raises(CheckpointError, match=r'x\.pth exists.*--force'):
        convert(official, target)
    assert target.read_text() == 'precious'

    convert(official, target, '--force')
    assert_same(read_checkpoint(target)['state_dict'], weights)


def test_in_place(official, convert):
    target = official.with_suffix('.pth')
    official.rename(target)
    before = torch.load(target)

    convert(target, target, '--to', 'official', '--force')

    assert_same(torch.load(target), before)


@pytest.mark.parametrize('name', ['x.bin', 'x', 'x.pth.tar', 'nowhere/x.pth'])
def test_unusable_target(tmp_path, official, convert, name):
    with pytest.raises(CheckpointError, match='must end in|does not exist'):
        convert(official, tmp_path / name)
    assert list(tmp_path.iterdir()) == [official]


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_nothing_is_left_of_a_failed_write(
    tmp_path, official, convert, monkeypatch, suffix
):
    """Stopped just before the end, the old file is whole and no other is there."""
    target = tmp_path / f'x{suffix}'
    target.write_text('precious')

    def fail(source, destination):
        assert Path(source).stat().st_size > 1000
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(os, 'replace', fail)

    with pytest.raises(CheckpointError, match='cannot be written.*No space'):
        convert(official, target, '--force')

    assert target.read_text() == 'precious'
    assert sorted(tmp_path.iterdir()) == sorted([official, target])


def test_foreign_weights_are_refused(tmp_path, convert):
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / 'linear.pth')

    with pytest.raises(CheckpointError, match=r'linear\.pth: .*no weights of a VOLO'):
        convert(tmp_path / 'linear.pth', tmp_path / 'x.pth')


@pytest.mark.parametrize('kind', BROKEN)
def test_broken_files_are_refused(tmp_path, convert, kind):
    with pytest.raises(CheckpointError, match=BROKEN[kind]):
        convert(make_broken(kind, tmp_path), tmp_path / 'y.pth')
    assert not (tmp_path / 'y.pth').exists()


@pytest.mark.parametrize('kind', MALICIOUS)
def test_malicious_files_are_refused(tmp_path, convert, kind):
    path, canary = make_malicious(kind, tmp_path)

    with pytest.raises(CheckpointError, match='refused'):
        convert(path, tmp_path / 'y.pth')
    assert not canary.exists() and not (tmp_path / 'y.pth').exists()

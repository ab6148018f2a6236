import pytest
import torch
from mmengine.config import Config

from volo.engine.resuming import (
    find_fault,
    list_checkpoints,
    move_aside,
    newest_whole_checkpoint,
    settle_start,
)
from volo.errors import CheckpointError, ConfigError


def save(folder, *names):
    folder.mkdir(exist_ok=True)
    for name in names:
        torch.save(dict(state_dict=dict(a=torch.rand(1000))), folder / name)


def damage(path, how):
    """Spoil a checkpoint as a crash or a disk does."""
    content = path.read_bytes()
    spoilt = dict(
        truncated=content[:-1000],
        empty=b'',
        zeros=bytes(len(content)),
        hole=content[:2000] + bytes(500) + content[2500:],
        text=b'not a checkpoint',
    )
    path.write_bytes(spoilt[how])


HOW = ('truncated', 'empty', 'zeros', 'hole', 'text')


def config(work_dir, by_epoch=False, **keys):
    hook = dict(type='SafeCheckpointHook', by_epoch=by_epoch)
    hooks = dict(default_hooks=dict(checkpoint=hook))
    return Config(dict(work_dir=str(work_dir), **hooks, **keys))


def settled(cfg, **options):
    settle_start(cfg, **options)
    return cfg.resume, cfg.load_from


def test_the_newest_first(tmp_path):
    epochs = ('epoch_9.pth', 'epoch_9_iter_91.pth', 'epoch_10.pth')
    save(tmp_path, *epochs, 'iter_5.pth', 'best_mIoU_epoch_11.pth', 'epoch_x.pth')
    found = list_checkpoints(tmp_path, 'epoch_{}.pth')
    assert [path.name for path in found] == list(reversed(epochs))
    assert list_checkpoints(tmp_path / 'nowhere', 'epoch_{}.pth') == []


@pytest.mark.parametrize('how', HOW)
def test_what_is_broken_is_found_and_stepped_over(tmp_path, how):
    save(tmp_path, 'iter_2.pth', 'iter_4.pth')
    assert find_fault(tmp_path / 'iter_4.pth') is None
    damage(tmp_path / 'iter_4.pth', how)
    assert find_fault(tmp_path / 'iter_4.pth').startswith('is ')
    newest = newest_whole_checkpoint(tmp_path, 'iter_{}.pth')
    assert newest == tmp_path / 'iter_2.pth'


@pytest.mark.parametrize('pointer', [None, '', 'nowhere/iter_9.pth'])
def test_the_pointer_is_not_needed(tmp_path, pointer):
    save(tmp_path, 'iter_2.pth', 'iter_4.pth')
    if pointer is not None:
        (tmp_path / 'last_checkpoint').write_text(pointer)
    expected = (True, str(tmp_path / 'iter_4.pth'))
    assert settled(config(tmp_path, resume=True)) == expected


def test_nothing_whole_is_refused(tmp_path):
    save(tmp_path, 'iter_2.pth', 'iter_4.pth')
    damage(tmp_path / 'iter_2.pth', 'truncated')
    damage(tmp_path / 'iter_4.pth', 'empty')
    with pytest.raises(
        CheckpointError, match='iter_4.pth is empty .* iter_2.pth is dam'
    ):
        settle_start(config(tmp_path, resume=True))


def test_resuming_without_checkpoints_starts(tmp_path):
    weights = 'd1_224_84.2.pth.tar'
    assert settled(config(tmp_path, resume=True)) == (False, None)
    # A named checkpoint is resumed, wherever it lies.
    assert settled(config(tmp_path, resume=True, load_from=weights)) == (True, weights)
    assert settled(config(tmp_path, load_from=weights)) == (False, weights)


def test_starting_over_has_to_be_said_and_keeps_the_earlier_run(tmp_path):
    work_dir = tmp_path / 'run'
    save(work_dir, 'iter_4.pth', 'best_mIoU_iter_2.pth')
    with pytest.raises(
        ConfigError, match='up to iter_4.pth: .* --resume, .* --start-over'
    ):
        settle_start(config(work_dir))
    assert settled(config(work_dir), start_over=True) == (False, None)
    (kept,) = tmp_path.glob('run-*')
    assert {p.name for p in kept.iterdir()} == {'iter_4.pth', 'best_mIoU_iter_2.pth'}
    assert not work_dir.exists()
    # Where there is nothing to keep it is no different.
    assert settled(config(work_dir), start_over=True) == (False, None)


@pytest.mark.parametrize(
    'variable', ['TORCHELASTIC_RESTART_COUNT', 'SLURM_RESTART_COUNT']
)
def test_a_restarted_process_goes_on_by_itself(tmp_path, monkeypatch, variable):
    save(tmp_path, 'iter_4.pth')
    monkeypatch.setenv(variable, '0')
    with pytest.raises(ConfigError, match='holds checkpoints'):
        settle_start(config(tmp_path))
    monkeypatch.setenv(variable, '1')
    expected = (True, str(tmp_path / 'iter_4.pth'))
    # Whatever it was first started with.
    assert settled(config(tmp_path)) == expected
    assert settled(config(tmp_path, load_from='other.pth')) == expected
    assert settled(config(tmp_path), start_over=True) == expected
    assert settled(config(tmp_path / 'empty', load_from='a.pth')) == (False, 'a.pth')


def test_looks_where_the_hook_saves(tmp_path):
    save(tmp_path / 'run', 'my_3.pth', 'epoch_8.pth')
    cfg = config('work_dirs/run', by_epoch=True, resume=True)
    cfg.default_hooks.checkpoint.update(
        out_dir=str(tmp_path), filename_tmpl='my_{}.pth'
    )
    assert settled(cfg) == (True, str(tmp_path / 'run/my_3.pth'))
    cfg.update(load_from=None)
    cfg.default_hooks.checkpoint.out_dir = 's3://bucket'
    assert settled(cfg) == (True, None)  # mmengine's own pointer


def test_folders_are_moved_aside(tmp_path):
    assert move_aside(tmp_path / 'demo') is None
    for content in ('first', 'second'):
        (tmp_path / 'demo').mkdir()
        (tmp_path / 'demo/result').write_text(content)
        kept = move_aside(tmp_path / 'demo')
        assert (kept / 'result').read_text() == content
    assert len(list(tmp_path.iterdir())) == 2

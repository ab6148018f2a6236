from types import SimpleNamespace

import pytest
import torch

from volo.engine.hooks.saving import SafeCheckpointHook
from volo.errors import TrainingError
from volo.files import write_atomically


class Hub:
    """The part of a message hub that the hook uses."""

    def __init__(self, **info):
        self.runtime_info = info

    def update_info(self, key, value):
        self.runtime_info[key] = value

    def get_info(self, key):
        return self.runtime_info[key]


def make_runner(folder, **info):
    """Return a stand-in for a runner; ``log`` lists the files after each save."""
    runner = SimpleNamespace(
        work_dir=str(folder), iter=0, epoch=0, log=[], message_hub=Hub(**info)
    )
    runner.logger = SimpleNamespace(info=lambda _: None, warning=lambda _: None)

    def save(out_dir, filename, *args, meta, **kwargs):
        write_atomically(f'{out_dir}/{filename}', str(meta).encode())
        runner.log.append(sorted(path.name for path in folder.glob('*.pth')))

    runner.save_checkpoint = save
    return runner


def train(hook, runner, iterations):
    """Call the hook as a loop does."""
    hook.before_train(runner)
    while runner.iter < iterations:
        hook.after_train_iter(runner, runner.iter)
        runner.iter += 1


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_outdated_goes_after_the_new_is_there(tmp_path):
    hook = SafeCheckpointHook(interval=1, by_epoch=False, max_keep_ckpts=2)
    runner = make_runner(tmp_path)
    runner.max_iters = 4
    train(hook, runner, 4)
    assert runner.log[2:] == [
        ['iter_1.pth', 'iter_2.pth', 'iter_3.pth'],
        ['iter_2.pth', 'iter_3.pth', 'iter_4.pth'],
    ]
    assert names(tmp_path) == ['iter_3.pth', 'iter_4.pth', 'last_checkpoint']
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'iter_4.pth')
    assert runner.message_hub.runtime_info['keep_ckpt_ids'] == [3, 4]


def test_a_resumed_run_removes_what_a_killed_one_left(tmp_path):
    for name in ('iter_1.pth', 'iter_2.pth', 'iter_3.pth', '.iter_4.pth.partial'):
        (tmp_path / name).touch()
    hook = SafeCheckpointHook(interval=1, by_epoch=False, max_keep_ckpts=2)
    runner = make_runner(tmp_path, keep_ckpt_ids=[1, 2, 3], last_ckpt='iter_3.pth')
    runner.iter = 3
    hook.before_train(runner)
    assert names(tmp_path) == ['iter_2.pth', 'iter_3.pth']
    assert (hook.saved_iter, hook.last_ckpt) == (3, 'iter_3.pth')


def test_within_an_epoch_until_the_next_regular_one(tmp_path):
    hook = SafeCheckpointHook(interval=1, by_epoch=True)
    runner = make_runner(tmp_path)
    runner.max_epochs = 3
    hook.before_train(runner)
    runner.epoch, runner.iter = 1, 7
    hook.save_now(runner)
    assert names(tmp_path) == ['epoch_1_iter_8.pth', 'last_checkpoint']
    assert hook.saved_iter == 8
    runner.iter = 10
    hook.after_train_epoch(runner)
    assert names(tmp_path) == ['epoch_2.pth', 'last_checkpoint']


def test_the_best_stays_until_a_better_is_there_and_if_it_has_its_name(tmp_path):
    hook = SafeCheckpointHook(
        interval=1, by_epoch=False, save_best='mIoU', rule='greater'
    )
    runner = make_runner(tmp_path)
    runner.max_iters = 2
    for iteration, score in ((1, 0.1), (2, 0.2), (2, 0.3)):
        train(hook, runner, iteration)
        hook.after_val_epoch(runner, dict(mIoU=score))
        assert (tmp_path / f'best_mIoU_iter_{iteration}.pth').exists()
        assert SafeCheckpointHook.validated_iter(runner) == iteration
    assert not (tmp_path / 'best_mIoU_iter_1.pth').exists()
    assert any(
        {'best_mIoU_iter_1.pth', 'best_mIoU_iter_2.pth'} <= set(saved)
        for saved in runner.log
    )


@pytest.mark.parametrize('key', ['state_dict', 'ema_state_dict'])
@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_weights_that_are_not_finite_are_not_saved(tmp_path, key, value):
    hook = SafeCheckpointHook(out_dir=str(tmp_path))
    weights = dict(a=torch.ones(2), steps=torch.tensor(3))
    checkpoint = dict(meta=dict(iter=8), state_dict=dict(weights))
    hook.before_save_checkpoint(None, checkpoint)
    checkpoint[key] = dict(weights, b=torch.tensor([1.0, value]))
    with pytest.raises(TrainingError, match=r'1 tensors .* 8 iterations \(b\): no'):
        hook.before_save_checkpoint(None, checkpoint)

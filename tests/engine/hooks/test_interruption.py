import os
import signal
from types import SimpleNamespace

import pytest
from torch.utils.data import DataLoader, Dataset

from volo.engine import InterruptionHook, SafeCheckpointHook
from volo.engine.hooks.interruption import leave_group, validation_is_due
from volo.errors import ConfigError, Interrupted


class Groups(Dataset):
    """Each sample is the process group of the process that loads it."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return os.getpgid(0)


class FakeCheckpoints(SafeCheckpointHook):
    """Record the iterations that are saved."""

    def __init__(self, saved_iter=-1):
        self.saved_iter = saved_iter
        self.last_ckpt = 'iter_3.pth'
        self.saves = []

    def save_now(self, runner):
        self.saves.append(runner.iter + 1)


def make_runner(checkpoints, iteration=2, updates=True, val_loop=None):
    loader = DataLoader(Groups())
    return SimpleNamespace(
        hooks=[checkpoints],
        iter=iteration,
        epoch=0,
        max_iters=10,
        train_dataloader=loader,
        val_dataloader=loader,
        train_loop=SimpleNamespace(val_begin=1, val_interval=4),
        val_loop=val_loop,
        message_hub=SimpleNamespace(runtime_info={}),
        optim_wrapper=SimpleNamespace(should_update=lambda: updates),
        visualizer=SimpleNamespace(close=lambda: None),
    )


@pytest.fixture
def listening():
    """Return a function that starts a hook; restore the signal handlers at the end."""
    handlers = {number: signal.getsignal(number) for number in (2, 15)}

    def start(runner):
        hook = InterruptionHook()
        hook.before_train(runner)
        return hook

    yield start
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_at_the_end_of_the_iteration(listening, number, capfd):
    before = signal.getsignal(number)
    checkpoints = FakeCheckpoints()
    runner = make_runner(checkpoints)
    hook = listening(runner)
    hook.after_train_iter(runner, 0)
    assert checkpoints.saves == []
    os.kill(os.getpid(), number)
    assert f'{number.name}: saving after this iteration' in capfd.readouterr().err
    # A second signal stops at once.
    assert signal.getsignal(number) == before
    with pytest.raises(Interrupted, match=f'by {number.name}: iter_3.pth is saved'):
        hook.after_train_iter(runner, 0)
    assert checkpoints.saves == [3]


def test_what_is_saved_already_is_not_saved_again(listening):
    checkpoints = FakeCheckpoints(saved_iter=3)
    runner = make_runner(checkpoints)
    hook = listening(runner)
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(Interrupted):
        hook.after_train_iter(runner, 0)
    assert checkpoints.saves == []


def test_accumulated_gradients_are_applied_first(listening):
    checkpoints = FakeCheckpoints()
    runner = make_runner(checkpoints, updates=False)
    hook = listening(runner)
    os.kill(os.getpid(), signal.SIGTERM)
    hook.after_train_iter(runner, 0)
    assert checkpoints.saves == []


@pytest.mark.parametrize('saved', [True, False])
def test_a_validation_stops_at_once_if_the_weights_are_saved(listening, saved):
    runner = make_runner(FakeCheckpoints(saved_iter=2 if saved else 1))
    hook = listening(runner)
    hook.before_val(runner)
    hook.after_val_iter(runner, 0)
    os.kill(os.getpid(), signal.SIGTERM)
    if saved:
        with pytest.raises(Interrupted):
            hook.after_val_iter(runner, 0)
    else:
        hook.after_val_iter(runner, 0)


def test_a_validation_outside_of_training_goes_unnoticed():
    runner = make_runner(FakeCheckpoints())
    hook = InterruptionHook()
    hook.before_val(runner)
    hook.after_val_iter(runner, 0)


@pytest.mark.parametrize(
    'iteration, validated, due',
    [(0, None, False), (3, None, False), (4, None, True), (4, 4, False), (10, 8, True)],
)
def test_an_interrupted_validation_is_repeated(listening, iteration, validated, due):
    runs = []
    loop = SimpleNamespace(run=lambda: runs.append(1))
    runner = make_runner(FakeCheckpoints(), iteration, val_loop=loop)
    runner.message_hub.runtime_info['iter_validated'] = validated
    assert validation_is_due(runner) == due
    listening(runner)
    assert bool(runs) == due


def test_another_checkpoint_hook_is_refused():
    runner = make_runner(FakeCheckpoints())
    runner.hooks = []
    with pytest.raises(ConfigError, match='make that a SafeCheckpointHook, or set'):
        InterruptionHook().before_train(runner)


def test_workers_are_not_in_the_group_that_is_signalled():
    seen = []
    loader = DataLoader(Groups(), num_workers=1, worker_init_fn=seen.append)
    leave_group(loader)
    groups = {int(group) for group in loader}
    assert os.getpgid(0) not in groups
    loader.worker_init_fn.args[0](5)
    assert seen == [5]  # the loader's own function still runs

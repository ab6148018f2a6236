import functools
import json
import subprocess
import sys

import pytest
import torch
from mmengine.optim.optimizer import amp_optimizer_wrapper

from tests.poison import make_runner, make_samples, same
from tests.toy import ROOT
from volo.engine.hooks.non_finite import SkipNonFiniteHook
from volo.engine.hooks.skipped_steps import (
    Findings,
    Report,
    broken_files,
    describe_files,
    describe_reason,
    sample_files,
)
from volo.errors import ConfigError, TrainingError
from volo.visualization.curves import read_curves

POISON = ['nan', 'explodes', 'huge']

WRAPPERS = dict(
    plain=dict(),
    momentum=dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9)),
    clipped=dict(clip_grad=dict(max_norm=1.0)),
    clipped_by_value=dict(clip_grad=dict(type='value', clip_value=1.0)),
    bfloat16=dict(type='BFloat16OptimWrapper'),
    fused=dict(optimizer=dict(type='AdamW', lr=0.1, fused=True)),
)


#: Clipping by value makes infinity finite.
CASES = [
    (wrapper, kind)
    for wrapper in WRAPPERS
    for kind in POISON
    if (wrapper, kind) != ('clipped_by_value', 'explodes')
]


@pytest.fixture
def amp(monkeypatch):
    """mmengine's wrapper with a loss scale, which torch can also do on a CPU."""
    scaler = functools.partial(torch.amp.GradScaler, device='cpu')
    monkeypatch.setattr(amp_optimizer_wrapper, 'GradScaler', scaler)
    monkeypatch.setattr(amp_optimizer_wrapper, 'is_cuda_available', lambda: True)
    return dict(type='AmpOptimWrapper', dtype='bfloat16')


def train(folder, kinds, wrapper=None, **options):
    runner = make_runner(folder, kinds, wrapper, **options)
    runner.train()
    return runner


def skipped(runner):
    return runner.message_hub.get_info('skipped_steps', 0)


def read_log(folder):
    (log,) = folder.glob('*/*.log')
    return log.read_text()


def finite(state):
    return all(torch.isfinite(value).all() for value in state.values())


@pytest.mark.parametrize('wrapper, kind', CASES)
def test_a_skipped_step_leaves_all_as_it_was(tmp_path, wrapper, kind):
    runner = train(tmp_path, ['a', kind, 'b'], WRAPPERS[wrapper])
    assert runner.record.unchanged() == [False, True, False]
    assert skipped(runner) == 1


@pytest.mark.parametrize('wrapper, kind', CASES)
def test_the_others_train_as_if_it_had_not_been_there(tmp_path, wrapper, kind):
    poisoned = train(tmp_path, ['a', kind, 'b', 'c'], WRAPPERS[wrapper])
    good = train(tmp_path, ['a', 'b', 'c'], WRAPPERS[wrapper])
    assert same(poisoned.record.states[-1], good.record.states[-1])
    assert skipped(good) == 0


def test_without_the_hook_the_model_is_lost(tmp_path):
    """The batches of the other tests do spoil a model."""
    for kind in POISON:
        runner = make_runner(tmp_path, ['a', kind, 'b'], max_in_a_row=1)
        runner._hooks = [
            hook for hook in runner.hooks if not isinstance(hook, SkipNonFiniteHook)
        ]
        runner.train()
        assert not finite(runner.record.states[-1])


@pytest.mark.parametrize('kind', POISON)
@pytest.mark.parametrize('first', [True, False])
def test_one_batch_of_several_skips_their_step(tmp_path, kind, first):
    wrapper = dict(accumulative_counts=2)
    pair = [kind, 'a'] if first else ['a', kind]
    poisoned = train(tmp_path, ['b', 'c', *pair, 'd', 'e'], wrapper)
    good = train(tmp_path, ['b', 'c', 'd', 'e'], wrapper)
    assert skipped(poisoned) == 1
    assert all(map(finite, poisoned.record.states))
    assert same(poisoned.record.states[-1], good.record.states[-1])
    assert same(poisoned.record.states[4], poisoned.record.states[2])


def test_the_last_step_may_have_fewer_batches(tmp_path):
    runner = train(tmp_path, ['a', 'b', 'nan'], dict(accumulative_counts=2))
    assert runner.record.unchanged()[1:] == [False, True]


@pytest.mark.parametrize('update_buffers', [True, False])
@pytest.mark.parametrize('accumulative_counts', [1, 2])
def test_averaged_weights_stay_finite(tmp_path, update_buffers, accumulative_counts):
    ema = dict(type='EMAHook', momentum=0.5, update_buffers=update_buffers)
    runner = make_runner(
        tmp_path,
        ['a', 'nan', 'explodes', 'huge', 'nan', 'b'],
        dict(accumulative_counts=accumulative_counts),
        custom_hooks=[dict(ema, priority='ABOVE_NORMAL')],
    )
    (hook,) = [hook for hook in runner.hooks if type(hook).__name__ == 'EMAHook']
    averages = []
    original = hook.after_train_iter

    def after_train_iter(*args, **kwargs):
        original(*args, **kwargs)
        averages.append(finite(hook.ema_model.state_dict()))

    hook.after_train_iter = after_train_iter
    runner.train()
    assert averages == [True] * 6


def test_finite_numbers_whose_squares_overflow_are_no_reason(tmp_path):
    class Huge(SkipNonFiniteHook):
        """Find what it looks at as large as floats can be."""

        def _find(self, gradients, everywhere=True):
            gradients = [g.fill_(1e38) for g in gradients]
            return super()._find(gradients, everywhere)

    runner = make_runner(tmp_path, ['a', 'b'])
    runner._hooks = [
        Huge() if isinstance(hook, SkipNonFiniteHook) else hook for hook in runner.hooks
    ]
    runner.train()
    assert skipped(runner) == 0
    assert runner.record.unchanged() == [False, False]


def test_buffers_that_are_infinite_by_design_are_no_reason(tmp_path):
    runner = make_runner(tmp_path, ['a', 'b'])
    runner.model.register_buffer('mask', torch.full((2,), -torch.inf))
    runner.train()
    assert skipped(runner) == 0


def test_skips_are_logged_and_counted(tmp_path):
    train(tmp_path, ['nan', 'a', 'explodes', 'huge', 'b'])
    log = read_log(tmp_path)
    for line in (
        'Iteration 1: the loss is nan: step skipped (1 so far, 1 in a row). '
        'Files with values that are not finite: nan_0_b.jpg\n',
        'Iteration 3: the gradients of 4 parameters are not finite (fc.bias, '
        'fc.weight, norm.bias and 1 more): step skipped (2 so far, 1 in a row). '
        'Files: explodes_0_a.jpg, explodes_0_b.jpg\n',
        'Iteration 4: the statistics of a norm, or other buffers, are not finite: '
        'step skipped (3 so far, 2 in a row). Files: huge_0_a.jpg, huge_0_b.jpg\n',
    ):
        assert line in log
    curves = read_curves(tmp_path)
    assert curves['skipped_steps'].values == [1, 1, 2, 3, 3]
    assert len(curves['loss'].values) == 4  # all but the first
    assert torch.isfinite(torch.tensor(curves['loss'].values)).all()


def test_of_several_batches_the_bad_one_is_named(tmp_path):
    train(tmp_path, ['a', 'nan', 'b', 'c'], dict(accumulative_counts=4))
    assert 'Iteration 4: the loss is nan' in read_log(tmp_path)
    assert 'not finite: nan_0_b.jpg\n' in read_log(tmp_path)


def test_of_several_batches_all_are_named_where_none_stands_out(tmp_path):
    train(tmp_path, ['explodes', 'a'], dict(accumulative_counts=2))
    names = [f'{kind}_0_{place}.jpg' for kind in ('explodes', 'a') for place in 'ab']
    assert f'Files: {", ".join(names)}\n' in read_log(tmp_path)


def test_too_many_in_a_row_stop_training(tmp_path):
    runner = make_runner(tmp_path, ['nan', 'a', 'nan', 'nan', 'a'], max_in_a_row=2)
    with pytest.raises(TrainingError) as error:
        runner.train()
    message = str(error.value)
    assert message.startswith(
        '2 steps in a row were skipped, the last at iteration 4: the loss is nan. '
        'Files with values that are not finite: nan_0_b.jpg. '
    )
    assert 'tools/check_dataset.py' in message and '--resume' in message
    assert '\n' not in message
    assert skipped(runner) == 3
    assert finite(runner.model.state_dict())


def test_the_number_must_be_one():
    with pytest.raises(ConfigError, match='max_in_a_row is 0'):
        SkipNonFiniteHook(max_in_a_row=0)


def test_the_count_continues_after_a_resume(tmp_path):
    train(tmp_path, ['nan', 'a'])
    runner = make_runner(
        tmp_path, ['nan', 'a', 'b', 'nan'], load_from=str(tmp_path / 'iter_2.pth')
    )
    runner._resume = True
    runner.train()
    assert skipped(runner) == 2


def test_model_and_optimizer_are_left_as_they_were(tmp_path):
    runner = train(tmp_path, ['a'])
    assert not runner.model._forward_hooks
    assert not runner.optim_wrapper.optimizer._optimizer_step_pre_hooks


@pytest.mark.parametrize('fused', [True, False])
def test_the_search_for_a_loss_scale_does_not_count(tmp_path, amp, fused):
    amp |= dict(
        loss_scale=dict(init_scale=4.0),
        optimizer=dict(type='AdamW', lr=0.1, fused=fused),
    )
    runner = train(tmp_path, ['a', 'explodes', 'explodes', 'b'], amp)
    assert runner.optim_wrapper.loss_scaler.get_scale() == 1
    assert skipped(runner) == 0 and 'skipped' not in read_log(tmp_path)
    assert finite(runner.model.state_dict())
    # Two more, and the scale is below 1: it is not what makes them infinite.
    runner = make_runner(tmp_path, ['a', *['explodes'] * 4], amp, max_in_a_row=2)
    with pytest.raises(TrainingError, match='gradients .* not finite') as error:
        runner.train()
    if not fused:
        assert 'at a loss scale of 0.25' in str(error.value)
    assert skipped(runner) == 2


def test_a_fixed_loss_scale_is_not_searched_for(tmp_path, amp):
    runner = train(tmp_path, ['explodes'] * 3, amp | dict(loss_scale=8.0))
    assert skipped(runner) == 2  # The first one could have been a search.


@pytest.mark.parametrize('fused', [True, False])
@pytest.mark.parametrize('kind', ['nan', 'huge'])
def test_a_loss_that_is_not_finite_counts_at_any_loss_scale(tmp_path, amp, kind, fused):
    amp['optimizer'] = dict(type='AdamW', lr=0.1, fused=fused)
    runner = train(tmp_path, ['a', kind, 'b'], amp)
    assert runner.record.unchanged() == [False, True, False]
    assert skipped(runner) == 1


@pytest.mark.slow
def test_ranks_agree(tmp_path):
    """The batches of rank 0 are good; DDP and FSDP."""
    ranks = [
        subprocess.Popen(
            [sys.executable, '-m', 'tests.poison', rank, str(tmp_path)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in '01'
    ]
    outputs = [rank.communicate()[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], outputs
    expected = dict(unchanged=[False, True, True, False], skipped=2)
    for rank in range(2):
        results = json.loads((tmp_path / f'rank_{rank}.json').read_text())
        assert results == dict(ddp=expected, fsdp=expected)
    broken = 'the loss is nan: step skipped (1 so far, 1 in a row). '
    broken += 'Files with values that are not finite, rank 1: nan_1_b.jpg\n'
    assert outputs[0].count(broken) == 2
    both = 'Files, rank 0: c_0_a.jpg, c_0_b.jpg. Files, rank 1: explodes_1_a.jpg'
    assert outputs[0].count(both) == 2


def test_files_of_what_is_not_a_batch_of_images():
    assert sample_files(None) == sample_files([1, 2]) == sample_files({}) == []
    assert sample_files(dict(data_samples=dict(a=1))) == []
    assert sample_files(dict(data_samples=[dict(img_path='a'), object(), {}])) == ['a']
    assert broken_files(dict(data_samples=[dict(img_path='a')])) == []
    assert broken_files(None) == []


def test_broken_files_of_a_stacked_batch():
    samples = make_samples(['nan'])
    batch = dict(
        inputs=torch.stack([sample['inputs'] for sample in samples]),
        data_samples=[sample['data_samples'] for sample in samples],
    )
    assert broken_files(batch) == ['nan_0_b.jpg']


def test_messages():
    loss = Report([float('inf')], [], ['a', 'b', 'c', 'd', 'e'], False)
    other = Report([], ['w'], [], False)
    assert describe_files([other, loss], most=3) == 'Files, rank 1: a, b, c and 2 more'
    assert describe_files([other]) == 'Files: unknown, no sample has an img_path'
    found = Findings(True, False, False)
    assert describe_reason(found, [other, loss]) == 'the loss is inf'
    found = Findings(False, True, False)
    reason = 'the gradients of 1 parameters are not finite (w)'
    assert describe_reason(found, [other]) == reason
    assert describe_reason(found, []) == 'the gradients are not finite'

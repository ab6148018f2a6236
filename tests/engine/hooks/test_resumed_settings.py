import copy
from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import EMAHook
from mmengine.optim import CosineAnnealingLR, LinearLR, OptimWrapper, PolyLR
from torch import nn

from volo.engine.hooks import resumed_settings
from volo.engine.hooks.resumed_settings import ResumedSettingsHook
from volo.errors import CheckpointError, ConfigError

STEPS = 7


def schedules(wrapper, kind='poly', end=20):
    if kind == 'cosine':
        return [CosineAnnealingLR(wrapper, T_max=end, by_epoch=True)]
    return [
        LinearLR(wrapper, start_factor=0.1, by_epoch=False, end=4),
        PolyLR(wrapper, power=1.0, by_epoch=False, begin=4, end=end),
    ]


def make_runner(optimizer='AdamW', groups=2, kind='poly', end=20, hooks=(), **settings):
    """What the hook needs of a runner whose epochs have three iterations."""
    model = nn.ModuleList(nn.Linear(2, 2) for _ in range(groups))
    wrapper = OptimWrapper(
        getattr(torch.optim, optimizer)(
            [dict(params=list(part.parameters())) for part in model],
            **dict(dict(lr=0.1), **settings),
        )
    )
    return SimpleNamespace(
        optim_wrapper=wrapper,
        param_schedulers=schedules(wrapper, kind, end),
        hooks=hooks,
        train_dataloader=range(3),
    )


def advance(runner, steps=STEPS):
    for iteration in range(1, steps + 1):
        runner.optim_wrapper.step()
        for schedule in runner.param_schedulers:
            if not schedule.by_epoch or iteration % 3 == 0:
                schedule.step()
    return runner


def make_checkpoint(runner, old=False):
    checkpoint = dict(
        meta=dict(iter=STEPS, epoch=STEPS // 3),
        optimizer=copy.deepcopy(runner.optim_wrapper.state_dict()),
        param_schedulers=[s.state_dict() for s in runner.param_schedulers],
    )
    if not old:
        ResumedSettingsHook().before_save_checkpoint(runner, checkpoint)
    return checkpoint


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr(
        resumed_settings, 'print_log', lambda text, **_: lines.append(text)
    )
    return lines


def resume(runner, checkpoint, source='checkpoint'):
    """Do as mmengine's Runner."""
    hook = ResumedSettingsHook(hyperparams_from=source)
    hook.after_load_checkpoint(runner, checkpoint)
    runner.optim_wrapper.load_state_dict(checkpoint['optimizer'])
    saved = checkpoint['param_schedulers']
    for schedule, state in zip(runner.param_schedulers, saved, strict=False):
        schedule.load_state_dict(state)
    return runner


def rates(runner, steps=5):
    """Learning rates of the steps to come."""
    found = []
    for _ in range(steps):
        found.append([g['lr'] for g in runner.optim_wrapper.param_groups])
        advance(runner, 1)
    return found


@pytest.mark.parametrize('old', [True, False])
@pytest.mark.parametrize('source', resumed_settings.SOURCES)
@pytest.mark.parametrize('kind', ['poly', 'cosine'])
def test_the_same_config_resumes_exactly_and_in_silence(said, old, source, kind):
    before = advance(make_runner(kind=kind))
    after = resume(make_runner(kind=kind), make_checkpoint(before, old), source)
    states = [[s.state_dict() for s in r.param_schedulers] for r in (before, after)]
    assert states[0] == states[1]
    assert rates(before) == rates(after)
    assert said == []


CHANGES = [
    (dict(lr=0.2), 'lr', '0.1', '0.2'),
    (dict(weight_decay=0.5), 'weight_decay', '0.01', '0.5'),
    (dict(betas=(0.8, 0.9)), 'betas', '(0.9, 0.999)', '(0.8, 0.9)'),
    (dict(end=30), 'param_scheduler[1].end', '20', '30'),
]


@pytest.mark.parametrize(('change', 'name', 'saved', 'own'), CHANGES)
def test_what_the_checkpoint_overrides_is_said(said, change, name, saved, own):
    before = advance(make_runner())
    after = resume(make_runner(**change), make_checkpoint(before))
    text = f'{name} is {saved} as in the checkpoint, not {own} as in the config. '
    assert text + '--hyperparams-from selects the one to use.' in said
    assert rates(before) == rates(after)


@pytest.mark.parametrize(('change', 'name', 'saved', 'own'), CHANGES)
def test_the_values_of_the_config_can_be_taken(said, change, name, saved, own):
    checkpoint = make_checkpoint(advance(make_runner()))
    after = resume(make_runner(**change), checkpoint, 'config')
    text = f'{name} is {own} as in the config, not {saved} as in the checkpoint. '
    assert any(line.startswith(text) for line in said)
    expected = advance(make_runner(**change))
    groups = [r.optim_wrapper.optimizer.param_groups for r in (after, expected)]
    for group, other in zip(*groups, strict=True):
        assert {**group, 'params': 0} == {**other, 'params': 0}
    assert rates(after) == rates(expected)
    # And what is saved from now on no longer differs.
    said.clear()
    resume(make_runner(**change), make_checkpoint(advance(make_runner(**change))))
    assert said == []


def test_the_state_of_the_optimizer_is_kept():
    before = make_runner()
    for group in before.optim_wrapper.optimizer.param_groups:
        for parameter in group['params']:
            parameter.grad = torch.ones_like(parameter)
    before.optim_wrapper.step()
    after = resume(make_runner(lr=0.2), make_checkpoint(before), 'config')
    states = list(after.optim_wrapper.optimizer.state.values())
    assert len(states) == 4 and all(s['exp_avg'].eq(0.1).all() for s in states)


@pytest.mark.parametrize('old', [True, False])
def test_another_schedule_is_refused_unless_the_config_is_asked_for(said, old):
    checkpoint = make_checkpoint(advance(make_runner()), old)
    names = '2 unknown' if old else 'LinearLR, PolyLR'
    text = f'has the schedules {names}, the config has CosineAnnealingLR: .* or'
    with pytest.raises(CheckpointError, match=text + '.* --hyperparams-from config'):
        resume(make_runner(kind='cosine'), checkpoint)
    after = resume(make_runner(kind='cosine'), checkpoint, 'config')
    assert len(said) == 1
    assert rates(after) == rates(advance(make_runner(kind='cosine')))


@pytest.mark.parametrize('old', [True, False])
@pytest.mark.parametrize('source', resumed_settings.SOURCES)
@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(optimizer='SGD'), 'the optimizer (AdamW|unknown), the config has SGD'),
        (dict(groups=3), '2 parameter groups with 4 parameters, the config has 3 p'),
    ],
)
def test_what_cannot_be_resumed_is_one_clear_error(old, source, change, message):
    checkpoint = make_checkpoint(advance(make_runner()), old)
    with pytest.raises(CheckpointError, match=message):
        resume(make_runner(**change), checkpoint, source)


def test_averaged_weights_need_their_hook():
    checkpoint = dict(make_checkpoint(make_runner()), ema_state_dict={})
    with pytest.raises(CheckpointError, match='averaged weights, .* no EMAHook'):
        resume(make_runner(), checkpoint)
    resume(make_runner(hooks=[EMAHook()]), checkpoint)
    # Loaded, not resumed, its weights are as good as any.
    ResumedSettingsHook(resume=False).after_load_checkpoint(make_runner(), checkpoint)


def test_the_source_must_be_known():
    with pytest.raises(ConfigError, match="'file', it must be checkpoint or config"):
        ResumedSettingsHook(hyperparams_from='file')

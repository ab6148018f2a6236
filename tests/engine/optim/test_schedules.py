import pytest
import torch
from mmengine.optim import OptimWrapper
from timm.scheduler import CosineLRScheduler

from volo.engine.optim.schedules import WarmupCosineLR


def optimizer(rate):
    return torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=rate)


@pytest.mark.parametrize('rate, warmup', [(1.6e-3, 20), (1e-3, 5), (1e-3, 0)])
def test_every_epoch_is_timms(rate, warmup):
    wrapper = OptimWrapper(optimizer(rate))
    ours = WarmupCosineLR(wrapper, T_max=300, warmup=warmup)
    reference = optimizer(rate)
    timm = CosineLRScheduler(
        reference, 300, lr_min=1e-5, warmup_t=warmup, warmup_lr_init=1e-6
    )
    for epoch in range(310):
        timm.step(epoch)
        expected = reference.param_groups[0]['lr']
        assert wrapper.get_lr()['lr'][0] == pytest.approx(expected, rel=1e-9), epoch
        wrapper.step()
        ours.step()


def test_resumes_from_its_state():
    wrapper = OptimWrapper(optimizer(1e-3))
    first = WarmupCosineLR(wrapper, T_max=30, warmup=5)
    for _ in range(12):
        first.step()
    state = first.state_dict()
    first.step()
    again = OptimWrapper(optimizer(1e-3))
    second = WarmupCosineLR(again, T_max=30, warmup=5)
    second.load_state_dict(state)
    second.step()
    assert again.get_lr() == wrapper.get_lr()


@pytest.mark.parametrize('default', [1e-3, 1e-2])
def test_groups_keep_their_ratio(default):
    """Also if the optimizer's default is not theirs, as with --auto-scale-lr."""
    rates = (1e-3, 2.5e-4)
    groups = [dict(params=[torch.nn.Parameter(torch.zeros(1))], lr=r) for r in rates]
    wrapper = OptimWrapper(torch.optim.AdamW(groups, lr=default))
    alone = OptimWrapper(optimizer(rates[0]))
    schedules = [WarmupCosineLR(w, T_max=30, warmup=5) for w in (wrapper, alone)]
    for _ in range(32):
        first, second = wrapper.get_lr()['lr']
        assert first == alone.get_lr()['lr'][0]
        assert second == pytest.approx(first / 4)
        for each, schedule in zip((wrapper, alone), schedules, strict=True):
            each.step()
            schedule.step()

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from volo.engine import CheckLoadedWeightsHook, CountersAfterValidationHook
from volo.errors import CheckpointError


def model(num_classes=3, width=4):
    head = nn.ModuleDict(
        dict(fc=nn.Linear(width, num_classes), aux_fc=nn.Linear(width, num_classes))
    )
    return nn.ModuleDict(dict(body=nn.Linear(2, width), head=head))


def check(ours, theirs, **hook):
    checkpoint = dict(state_dict={f'module.{n}': v for n, v in theirs.items()})
    runner = SimpleNamespace(model=ours)
    CheckLoadedWeightsHook(**hook).after_load_checkpoint(runner, checkpoint)
    return {n.removeprefix('module.'): v for n, v in checkpoint['state_dict'].items()}


def test_the_same_model_passes_untouched():
    theirs = model().state_dict()
    for hook in (dict(), dict(drop_classifiers=True)):
        loaded = check(model(), theirs, **hook)
        assert all(torch.equal(loaded[name], theirs[name]) for name in theirs)


def test_another_number_of_classes_drops_both_classifiers_in_training():
    ours, theirs = model(num_classes=5), model(num_classes=3)
    loaded = check(ours, theirs.state_dict(), drop_classifiers=True)
    ours_before = {n: v.clone() for n, v in ours.state_dict().items()}
    ours.load_state_dict(loaded)
    assert torch.equal(ours.body.weight, theirs.body.weight)
    for name in ('head.fc.weight', 'head.aux_fc.bias'):
        assert torch.equal(ours.state_dict()[name], ours_before[name])


def test_another_number_of_classes_is_refused_in_evaluation():
    with pytest.raises(CheckpointError, match='4 of another shape .*head.aux_fc.bias'):
        check(model(num_classes=5), model().state_dict())


@pytest.mark.parametrize('change', ['width', 'missing', 'extra'])
def test_what_does_not_belong_is_refused(change):
    theirs = model(width=6 if change == 'width' else 4).state_dict()
    if change == 'missing':
        del theirs['body.weight']
    if change == 'extra':
        theirs['neck.weight'] = torch.rand(1)
    with pytest.raises(CheckpointError, match='does not belong to this model'):
        check(model(), theirs, drop_classifiers=True)


def test_counters_are_corrected_after_a_validation_alone():
    hook, runner = CountersAfterValidationHook(), SimpleNamespace(epoch=2, iter=8)
    checkpoint = dict(meta=dict(epoch=3, iter=8))
    hook.before_save_checkpoint(runner, checkpoint)
    assert checkpoint['meta'] == dict(epoch=3, iter=8)
    hook.before_val(runner)
    hook.before_save_checkpoint(runner, checkpoint)
    assert checkpoint['meta'] == dict(epoch=2, iter=8)
    hook.after_val(runner)
    runner.epoch = 1
    hook.before_save_checkpoint(runner, checkpoint)
    assert checkpoint['meta'] == dict(epoch=2, iter=8)


def test_a_stem_for_rgb_may_start_a_training_on_gray_images_only():
    def stem(channels):
        parts = nn.ModuleDict(dict(conv=nn.ModuleList([nn.Conv2d(channels, 4, 3)])))
        return nn.ModuleDict(dict(stem=parts))

    theirs = stem(3).state_dict()
    check(stem(1), theirs, drop_classifiers=True)
    with pytest.raises(CheckpointError, match='1 of another shape .stem.conv'):
        check(stem(1), theirs)

import pytest
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from volo.engine.optim.layer_decay import VOLOLayerDecayOptimWrapperConstructor
from volo.errors import ConfigError
from volo.models import ARCHS, VOLO
from volo.paths import package_data_root

RATE, LR, DECAY = 0.5, 1.0, 0.05
CONFIGS = {'classifier': 'volo_tiny_shapes', 'segmentor': 'volo_tiny_upernet_shapes'}
HEADS = ('head.', 'decode_head.', 'auxiliary_head.')
BLOCKS = sum(ARCHS['tiny'].depths)


def build(task, **backbone):
    path = package_data_root() / f'configs/{CONFIGS[task]}.py'
    cfg = Config.fromfile(path)
    init_default_scope(cfg.default_scope)
    cfg.model.backbone.update(backbone)
    return MODELS.build(cfg.model)


def optim_wrapper(constructor='VOLOLayerDecayOptimWrapperConstructor', **changes):
    schedule = package_data_root() / 'configs/_base_/schedules/adamw.py'
    cfg = Config.fromfile(schedule)
    cfg.merge_from_dict(
        {
            'optim_wrapper.optimizer.lr': LR,
            'optim_wrapper.optimizer.weight_decay': DECAY,
            'optim_wrapper.paramwise_cfg.layer_decay_rate': RATE,
            'optim_wrapper.constructor': constructor,
            **{f'optim_wrapper.{key}': value for key, value in changes.items()},
        }
    )
    return cfg.optim_wrapper


def settings(model, cfg=None):
    """Learning rate and weight decay of every parameter in the optimizer, by name."""
    groups = build_optim_wrapper(model, cfg or optim_wrapper()).optimizer.param_groups
    names = {id(p): name for name, p in model.named_parameters()}
    return {
        names[id(p)]: (group['lr'], group['weight_decay'])
        for group in groups
        for p in group['params']
    }


def layers_below_the_heads(name):
    """Written out, apart from the code under test."""
    if name.startswith(HEADS):
        return 0
    name = name.removeprefix('backbone.')
    if name.startswith('stem.'):
        return BLOCKS + 1
    if name == 'pos_embed' or name.startswith('downsample.'):
        name = 'stages.1.0.'
    blocks = [
        f'stages.{stage}.{block}.'
        for stage, depth in enumerate(ARCHS['tiny'].depths)
        for block in range(depth)
    ]
    (index,) = (i for i, block in enumerate(blocks) if name.startswith(block))
    return BLOCKS - index


@pytest.mark.parametrize('task', CONFIGS)
def test_rate_and_weight_decay_of_every_parameter(task):
    model = build(task)
    found = settings(model)
    for name, parameter in model.named_parameters():
        exempt = parameter.ndim == 1 or name.endswith(('pos_embed', 'cls_token'))
        expected = (LR * RATE ** layers_below_the_heads(name), 0 if exempt else DECAY)
        assert found.pop(name) == pytest.approx(expected), name
    assert not found


@pytest.mark.parametrize('task', CONFIGS)
@pytest.mark.parametrize('frozen_stages', [0, 2, 4])
def test_frozen_parameters_are_left_out(task, frozen_stages):
    model = build(task, frozen_stages=frozen_stages)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    found = settings(model)
    assert found.keys() == trained
    assert not any(name.startswith('backbone.stem.') for name in found)
    rates = {name: lr for name, (lr, _) in settings(build(task)).items()}
    assert all(rates[name] == lr for name, (lr, _) in found.items())


def test_mmpretrains_own_constructor_agrees():
    model = build('classifier')
    theirs = optim_wrapper('mmpretrain.LearningRateDecayOptimWrapperConstructor')
    assert settings(model, theirs) == settings(model)


@pytest.mark.parametrize('arch', ARCHS)
def test_layers_are_counted_without_gaps(arch):
    depths = ARCHS[arch].depths
    backbone = VOLO.__new__(VOLO)
    nn.Module.__init__(backbone)
    backbone.arch = ARCHS[arch]
    names = ['b.stem.proj.weight'] + [
        f'b.stages.{stage}.{block}.norm1.weight'
        for stage, depth in enumerate(depths)
        for block in range(depth)
    ]
    names.append('head.fc.weight')
    found = [backbone.get_layer_depth(name, 'b.') for name in names]
    assert found == [(layer, len(names)) for layer in range(len(names))]


@pytest.mark.parametrize(
    'changes, message',
    [
        ({'paramwise_cfg.layer_decay_rate': 1.5}, 'it must be above 0'),
        ({'paramwise_cfg.layer_decay_rate': 0}, 'it must be above 0'),
        ({'optimizer.weight_decay': None}, 'needs weight_decay'),
        ({'optimizer.lr': None}, 'needs lr'),
        ({'paramwise_cfg.custom_keys.head.lr_mult': 10}, 'head has an lr_mult'),
    ],
)
def test_what_cannot_work_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        build_optim_wrapper(build('classifier'), optim_wrapper(**changes))


def test_another_backbone_is_refused():
    constructor = VOLOLayerDecayOptimWrapperConstructor(
        dict(optimizer=dict(type='AdamW', lr=LR, weight_decay=DECAY)),
        dict(layer_decay_rate=RATE),
    )
    with pytest.raises(ConfigError, match='backbone VOLO, got Linear'):
        constructor(nn.ModuleDict(dict(backbone=nn.Linear(1, 1))))

import re
import shutil

import pytest
from mmengine.config import Config

from volo.engine import load_config
from volo.engine.launch import add_hook
from volo.errors import ConfigError
from volo.paths import config_path


@pytest.fixture
def config(tmp_path):
    path = tmp_path / 'mine.py'
    path.write_text(
        "data_root = 'data/a/'\n"
        "model = dict(type='M', neck=[dict(norm_cfg=dict(type='SyncBN'))])\n"
        'train_dataloader = dict(dataset=dict(data_root=data_root))\n'
        "val_dataloader = dict(dataset=[dict(data_root='data/b/')])\n"
        "optim_wrapper = dict(type='AmpOptimWrapper', loss_scale='dynamic')\n"
    )
    return path


def test_work_dir_is_named_after_the_config_unless_given(config):
    assert load_config(config).work_dir == 'work_dirs/mine'
    assert load_config(config, work_dir='there').work_dir == 'there'
    assert load_config(config, dict(work_dir='option')).work_dir == 'option'


def test_data_root_reaches_the_datasets_that_share_it(config):
    cfg = load_config(config, dict(data_root='/data'))
    assert cfg.train_dataloader.dataset.data_root == '/data'
    assert cfg.val_dataloader.dataset[0].data_root == 'data/b/'


@pytest.mark.parametrize('place', ['train_dataloader', 'train_dataloader.dataset'])
def test_data_root_leaves_alone_what_another_option_replaces(config, place):
    cfg = load_config(config, {place: None, 'data_root': '/data'})
    assert cfg.get(place.split('.')[0]) in (None, dict(dataset=None))


def test_data_root_reaches_every_split_of_a_shipped_config():
    path = config_path('volo_tiny_upernet_camvid')
    cfg = load_config(path, dict(data_root='/data'))
    roots = [cfg[f'{s}_dataloader'].dataset.data_root for s in ('train', 'val', 'test')]
    assert roots == ['/data'] * 3


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(data_rot='x'), 'no key data_rot. Did you mean data_root'),
        ({'train_dataloder.batch_size': 2}, 'Did you mean train_dataloader'),
    ],
)
def test_a_mistyped_option_is_refused(config, options, message):
    with pytest.raises(ConfigError, match=message):
        load_config(config, options)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (
            {'default_hooks.checkpointt.interval': 2},
            'no key default_hooks.checkpointt. Did you mean checkpoint?',
        ),
        (
            {'optim_wrapper.optimizerr.lr': 2},
            'optim_wrapper.optimizerr. Did you mean optimizer?',
        ),
        (
            {'train_dataloader.batch_sise': 2},
            'train_dataloader.batch_sise. Did you mean batch_size?',
        ),
        ({'train_cfg.max_iter': 2}, None),  # its loop complains
        ({'model.backbone.init_cfg.checkpoint': 'a', 'model.backbone.x': 1}, None),
        ({'default_hooks.loggers.type': 'A', 'default_hooks.loggers.b': 1}, None),
        ({'param_scheduler.0.end': 9}, None),
    ],
)
def test_a_mistyped_nested_option_is_refused_if_nothing_else_would(options, message):
    if message is None:
        load_config('volo_tiny_upernet_camvid', options)
        return
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_config('volo_tiny_upernet_camvid', options)


def test_a_template_that_left_its_folder_says_what_to_do(tmp_path):
    template = tmp_path / 'mine.py'
    shutil.copy(config_path('volo_d1_upernet_custom'), template)
    with pytest.raises(ConfigError) as caught:
        load_config(template)
    message = str(caught.value)
    assert str(template) in message and 'Write the absolute path' in message
    assert f"_base_ = '{config_path('volo_d1_imagenet').parent}/" in message


def test_an_option_of_the_runner_need_not_be_in_the_config(config):
    assert load_config(config, dict(custom_hooks=[])).custom_hooks == []


def test_a_missing_or_broken_config_is_named(tmp_path, config):
    with pytest.raises(
        ConfigError, match=r'no such config file. Did you mean .*mine.py'
    ):
        load_config(tmp_path / 'mime.py')
    config.write_text('model = dict(')
    with pytest.raises(ConfigError, match=r'mine.py: SyntaxError'):
        load_config(config)


def test_a_hook_replaces_one_of_its_type_from_an_earlier_run():
    cfg = Config(dict(custom_hooks=[dict(type='A'), dict(type='B', old=True)]))
    add_hook(cfg, type='B', new=True)
    assert cfg.custom_hooks == [dict(type='A'), dict(type='B', new=True)]
    cfg = Config(dict(custom_hooks=None))
    add_hook(cfg, type='B')
    assert cfg.custom_hooks == [dict(type='B')]

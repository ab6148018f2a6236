"""Metafiles, configs and the table of them agree; mmpretrain finds the models."""

import mmpretrain
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from modelindex.load_model_index import load
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from tests.synth_weights import manifest, synth_images, synth_state_dict
from tools.update_model_zoo import read_models, render_readme
from volo.errors import ConfigError
from volo.model_zoo import METAFILES, get_model
from volo.paths import package_data_root

ROOT = package_data_root()
MODELS_LISTED = [model for name in METAFILES for model in read_models(name)]


def test_every_recipe_of_the_authors_is_listed():
    listed = [model['Config'] for model in MODELS_LISTED]
    recipes = {
        f'configs/{path.name}'
        for path in (ROOT / 'configs').glob('volo_d*.py')
        if not any(
            word in path.stem for word in ('custom', 'camvid', 'plain', 'ema', 'fsdp')
        )
    }
    assert recipes and sorted(listed) == sorted(recipes)


@pytest.mark.parametrize('model', MODELS_LISTED, ids=lambda model: model['Name'])
def test_numbers_are_the_models(model):
    cfg = Config.fromfile(ROOT / model['Config'])
    assert model['Name'] == model['Config'][8:-3].replace('volo_', 'volo-', 1)
    init_default_scope(cfg.default_scope)
    size = cfg.model.backbone.img_size
    height, width = (size, size) if isinstance(size, int) else size
    with torch.device('meta'):
        net = MODELS.build(cfg.model).eval()
        with FlopCounterMode(display=False) as counter:
            net(torch.empty(1, 3, height, width), mode='tensor')
    numbers = model['Metadata']
    assert numbers['Parameters'] == sum(p.numel() for p in net.parameters())
    assert numbers['FLOPs'] == counter.get_total_flops() // 2


def test_the_table_is_made_of_the_metafiles():
    text = (ROOT / 'configs/README.md').read_text()
    # Otherwise: python tools/update_model_zoo.py
    assert render_readme(text) == text
    for model in MODELS_LISTED:
        assert model['Config'].removeprefix('configs/') in text


def test_the_index_is_openmmlabs():
    index = load(str(ROOT / 'model-index.yml'))
    index.build_models_with_collections()
    assert {model.name for model in index.models} == {m['Name'] for m in MODELS_LISTED}


def test_mmpretrain_finds_the_classifiers():
    names = mmpretrain.list_models('*volo*')
    assert set(names) == {model['Name'] for model in read_models(METAFILES[0])}
    assert mmpretrain.list_models('resnet18*')


def test_mmpretrain_builds_a_model_with_the_authors_weights(tmp_path):
    path = tmp_path / 'd1_224_84.2.pth.tar'
    torch.save(synth_state_dict(manifest('d1')), path)
    model = mmpretrain.get_model('volo-d1_imagenet', pretrained=str(path)).eval()
    with torch.no_grad():
        logits = model(synth_images(1, 224, 224, seed=1))
    assert logits.shape == (1, 1000)
    weight = synth_state_dict(manifest('d1'))['head.weight']
    torch.testing.assert_close(model.head.fc.weight.data, weight)


def test_an_unknown_model_suggests_a_similar_one():
    for name, near in (('volo-d1_imagnet', 'volo-d1_imagenet'), ('zzz', '')):
        with pytest.raises(ConfigError, match=f'Did you mean {near}' if near else name):
            get_model(name)


def test_without_a_head_a_model_gives_multi_scale_maps():
    outputs = dict(out_indices=(0, 1, 2, 3))
    model = get_model('volo-d1_imagenet', backbone=outputs, head=None).eval()
    images = synth_images(1, 224, 224)
    with torch.no_grad():
        maps = model.extract_feat(images, stage='backbone')
        assert [tuple(m.shape) for m in maps] == [
            (1, 192, 28, 28),
            *3 * [(1, 384, 14, 14)],
        ]
        assert torch.equal(model(images)[-1], maps[-1])
    with pytest.raises(ConfigError, match='head is None'):
        model(images, [], mode='loss')


def test_features_of_a_file_by_one_call(tmp_path):
    Image.new('RGB', (300, 240), 'red').save(tmp_path / 'a.png')
    outputs = dict(out_indices=(0, 3))
    extract = mmpretrain.FeatureExtractor(
        'volo-d1_imagenet', pretrained=False, backbone=outputs, head=None
    )
    (maps,) = extract(str(tmp_path / 'a.png'), stage='backbone')
    assert [tuple(m.shape) for m in maps] == [(192, 28, 28), (384, 14, 14)]

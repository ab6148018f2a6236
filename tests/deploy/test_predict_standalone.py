import ast
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from PIL import Image

from tests.deploy.test_predict_exported import Brightness
from volo.deploy import standalone
from volo.deploy.predict_exported import ExportedSegmentor
from volo.deploy.preprocessing import read_rule
from volo.engine import load_config
from volo.paths import config_path


@pytest.fixture
def image():
    noise = np.random.default_rng(0).integers(0, 256, (30, 41, 3), dtype=np.uint8)
    big = Image.fromarray(noise).resize((410, 300), Image.Resampling.BICUBIC)
    return np.array(big)


def test_it_is_short_and_needs_numpy_pillow_and_the_runtime_alone():
    text = Path(standalone.__file__).read_text()
    assert len(text.splitlines()) < 200
    imported = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            imported |= {name.name.partition('.')[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module.partition('.')[0])
    others = imported - set(sys.stdlib_module_names)
    assert others == {'numpy', 'PIL', 'onnxruntime', 'openvino'}


@pytest.mark.parametrize(
    ('config', 'difference'),
    [
        ('volo_d1_imagenet', 0),
        ('volo_d4_imagenet', 0),  # the crop pads
        ('volo_d1_upernet_ade20k', 1),
        ('volo_tiny_upernet_camvid', 0),
    ],
)
def test_images_are_prepared_as_the_test_pipeline_does(image, config, difference):
    cfg = load_config(config_path(config))
    init_default_scope(cfg.default_scope)
    pipeline = cfg.test_dataloader.dataset.pipeline
    used = [
        t
        for t in pipeline
        if t['type'].startswith(('Resize', 'torchvision', 'NumpyToPIL', 'PILToNumpy'))
    ]
    for array in (image, image.transpose(1, 0, 2), image[:40], image[:101, :67]):
        bgr = np.ascontiguousarray(array[..., ::-1])
        results = dict(img=bgr, img_shape=bgr.shape[:2], ori_shape=bgr.shape[:2])
        expected = Compose(used)(results)['img'][..., ::-1]
        steps = read_rule(pipeline)['steps']
        found = standalone.prepare(np.ascontiguousarray(array), steps)
        assert found.shape == expected.shape
        assert np.abs(found.astype(int) - expected).max() <= difference


def labels(runtime):
    files = {'model.onnx': {}, 'model.xml': {}}
    return json.loads(json.dumps(dict(runtime.metadata, files=files)))


@pytest.mark.parametrize(
    'options',
    [
        dict(),
        dict(outputs=['logits'], mode='slide', crop_size=[64, 80], stride=[43, 53]),
        dict(
            outputs=['logits'],
            steps=[
                dict(
                    resize='fit',
                    size=[200, 90],
                    interpolation='bilinear',
                    antialias=False,
                )
            ],
        ),
    ],
)
def test_masks_are_those_of_volo_predict(image, options):
    runtime = Brightness(**options)
    predictor = ExportedSegmentor(runtime, 1e9)
    (expected,) = predictor.predict([predictor.prepare(image)])
    shapes = list(runtime.shapes)
    runtime.shapes.clear()
    found = standalone.segment(runtime.run, image, labels(runtime))
    assert found.dtype == np.uint8 and runtime.shapes == shapes
    assert (found == expected.mask).mean() > 0.9999


@pytest.fixture
def main(monkeypatch, tmp_path):
    """Run the command line in a folder that was exported."""

    def call(runtime, *arguments):
        folder = tmp_path / 'exported'
        folder.mkdir(exist_ok=True)
        (folder / 'labels.json').write_text(json.dumps(labels(runtime)))
        opened = []
        monkeypatch.setattr(standalone, '__file__', str(folder / 'predict.py'))
        monkeypatch.setattr(
            standalone, 'open_model', lambda path: opened.append(path) or runtime.run
        )
        monkeypatch.setattr(sys, 'argv', ['predict.py', *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            standalone.main()
        return end.value.code, opened

    return call


def test_a_folder_is_predicted(main, tmp_path, image, capsys):
    (tmp_path / 'in/x').mkdir(parents=True)
    Image.fromarray(image).save(tmp_path / 'in/x/a.png')
    (tmp_path / 'in/b.jpg').write_text('no image')
    out = tmp_path / 'out'
    status, opened = main(Brightness(), tmp_path / 'in', '--out', out)
    assert status == 1 and opened == [tmp_path / 'exported/model.onnx']
    assert 'in/b.jpg: cannot identify image' in capsys.readouterr().err
    (line,) = (out / 'predictions.jsonl').read_text().splitlines()
    record = json.loads(line)
    assert record['source'] == str(tmp_path / 'in/x/a.png')
    mask = Image.open(out / 'masks/x/a.png.png')
    assert mask.mode == 'P' and mask.size == (410, 300)
    shares = {row['name']: row['share'] for row in record['classes']}
    assert shares['dark'] == pytest.approx(np.mean(mask))
    assert Image.open(out / 'overlays/x/a.png.png').width > 410


def test_a_classifier_gives_its_best_classes(main, tmp_path, image):
    path = tmp_path / 'a.png'
    Image.fromarray(image).save(path)
    status, _ = main(Brightness('classification'), path, '--out', tmp_path / 'out')
    assert status == 0 and not (tmp_path / 'out/masks').exists()
    record = json.loads((tmp_path / 'out/predictions.jsonl').read_text())
    scores = [row['score'] for row in record['classes']]
    assert scores == sorted(scores, reverse=True) and sum(scores) == pytest.approx(1)


def test_a_missing_runtime_is_named(main, tmp_path, monkeypatch):
    monkeypatch.setattr(standalone, 'find_spec', lambda name: None)
    arguments = ('a.png', '--out', tmp_path, '--model', tmp_path / 'model.xml')
    status, _ = main(Brightness(), *arguments)
    assert status == 'error: not installed: openvino, which runs these files'

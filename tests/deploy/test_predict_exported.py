import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from volo.deploy import predict_exported
from volo.deploy.predict_exported import (
    ExportedClassifier,
    ExportedSegmentor,
    build_exported_predictor,
    is_exported,
)
from volo.errors import CheckpointError, ConfigError, DataError


class Brightness:
    """A runtime whose logits are the brightness, and what is missing to white."""

    def __init__(
        self, task='segmentation', size=None, outputs=(), steps=(), **test_cfg
    ):
        self.path = Path('model.onnx')
        self.metadata = dict(
            task=task,
            classes=['bright', 'dark'],
            palette=None,
            input=dict(size=size),
            outputs=['classes', 'confidence', *outputs],
            resize=dict(steps=list(steps), unknown=[]),
            inference=test_cfg,
            threshold=None,
            upright=True,
            weights_sha256='abc',
            dtype='float32',
        )
        self.shapes = []

    def run(self, images):
        self.shapes.append(images.shape)
        assert images.dtype == np.uint8 and images.flags.c_contiguous
        bright = images.mean(axis=3, dtype=np.float32) / 255
        if self.metadata['task'] == 'classification':
            return {'probabilities': np.stack([bright, 1 - bright], 1).mean((2, 3))}
        logits = np.stack([bright, 1 - bright], axis=1)
        classes = logits.argmax(axis=1).astype(np.uint8)
        outputs = dict(classes=classes, confidence=bright)
        if 'logits' in self.metadata['outputs']:
            outputs['logits'] = logits
        return outputs


@pytest.fixture
def image():
    noise = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return np.array(Image.fromarray(noise).resize((96, 72), Image.Resampling.BICUBIC))


def dark(image):
    return image.mean(axis=2, dtype=np.float32) / 255 < 0.5


def test_a_batch_of_whole_images_runs_at_once(image):
    runtime = Brightness()
    predictor = ExportedSegmentor(runtime, 1e9)
    found = predictor.predict(
        [predictor.prepare(image), predictor.prepare(255 - image)]
    )
    assert runtime.shapes == [(2, 72, 96, 3)]
    np.testing.assert_array_equal(found[0].mask, dark(image))
    assert found[0].shares.sum() == 1 and predictor.palette.shape == (2, 3)


@pytest.mark.parametrize('memory', [1e9, 1])
def test_slide_inference_runs_in_windows(image, memory):
    runtime = Brightness(
        outputs=['logits'], mode='slide', crop_size=[32, 40], stride=[20, 30]
    )
    predictor = ExportedSegmentor(runtime, memory)
    (found,) = predictor.predict([predictor.prepare(image)])
    assert set(runtime.shapes) == {(1, 32, 40, 3)}
    np.testing.assert_array_equal(found.mask, dark(image))


def test_a_large_image_runs_in_windows_if_the_file_returns_logits(image):
    runtime = Brightness(outputs=['logits'], mode='whole')
    predictor = ExportedSegmentor(runtime, 1e5, window=33)
    (found,) = predictor.predict([predictor.prepare(image)])
    assert set(runtime.shapes) == {(1, 33, 33, 3)}
    np.testing.assert_array_equal(found.mask, dark(image))
    other = ExportedSegmentor(Brightness(mode='whole'), 1e5)
    with pytest.raises(DataError, match='96x72 pixels take .* GB .*need logits, which'):
        other.prepare(image)


def test_scores_of_a_resized_image_are_resized_to_it(image):
    steps = [
        dict(resize='exact', size=[36, 48], interpolation='bilinear', antialias=False)
    ]
    runtime = Brightness(outputs=['logits'], steps=steps)
    predictor = ExportedSegmentor(runtime, 1e9)
    (found,) = predictor.predict([predictor.prepare(image)])
    assert runtime.shapes == [(1, 36, 48, 3)] and found.mask.shape == (72, 96)
    assert (found.mask == dark(image)).mean() > 0.95


def test_a_classifier_runs_a_batch(image):
    runtime = Brightness('classification', steps=[dict(crop=[40, 40])], size=[40, 40])
    predictor = ExportedClassifier(runtime)
    found = predictor.predict([predictor.prepare(image)] * 2)
    assert runtime.shapes == [(2, 40, 40, 3)]
    expected = image[16:56, 28:68].mean() / 255
    np.testing.assert_allclose(found[1].scores, [expected, 1 - expected], rtol=1e-5)


@pytest.mark.parametrize(
    ('size', 'message'),
    [
        ([64, 64], '96x72 pixels, but the file was exported for 64x64 alone'),
        (None, '5x72 pixels, but exported files take sides of 17'),
    ],
)
def test_images_of_other_sizes_are_refused(image, size, message):
    predictor = ExportedSegmentor(Brightness(size=size), 1e9)
    with pytest.raises(DataError, match=message):
        predictor.prepare(image if size else image[:, :5])


def test_files_are_read_upright(tmp_path, image):
    picture = Image.fromarray(image)
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(tmp_path / 'a.png', exif=exif)
    predictor = ExportedSegmentor(Brightness(), 1e9)
    sample = predictor.load(tmp_path / 'a.png')
    np.testing.assert_array_equal(sample.image, np.rot90(image, -1))
    (tmp_path / 'b.png').write_text('no image')
    with pytest.raises(DataError, match='^not an image$'):
        predictor.load(tmp_path / 'b.png')


def test_what_is_an_exported_model(tmp_path):
    assert is_exported(str(tmp_path)) and is_exported('x/model.onnx')
    assert not is_exported('config.py') and not is_exported('volo_d1_imagenet')


def test_a_folder_gives_the_first_file_whose_runtime_is_installed(
    tmp_path, monkeypatch
):
    files = {'a.onnx': 'float16', 'b.xml': 'float32', 'c.pt2': 'float32'}
    labels = dict(files={name: dict(dtype=dtype) for name, dtype in files.items()})
    (tmp_path / 'labels.json').write_text(json.dumps(labels))
    missing = []

    def require(suffix):
        if suffix in missing:
            raise ConfigError(f"no runtime: pip install 'volo[{suffix}]'")

    monkeypatch.setattr(predict_exported, 'require_runtime', require)
    monkeypatch.setattr(
        predict_exported, 'open_exported', lambda path: pytest.fail(path.name)
    )
    for expected in ('b.xml', 'c.pt2', 'a.onnx'):
        with pytest.raises(pytest.fail.Exception, match=expected):
            build_exported_predictor(tmp_path)
        missing.append(Path(expected).suffix)
    with pytest.raises(ConfigError, match='pip install'):
        build_exported_predictor(tmp_path)


def test_a_folder_that_was_not_exported_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match='no labels.json of tools/export.py'):
        build_exported_predictor(tmp_path)
    (tmp_path / 'labels.json').write_text('{"files": {}}')
    with pytest.raises(CheckpointError, match='labels.json lists no files'):
        build_exported_predictor(tmp_path)

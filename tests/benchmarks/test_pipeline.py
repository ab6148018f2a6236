import numpy as np
import pytest
from mmcv.transforms import BaseTransform
from mmengine.config import Config
from mmengine.registry import TRANSFORMS

from benchmarks import pipeline
from benchmarks.pipeline import measure_pipeline
from tests.datasets.bad_data import write_classification
from volo.errors import ConfigError, DataError

NAMES = ['images alone', 'label maps, .pt', 'label maps, packed']


@pytest.fixture
def drawn():
    """Record the image and a random number in a transform of the pipeline."""
    found = []

    @TRANSFORMS.register_module(name='DrawANumber', force=True)
    class DrawANumber(BaseTransform):
        moves_pixels = False

        def transform(self, results):
            found.append((results['img_path'], np.random.rand()))
            return results

    return found


def config(root, **options):
    (root / 'c.py').touch()
    images = dict(
        type='ImageFolder',
        data_root=str(root),
        data_prefix='train',
        serialize_data=False,
        pipeline=[
            dict(type='LoadImageFromFile', imdecode_backend='pillow'),
            dict(type='DrawANumber'),
            dict(type='PackInputs'),
        ],
    )
    dataset = dict(type='TokenLabelDataset', label_root='none', dataset=images)
    return Config(
        dict(
            default_scope='mmpretrain',
            train_dataloader=dict(dataset=dataset | options),
        ),
        filename=str(root / 'c.py'),
    )


def test_all_load_the_same_images_and_augmentations(tmp_path, monkeypatch, drawn):
    write_classification(tmp_path)

    def instead(functions, repeats):
        assert list(functions) == NAMES and repeats == 3
        for function in functions.values():
            function()
        return dict(zip(NAMES, (1.0, 2.0, 4.0), strict=True))

    monkeypatch.setattr(pipeline, 'median_seconds', instead)
    found = measure_pipeline(config(tmp_path), count=6, repeats=3)
    assert found == dict(zip(NAMES, (6.0, 3.0, 1.5), strict=True))
    alone, files, packed = (drawn[6 * i : 6 * i + 6] for i in range(3))
    assert alone == files == packed and len(drawn) == 18
    paths = [path for path, _ in alone]
    # There are four images; after the last, the first is loaded again.
    assert len(set(paths)) == 4 and paths[4:] == paths[:2]
    assert len({number for _, number in alone[:4]}) == 4


def test_a_config_without_token_labels_is_refused(tmp_path):
    with pytest.raises(ConfigError, match='c.py: no TokenLabelDataset in train_data'):
        measure_pipeline(config(tmp_path, type='ImageFolder'), count=1, repeats=1)


def test_missing_images_are_an_error(tmp_path, drawn):
    with pytest.raises(DataError, match='train: no such folder'):
        measure_pipeline(config(tmp_path), count=1, repeats=1)

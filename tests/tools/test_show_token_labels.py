import numpy as np
import pytest
from PIL import Image

from tests.toy import run_tool
from volo.token_label import LabelMap, write_label_map

pytestmark = pytest.mark.slow

CONFIG = """
_base_ = ['{toy}/classify.py']
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='TokenLabelDataset',
        label_root='{maps}',
        dataset=dict(
            type='ImageFolder',
            data_root='{toy}/data/images',
            data_prefix='train',
            pipeline=_base_.train_dataloader.dataset.pipeline,
        ),
    )
)
"""


@pytest.fixture
def config(toy, tmp_path):
    """The toy classifier's data with label maps drawn at random."""
    rng = np.random.RandomState(0)
    images = toy / 'data/images/train'
    for image in images.glob('*/*'):
        name = image.relative_to(images).with_suffix('.pt')
        classes = rng.randint(0, 7, (2, 3, 3))
        scores = rng.rand(2, 3, 3)
        write_label_map(tmp_path / 'maps' / name, LabelMap(scores, classes))
    path = tmp_path / 'token_label.py'
    path.write_text(CONFIG.format(toy=toy, maps=tmp_path / 'maps'))
    return path


def test_draws_images(config, tmp_path):
    done = run_tool('show_token_labels.py', config, tmp_path / 'out', '--count', 3)
    assert done.returncode == 0, done.stderr
    drawings = list((tmp_path / 'out').glob('*.png'))
    assert len(drawings) == 3
    assert all(Image.open(path).width > 800 for path in drawings)
    assert all(str(path) in done.stdout for path in drawings)


def test_a_config_without_token_labels_is_refused(toy, tmp_path):
    done = run_tool('show_token_labels.py', toy / 'classify.py', tmp_path / 'out')
    assert done.returncode == 2
    assert 'no TokenLabelDataset in train_dataloader' in done.stderr


def test_trains_with_token_labels(config, tmp_path):
    done = run_tool(
        'train.py',
        *(config, '--work-dir', tmp_path / 'run'),
        *('--cfg-options', 'model.type=TokenLabelClassifier'),
    )
    assert done.returncode == 0, done.stderr
    assert 'loss_token' in done.stdout + done.stderr
    assert (tmp_path / 'run/epoch_2.pth').is_file()

import numpy as np
import pytest
from mmengine.registry import init_default_scope
from PIL import Image
from torch.utils.data import DataLoader

from tests.datasets import bad_data
from volo.datasets import SegmentationDataset
from volo.errors import DataError

PIPELINE = [
    dict(type='LoadImageFromFile', imdecode_backend='pillow'),
    dict(type='LoadAnnotations'),
    dict(type='CheckSegmentationSample'),
]
#: The cases that training must refuse too.
CASES = {
    case[0].__name__: case
    for case in bad_data.SEGMENTATION
    if case[1] in ('file-broken', 'image-depth')
    or case[1].startswith('mask-')
    and case[1] not in ('mask-binary', 'mask-lossy')
}
# These decode with gray or garbage; only check_dataset.py takes the time to see it.
for name in ('closed_after_truncation', 'zeros_at_the_end', 'flipped_bit'):
    CASES.pop(name)


@pytest.fixture
def root(tmp_path):
    init_default_scope('mmseg')
    return bad_data.write_segmentation(tmp_path)


def dataset(root, both=(), train=(), **options):
    arguments = dict(
        data_root=str(root),
        data_prefix=dict(img_path='images/train', seg_map_path='masks/train'),
        metainfo=dict(classes=('x', 'y', 'z')),
        pipeline=PIPELINE,
        serialize_data=False,  # which collects garbage, for 0.2 s
    )
    return SegmentationDataset(**arguments | dict(both) | dict(train) | options)


@pytest.mark.parametrize('name', CASES)
def test_training_stops_with_file_value_and_remedy(root, name):
    corrupt, _, file, value, remedy = CASES[name]
    changes = corrupt(root) or {}
    with pytest.raises(DataError) as error:
        dataset(root, **changes)[0]
    message = str(error.value)
    value = value.partition(' since')[0]  # EXIF is unknown after loading
    assert file in message and value in message and remedy in message


def test_deep_images_pass_where_the_pipeline_keeps_them(root):
    bad_data.deep_gray(root)
    loader = dict(type='LoadImageFromFile', color_type='unchanged')
    sample = dataset(root, pipeline=[loader])[0]
    assert sample['img'].dtype == np.uint16 and sample['img'].max() == 3000


def test_images_that_the_decoder_of_the_pipeline_cannot_read(root):
    # Pillow decodes an ICO; OpenCV does not.
    image = Image.new('RGB', (16, 16))
    bad_data.save(image, root / bad_data.IMAGE, format='ICO', sizes=[(16, 16)])
    load = dict(type='LoadImageFromFile', imdecode_backend='cv2')
    samples = dataset(root, pipeline=[load])
    with pytest.raises(DataError, match='a.jpg: broken image .cv2 cannot decode it'):
        samples[0]


@pytest.mark.parametrize(
    'corrupt',
    [
        bad_data.truncated_jpeg,
        bad_data.bomb_image,
        bad_data.bomb_mask,
        bad_data.fifo_image,
        bad_data.fifo_mask,
        bad_data.endless_mask,
        bad_data.one_row_mask,
    ],
)
def test_broken_samples_are_skipped_and_counted(root, corrupt):
    changes = corrupt(root) or {}
    samples = dataset(root, **changes, skip_broken=True)
    assert samples[0]['img_path'].endswith('b.jpg')
    assert samples.skipped >= 1
    assert samples[1]['img_path'].endswith('b.jpg')


def test_the_first_skip_is_logged(root, monkeypatch):
    lines = []
    monkeypatch.setattr(
        'volo.datasets.checked.print_log', lambda text, **_: lines.append(text)
    )
    bad_data.label_out_of_range(root)
    samples = dataset(root, skip_broken=True)
    for _ in range(5):
        samples.prepare_data(0)
    assert samples.skipped == 5
    (line,) = lines
    assert '1 skipped so far' in line and bad_data.MASK in line and 'label 7' in line


def test_workers_count_together(root):
    bad_data.missing_mask(root)
    samples = dataset(root, skip_broken=True)
    loader = DataLoader(samples, batch_size=None, num_workers=2, collate_fn=lambda x: 0)
    assert len(list(loader)) == 2
    assert samples.skipped >= 1


def test_evaluation_never_skips(root):
    bad_data.truncated_jpeg(root)
    with pytest.raises(DataError, match='a.jpg: broken image'):
        dataset(root, skip_broken=True, test_mode=True)[0]
    with pytest.raises(DataError, match='a.jpg: broken image'):
        dataset(root)[0]

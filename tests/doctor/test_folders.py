import numpy as np
import pytest
from mmengine.registry import init_default_scope

from tests.datasets.bad_data import save, write_classification, write_segmentation
from volo.datasets import ImageFolder, SegmentationDataset
from volo.doctor.folders import class_folder_findings, unlisted_findings
from volo.doctor.samples import Part

IMAGE = np.zeros((4, 4, 3), np.uint8)


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg')


@pytest.fixture
def masks(tmp_path):
    return write_segmentation(tmp_path)


@pytest.fixture
def classes(tmp_path):
    return write_classification(tmp_path)


def segmentation(root, split='train', prefix=None, **options):
    prefix = prefix or split
    dataset = SegmentationDataset(
        data_root=str(root),
        data_prefix=dict(img_path=f'images/{prefix}', seg_map_path=f'masks/{prefix}'),
        metainfo=dict(classes=('x', 'y', 'z')),
        serialize_data=False,
        **options,
    )
    return Part(split, dataset, len(dataset))


def classification(root, names=None, **options):
    arguments = dict(data_root=str(root), data_prefix='train') | options
    metainfo = dict(classes=names) if names else None
    return ImageFolder(metainfo=metainfo, serialize_data=False, **arguments)


def unlisted(parts, root):
    return [
        (split, finding.kind, finding.file.removeprefix(f'{root}/'))
        for split, finding in unlisted_findings(parts)
    ]


# --- Unlisted files ---


def test_all_listed(masks):
    assert unlisted([segmentation(masks), segmentation(masks, 'val')], masks) == []


def test_images_of_other_suffixes_are_left_out(masks):
    part = segmentation(masks)
    for name in ('c.JPG', 'c.png', 'deep/c.jpeg'):
        save(IMAGE, masks / 'images/train' / name)
    for name in ('.c.png', 'notes.txt', '.DS_Store'):
        (masks / 'images/train' / name).touch()
    assert unlisted([part], masks) == [
        ('train', 'image-left-out', f'images/train/{name}')
        for name in ('c.JPG', 'c.png', 'deep/c.jpeg')
    ]
    (_, finding), *_ = unlisted_findings([part])
    assert finding.value == 'not listed: the dataset takes .jpg'


def test_what_another_split_lists_is_not_left_out(masks):
    parts = [segmentation(masks), segmentation(masks, 'val', 'train')]
    save(IMAGE, masks / 'images/train/c.png')
    other = segmentation(masks, 'test', 'train', img_suffix='.png')
    assert len(unlisted(parts, masks)) == 1  # once, though both look there
    assert unlisted([*parts, other], masks) == []


def test_masks_without_image(masks):
    part = segmentation(masks)
    save(IMAGE[..., 0], masks / 'masks/train/deep/c.png')
    save(IMAGE[..., 0], masks / 'masks/train/c.gif')
    assert unlisted([part], masks) == [
        ('train', 'image-missing', 'masks/train/deep/c.png')
    ]
    ((_, finding),) = unlisted_findings([part])
    assert finding.value == f'no image {masks}/images/train/deep/c.jpg'


def test_a_dataset_that_lists_nothing_has_no_orphans(masks):
    part = segmentation(masks)
    save(IMAGE[..., 0], masks / 'masks/train/c.png')
    part.size = 0
    assert unlisted([part], masks) == []


@pytest.mark.parametrize(
    'choice',
    [dict(ann_file='list.txt'), dict(indices=1), dict(filter_cfg=dict(size=9))],
    ids=lambda choice: next(iter(choice)),
)
def test_a_selection_of_samples_leaves_nothing_out(masks, choice):
    (masks / 'list.txt').write_text('a\n')
    part = segmentation(masks, **choice)
    save(IMAGE, masks / 'images/train/c.png')
    assert unlisted([part], masks) == []


def test_images_outside_of_the_class_folders(classes):
    save(IMAGE, classes / 'train/c.png')
    save(IMAGE, classes / 'train/cat/c.webp')
    dataset = classification(classes)
    parts = [Part('train', dataset, len(dataset))]
    found = {finding.file: finding.value for _, finding in unlisted_findings(parts)}
    assert list(found) == [f'{classes}/train/{n}' for n in ('c.png', 'cat/c.webp')]
    loose, unknown = found.values()
    assert loose == 'not listed: it is not in a class folder'
    assert unknown.startswith('not listed: the dataset takes .bmp, ')


# --- Classes and their folders ---


def folder_findings(root, names, **options):
    dataset = classification(root, names, lazy_init=True, **options)
    return [(f.kind, f.file, f.value) for f in class_folder_findings(dataset)]


@pytest.mark.parametrize('names', [('cat', 'dog'), ('tabby', 'terrier'), None])
def test_classes_that_fit(classes, names):
    """As the folders are called, a translation of them, and read from them."""
    assert folder_findings(classes, names) == []


def test_classes_in_another_order(classes):
    ((kind, file, value),) = folder_findings(classes, ('dog', 'cat'))
    assert (kind, file) == ('class-order', f'{classes}/train')
    assert value == 'label 0 is the folder cat, but classes[0] is dog'


def test_folders_without_name_and_names_without_folder(classes):
    folder = classes / 'train'
    assert folder_findings(classes, ('cat', 'eel')) == [
        ('class-folder-unnamed', f'{folder}/dog', 'not in classes'),
        ('class-without-folder', f'{folder}/eel', 'no such folder'),
    ]
    # As many as the folders would be a translation.
    found = folder_findings(classes, ('x', 'y', 'z'))
    assert [file for _, file, _ in found] == [
        f'{folder}/{name}' for name in ('cat', 'dog', 'x', 'y', 'z')
    ]


def test_files_beside_the_folders_are_no_classes(classes):
    (classes / 'train/notes.txt').touch()
    assert folder_findings(classes, ('cat', 'dog')) == []


def test_nothing_is_compared_where_labels_are_not_of_folders(classes, masks):
    (classes / 'list.txt').write_text('cat/0.png 0\n')
    names = ('dog', 'cat')
    assert folder_findings(classes, names, ann_file='list.txt') == []
    assert folder_findings(classes, names, with_label=False) == []
    assert folder_findings(classes, names, data_prefix='nowhere') == []
    assert class_folder_findings(segmentation(masks).dataset) == []

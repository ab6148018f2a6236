import os
import pathlib
import pickle
import zipfile

import numpy as np
import pytest
import torch

from tests.bad_checkpoints import Call
from volo.errors import DataError, MissingLabelMapError
from volo.token_label import (
    LabelMap,
    LabelMapFolder,
    label_key,
    read_label_map,
    write_label_map,
)


def label_map(shape=(5, 18, 18), num_classes=1000):
    rng = np.random.default_rng(0)
    scores = rng.normal(5, 3, shape).astype(np.float16)
    return LabelMap(scores, rng.integers(0, num_classes, shape).astype(np.int32))


def assert_same(found, expected):
    np.testing.assert_array_equal(found.scores, expected.scores)
    np.testing.assert_array_equal(found.classes, expected.classes)


def save(path, scores, classes, dtype=torch.float16):
    torch.save(torch.tensor([scores, classes], dtype=dtype), path)
    return path


@pytest.mark.parametrize('dtype', [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize('shape', [(5, 18, 18), (1, 1, 1), (3, 24, 7)])
def test_reads_the_published_layout_of_any_size(tmp_path, shape, dtype):
    expected = label_map(shape)
    tensor = torch.stack(
        [torch.from_numpy(expected.scores), torch.from_numpy(expected.classes).half()]
    )
    torch.save(tensor.to(dtype), tmp_path / 'x.pt')
    found = read_label_map(tmp_path / 'x.pt')
    assert_same(found, expected)
    assert found.scores.dtype.kind == 'f' and found.classes.dtype.kind == 'i'


def test_old_torch_files_are_read(tmp_path):
    # The published maps were saved in 2021; torch before 1.6 wrote no zip file.
    tensor = torch.ones(2, 5, 18, 18).half()
    torch.save(tensor, tmp_path / 'x.pt', _use_new_zipfile_serialization=False)
    assert (read_label_map(tmp_path / 'x.pt').classes == 1).all()


@pytest.mark.parametrize('form', ['torch', 'old torch', 'pickle'])
def test_code_in_a_file_is_not_run(tmp_path, form):
    path, canary = tmp_path / 'x.pt', tmp_path / 'canary'
    evil = Call(os.system, f'touch {canary}')
    if form == 'pickle':
        path.write_bytes(pickle.dumps(evil, protocol=2))
    else:
        torch.save(evil, path, _use_new_zipfile_serialization=form == 'torch')
    with pytest.raises(DataError, match='x.pt: broken label map'):
        read_label_map(path)
    assert not canary.exists()


def test_missing_file(tmp_path):
    with pytest.raises(MissingLabelMapError, match='a.pt: no such label map'):
        read_label_map(tmp_path / 'a.pt')


@pytest.mark.parametrize('kind', ['empty', 'truncated', 'text', 'junk', 'folder'])
def test_broken_file(tmp_path, kind):
    path = tmp_path / 'x.pt'
    if kind == 'folder':
        path.mkdir()
    elif kind == 'truncated':
        write_label_map(path, label_map())
        path.write_bytes(path.read_bytes()[:3000])
    else:
        texts = dict(text='no tensor at all', junk='junk\n', empty='')
        path.write_text(texts[kind])
    with pytest.raises(DataError, match='x.pt: broken label map'):
        read_label_map(path)


def test_a_file_that_inflates_is_refused(tmp_path):
    write_label_map(tmp_path / 'x.pt', label_map())
    with (
        zipfile.ZipFile(tmp_path / 'x.pt') as whole,
        zipfile.ZipFile(tmp_path / 'y.pt', 'w', zipfile.ZIP_DEFLATED) as inflating,
    ):
        for name in whole.namelist():
            data = whole.read(name)
            if name.endswith('data.pkl'):
                data += bytes(10_000_000)
            inflating.writestr(name, data)
    with pytest.raises(DataError, match='y.pt: broken label map .*10.0 MB'):
        read_label_map(tmp_path / 'y.pt')


@pytest.mark.parametrize(
    'shape', [(5, 18, 18), (3, 5, 18, 18), (2, 18, 18), (2, 0, 18, 18), (2,), ()]
)
def test_wrong_shape(tmp_path, shape):
    torch.save(torch.zeros(shape), tmp_path / 'x.pt')
    with pytest.raises(DataError, match=r'x.pt: a label map has shape \(2, k, h, w\)'):
        read_label_map(tmp_path / 'x.pt')


def test_no_tensor(tmp_path):
    torch.save({'scores': torch.zeros(2, 5, 18, 18)}, tmp_path / 'x.pt')
    with pytest.raises(DataError, match='x.pt: not a label map: a dict'):
        read_label_map(tmp_path / 'x.pt')


@pytest.mark.parametrize('dtype', [torch.int64, torch.uint8, torch.bfloat16])
def test_wrong_dtype(tmp_path, dtype):
    torch.save(torch.zeros(2, 5, 18, 18, dtype=dtype), tmp_path / 'x.pt')
    with pytest.raises(DataError, match=f'x.pt.* not {dtype}'):
        read_label_map(tmp_path / 'x.pt')


@pytest.mark.parametrize(
    'make, message',
    [
        (lambda t: t.to_sparse(), 'dense tensor'),
        (lambda t: torch.nested.nested_tensor([t[0], t[1]]), 'nested_tensor'),
        (lambda t: t.to('meta'), 'dense tensor'),
        (
            lambda t: t[:, :1, :1, :1].clone().expand(2, 5, 18, 18),
            'the tensor is expanded',
        ),
        (lambda t: t[:1, :1, :1, :1].expand(2, 5, 10**6, 10**6), 'tensor is expanded'),
    ],
    ids=['sparse', 'nested', 'meta', 'expanded', 'huge'],
)
def test_tensors_without_a_value_for_every_element(tmp_path, make, message):
    torch.save(make(torch.ones(2, 5, 18, 18).half()), tmp_path / 'x.pt')
    with pytest.raises(DataError, match=f'x.pt: .*{message}'):
        read_label_map(tmp_path / 'x.pt')


@pytest.mark.parametrize(
    'make',
    [
        lambda t: t.float().requires_grad_(),
        torch.nn.Parameter,
        lambda t: torch._neg_view(-t),
        lambda t: t.transpose(2, 3),
        lambda t: torch.cat([t, t])[1:3],
    ],
    ids=['requires_grad', 'parameter', 'negated', 'transposed', 'sliced'],
)
def test_other_dense_tensors_are_label_maps(tmp_path, make):
    torch.save(make(torch.ones(2, 5, 18, 18).half()), tmp_path / 'x.pt')
    found = read_label_map(tmp_path / 'x.pt')
    assert (found.scores == 1).all() and (found.classes == 1).all()


def test_a_fifo_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / 'x.pt')
    with pytest.raises(DataError, match='x.pt: not a label map: a FIFO'):
        read_label_map(tmp_path / 'x.pt')


@pytest.mark.parametrize('index', [-1, 0.5, float('nan'), float('inf')])
# Casting NaN warns; the error is clearer.
def test_class_that_is_not_an_index(tmp_path, index):
    path = save(tmp_path / 'x.pt', [[[1, 2]]], [[[3, index]]])
    with pytest.raises(DataError, match='x.pt: class indices must be whole numbers'):
        read_label_map(path)


@pytest.mark.parametrize('score', [float('nan'), float('inf'), -float('inf')])
def test_score_that_is_not_finite(tmp_path, score):
    path = save(tmp_path / 'x.pt', [[[1, score]]], [[[3, 4]]])
    with pytest.raises(DataError, match='x.pt: a score is not finite'):
        read_label_map(path)


@pytest.mark.parametrize(
    'highest, dtype',
    [(2047, torch.float16), (2049, torch.float32), (70001, torch.float32)],
)
def test_written_maps_are_read_exactly(tmp_path, highest, dtype):
    expected = label_map()
    expected.classes[0, 0, 0] = highest
    path = tmp_path / 'n01' / 'x.pt'
    write_label_map(path, expected)
    assert_same(read_label_map(path), expected)
    tensor = torch.load(path, weights_only=True)
    assert tensor.dtype == dtype and tensor.shape == (2, 5, 18, 18)


@pytest.mark.parametrize('score', [np.nan, np.inf, 1e5])
def test_scores_that_float16_cannot_hold_are_not_written(tmp_path, score):
    bad = LabelMap(np.full((1, 2, 2), score), np.zeros((1, 2, 2), np.int32))
    with pytest.raises(DataError, match='x.pt: a score is not finite in float16'):
        write_label_map(tmp_path / 'x.pt', bad)
    assert not list(tmp_path.iterdir())


def test_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path, old = tmp_path / 'x.pt', label_map()
    write_label_map(path, old)

    def interrupted(path, _):
        raise OSError('Stale file handle')

    monkeypatch.setattr(pathlib.Path, 'replace', interrupted)
    with pytest.raises(DataError, match='x.pt cannot be written: Stale file handle'):
        write_label_map(path, label_map((1, 2, 2)))
    assert os.listdir(tmp_path) == ['x.pt']
    assert_same(read_label_map(path), old)


@pytest.mark.parametrize(
    'image, root, key',
    [
        ('data/train/n01/n01_5.JPEG', 'data/train', 'n01/n01_5'),
        ('data/train/n01/n01_5.JPEG', 'data/train/', 'n01/n01_5'),
        ('data//train/./n01/a.png', 'data/train', 'n01/a'),
        ('/data/a.b.jpg', '/data', 'a.b'),
        ('/data/a.jpg', '/', 'data/a'),
        ('n01/a.jpg', '.', 'n01/a'),
        ('n.01/noextension', '', 'n.01/noextension'),
    ],
)
def test_key_is_the_path_below_the_root(image, root, key):
    assert label_key(image, root) == key


@pytest.mark.parametrize('image', ['data/val/a.jpg', 'data/training/a.jpg', 'a.jpg'])
def test_image_outside_the_root_has_no_key(image):
    with pytest.raises(DataError, match=f'{image} is not below data/train'):
        label_key(image, 'data/train')


def test_folder_lists_and_reads_its_maps(tmp_path):
    keys = {'n01/a', 'n01/b.c', 'n02/deep/a', 'top'}
    for key in keys:
        write_label_map(tmp_path / f'{key}.pt', label_map())
    (tmp_path / 'n01' / '.a.pt.7.part').touch()
    (tmp_path / 'n01' / '.hidden.pt').touch()
    (tmp_path / 'notes.txt').touch()
    maps = LabelMapFolder(tmp_path)
    assert sorted(maps.keys()) == sorted(keys)
    for key in keys:
        assert_same(maps.read(key), label_map())
    with pytest.raises(MissingLabelMapError, match='n01/z.pt'):
        maps.read('n01/z')


def test_no_such_folder(tmp_path):
    with pytest.raises(DataError, match='labels: no such folder'):
        LabelMapFolder(tmp_path / 'labels')

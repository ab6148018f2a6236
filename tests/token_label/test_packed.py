import itertools
import json
import os
import pickle
import shutil

import numpy as np
import pytest
from torch.utils.data import DataLoader

from tests.packed_store import KEYS, SHAPE, assert_same, label_map, write_all
from volo.errors import DataError, MissingLabelMapError
from volo.token_label.maps import LabelMapFolder, read_label_map, write_label_map
from volo.token_label.packed import (
    PackedLabelMaps,
    is_packed,
    open_label_maps,
    record_checksum,
)
from volo.token_label.packed_writer import PackedWriter


@pytest.fixture
def store(tmp_path):
    write_all(PackedWriter.create(tmp_path / 'store', KEYS, SHAPE, 1000)).finish()
    return tmp_path / 'store'


def test_reads_what_the_folder_reads(tmp_path):
    for key in KEYS:
        write_label_map(tmp_path / 'folder' / f'{key}.pt', label_map(key))
    folder = LabelMapFolder(tmp_path / 'folder')
    writer = PackedWriter.create(tmp_path / 'store', folder.keys(), SHAPE, 1000)
    for key in folder.keys():
        writer.write(key, folder.read(key))
    maps = writer.finish()
    assert list(maps.keys()) == sorted(KEYS) and len(maps) == len(KEYS)
    for key in KEYS:
        found, expected = maps.read(key), read_label_map(folder.path(key))
        assert_same(found, expected)
        assert found.scores.dtype == expected.scores.dtype
        assert found.classes.dtype == expected.classes.dtype


def test_maps_are_copies(store):
    maps = PackedLabelMaps(store)
    found = maps.read(KEYS[0])
    found.scores[:] = 0
    found.classes[:] = 0
    assert_same(maps.read(KEYS[0]), label_map(KEYS[0]))
    maps.verify()


def test_names_that_are_not_utf8(tmp_path):
    key = os.fsdecode(b'n01/caf\xe9')
    writer = PackedWriter.create(tmp_path / 'store', [key], SHAPE)
    maps = write_all(writer).finish()
    assert list(maps.keys()) == [key]
    assert_same(maps.read(key), label_map(key))


@pytest.mark.parametrize('key', ['a', 'n0/', 'n0/0x', 'zzz', '', KEYS[0] + 'x' * 99])
def test_missing_key(store, key):
    with pytest.raises(MissingLabelMapError, match=f'{store}: no label map of {key}'):
        PackedLabelMaps(store).read(key)


class Images:
    def __init__(self, maps):
        self.maps = maps

    def __len__(self):
        return 4 * len(KEYS)

    def __getitem__(self, index):
        return self.maps.read(KEYS[index % len(KEYS)])


def test_workers_of_a_loader_read(store):
    maps = PackedLabelMaps(store)
    loader = DataLoader(
        Images(maps), batch_size=5, num_workers=2, collate_fn=list, shuffle=False
    )
    found = list(itertools.chain.from_iterable(loader))
    assert len(found) == 4 * len(KEYS)
    for label, key in zip(found, KEYS * 4, strict=True):
        assert_same(label, label_map(key))


def test_pickled_store_is_its_name(store):
    maps = PackedLabelMaps(store)
    maps.read(KEYS[0])
    content = pickle.dumps(maps)
    assert len(content) < 500
    again = pickle.loads(content)
    assert_same(again.read(KEYS[3]), label_map(KEYS[3]))
    assert again.num_classes == 1000 and list(again.keys()) == list(maps.keys())


# Broken stores


@pytest.mark.parametrize('name', ['scores.npy', 'classes.npy'])
def test_verify_finds_a_flipped_bit(store, name):
    PackedLabelMaps(store).verify()
    size = np.load(store / name, mmap_mode='r').nbytes // len(KEYS)
    with (store / name).open('r+b') as file:
        file.seek(-2 * size + 7, os.SEEK_END)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 4]))
    key = sorted(KEYS, key=str.encode)[-2]
    with pytest.raises(DataError, match=f'{store}: the map of {key} has changed'):
        PackedLabelMaps(store).verify()
    with pytest.raises(DataError, match=f'{store}: the map of {key} has changed'):
        PackedWriter.open(store).finish()


def test_maps_lost_on_disk_are_written_again(tmp_path):
    root = tmp_path / 'store'
    writer = write_all(PackedWriter.create(root, KEYS, SHAPE))
    writer.flush()
    np.load(root / 'scores.npy', mmap_mode='r+')[5] = 0
    key = sorted(KEYS)[5]
    with pytest.raises(DataError, match=f'1 maps .*such as {key}.*same command again'):
        writer.finish()
    writer = PackedWriter.create(root, KEYS, SHAPE)
    assert writer.missing() == [key]
    assert_same(write_all(writer).finish().read(key), label_map(key))


@pytest.mark.parametrize('name', ['scores.npy', 'classes.npy'])
def test_a_flipped_bit_is_found_when_the_map_is_read(store, name):
    np.load(store / name, mmap_mode='r+').view(np.uint8)[-2].flat[7] ^= 4
    maps = PackedLabelMaps(store)
    *others, key, last = sorted(KEYS, key=str.encode)
    with pytest.raises(DataError, match=f'{store}: the map of {key} has changed'):
        maps.read(key)
    for other in (*others, last):
        assert_same(maps.read(other), label_map(other))


def test_a_score_that_is_not_finite_is_found_when_the_map_is_read(store):
    np.load(store / 'scores.npy', mmap_mode='r+')[0, 0, 0, 0] = np.nan
    scores, classes = (np.load(store / f'{n}.npy')[0] for n in ('scores', 'classes'))
    index = np.load(store / 'index.npy', mmap_mode='r+')
    index['checksum'][0] = record_checksum(scores, classes)
    with pytest.raises(DataError, match='a score that is not finite'):
        PackedLabelMaps(store).read(min(KEYS, key=str.encode))


@pytest.mark.parametrize('harm', ['removed', 'truncated', 'empty', 'text'])
@pytest.mark.parametrize('name', ['scores.npy', 'classes.npy', 'index.npy'])
@pytest.mark.parametrize('opener', [PackedLabelMaps, PackedWriter.open])
def test_broken_file(store, opener, name, harm):
    path = store / name
    content = path.read_bytes()
    path.unlink()
    if harm != 'removed':
        broken = {'truncated': content[:-1], 'empty': b'', 'text': b'some notes\n'}
        path.write_bytes(broken[harm])
    with pytest.raises(DataError, match=f'{path}: missing or broken'):
        opener(store)


@pytest.mark.parametrize(
    'content',
    [None, '', '{"version": 1', '[]', '{"version": 1}', '{"version": 2, %s}']
    + ['{"version": 1, "complete": true, "num_classes": null}'],
)
def test_broken_meta(store, content):
    path = store / 'meta.json'
    path.unlink()
    if content is not None:
        path.write_text(content.replace('%s', '"complete": true, "num_classes": 5'))
    with pytest.raises(DataError, match=f'{path}: '):
        PackedLabelMaps(store)


@pytest.mark.parametrize('name', ['scores.npy', 'classes.npy', 'index.npy'])
def test_files_of_different_stores(store, tmp_path, name):
    other = tmp_path / 'other'
    PackedWriter.create(other, KEYS[:9], (3, 5, 4), 1000)
    shutil.copy(other / name, store / name)
    with pytest.raises(DataError, match=f'{store}/.*npy: .*does not belong'):
        PackedLabelMaps(store)


def test_index_that_is_another_array(store):
    np.save(store / 'index.npy', np.zeros(len(KEYS)))
    with pytest.raises(DataError, match='index.npy: not the index'):
        PackedLabelMaps(store)


# Opening


def test_store_or_folder_is_opened(store, tmp_path):
    write_label_map(tmp_path / 'folder' / 'a.pt', label_map('a'))
    assert isinstance(open_label_maps(store), PackedLabelMaps)
    assert isinstance(open_label_maps(str(tmp_path / 'folder')), LabelMapFolder)
    assert is_packed(store) and not is_packed(tmp_path / 'folder')
    with pytest.raises(DataError, match='nothing: no such folder'):
        open_label_maps(tmp_path / 'nothing')


@pytest.mark.parametrize('name', ['index.npy', 'meta.json'])
def test_incomplete_store_is_not_read_as_a_folder(store, name):
    (store / name).unlink()
    with pytest.raises(DataError, match=name):
        open_label_maps(store)


def test_meta_is_readable_elsewhere(store):
    meta = json.loads((store / 'meta.json').read_text())
    assert meta == {'version': 1, 'num_classes': 1000, 'complete': True}

import multiprocessing
import os

import numpy as np
import pytest

from tests.packed_store import KEYS, SHAPE, assert_same, label_map, write_all
from volo.errors import ConfigError, DataError
from volo.token_label.maps import LabelMap
from volo.token_label.packed import PackedLabelMaps
from volo.token_label.packed_writer import WRITES_PER_FLUSH, PackedWriter


@pytest.fixture
def store(tmp_path):
    write_all(PackedWriter.create(tmp_path / 'store', KEYS, SHAPE, 1000)).finish()
    return tmp_path / 'store'


@pytest.mark.parametrize(
    'num_classes, highest, dtype',
    [
        (None, 999, 'uint16'),
        (None, 2049, 'uint16'),
        (None, 65535, 'uint16'),
        (65536, 65535, 'uint16'),
        (70002, 70001, 'uint32'),
    ],
)
def test_class_indices_are_exact(tmp_path, num_classes, highest, dtype):
    root = tmp_path / 'store'
    writer = PackedWriter.create(root, ['a', 'b'], SHAPE, num_classes)
    expected = LabelMap(np.zeros(SHAPE, 'f2'), np.full(SHAPE, highest, 'i4'))
    writer.write('a', expected)
    writer.write('b', label_map('b', num_classes=500))
    maps = writer.finish()
    assert_same(maps.read('a'), expected)
    assert maps.num_classes == writer.num_classes == (num_classes or highest + 1)
    assert PackedLabelMaps(root).num_classes == maps.num_classes
    assert np.load(root / 'classes.npy', mmap_mode='r').dtype == dtype


def test_scores_in_float32(tmp_path):
    expected = LabelMap(np.full(SHAPE, 1e5 + 0.125, 'f4'), np.ones(SHAPE, 'i4'))
    writer = PackedWriter.create(tmp_path / 'store', ['a'], SHAPE, dtype='float32')
    writer.write('a', expected)
    assert_same(writer.finish().read('a'), expected)


@pytest.mark.parametrize(
    'scores, classes, message',
    [
        (np.zeros((3, 5, 4)), np.zeros(SHAPE, 'i4'), r'shape \(3, 5, 4\).*\(3, 4, 5\)'),
        (np.zeros(SHAPE), np.zeros((1, 4, 5), 'i4'), r'shape \(1, 4, 5\).*\(3, 4, 5\)'),
        (np.zeros(SHAPE), np.full(SHAPE, 1000), 'class 1000 is none of the 1000'),
        (np.zeros(SHAPE), np.full(SHAPE, -1), 'class -1 is none of the 1000'),
        (np.full(SHAPE, np.nan), np.zeros(SHAPE, 'i4'), 'not finite'),
        (np.full(SHAPE, 65520.0), np.zeros(SHAPE, 'i4'), 'not finite in float16'),
    ],
)
def test_maps_that_do_not_fit(tmp_path, scores, classes, message):
    writer = PackedWriter.create(tmp_path / 'store', ['n01/a'], SHAPE, 1000)
    with pytest.raises(DataError, match=f'n01/a: .*{message}'):
        writer.write('n01/a', LabelMap(scores, classes))
    assert writer.missing() == ['n01/a']


def test_class_that_needs_num_classes(tmp_path):
    writer = PackedWriter.create(tmp_path / 'store', ['a'], SHAPE)
    with pytest.raises(DataError, match='a: class 65536 is none of the 65536'):
        writer.write('a', LabelMap(np.zeros(SHAPE), np.full(SHAPE, 65536)))


def test_key_that_the_store_lacks(tmp_path):
    writer = PackedWriter.create(tmp_path / 'store', ['a'], SHAPE)
    with pytest.raises(DataError, match='b: .*without this key'):
        writer.write('b', label_map('b'))


@pytest.mark.parametrize('keys, message', [([], 'no label maps'), ('aba', 'key a')])
def test_invalid_keys(tmp_path, keys, message):
    with pytest.raises(DataError, match=f'store: .*{message}'):
        PackedWriter.create(tmp_path / 'store', list(keys), SHAPE)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    'shape, options',
    [((3, 4), {}), ((0, 4, 5), {}), (SHAPE, {'num_classes': 0})]
    + [(SHAPE, {'num_classes': 2**31 + 1}), (SHAPE, {'dtype': 'int8'})],
)
def test_invalid_arguments(tmp_path, shape, options):
    with pytest.raises(ConfigError):
        PackedWriter.create(tmp_path / 'store', ['a'], shape, **options)
    assert os.listdir(tmp_path) == []


# Interruption


def test_continues_after_an_interruption(tmp_path):
    root = tmp_path / 'store'
    writer = PackedWriter.create(root, KEYS, SHAPE)
    written, rest = sorted(KEYS)[:8], sorted(KEYS)[8:]
    for key in written:
        writer.write(key, label_map(key))
    writer.flush()
    del writer

    with pytest.raises(DataError, match=f'8 of {len(KEYS)} maps .* run the same'):
        PackedLabelMaps(root)
    writer = PackedWriter.create(root, KEYS, SHAPE)
    assert writer.missing() == rest
    with pytest.raises(DataError, match=f'{len(rest)} of {len(KEYS)} .* not written'):
        writer.finish()
    maps = write_all(writer).finish()
    for key in KEYS:
        assert_same(maps.read(key), label_map(key))


def test_written_but_not_finished_is_not_complete(tmp_path):
    root = tmp_path / 'store'
    write_all(PackedWriter.create(root, ['a', 'b'], SHAPE)).flush()
    with pytest.raises(DataError, match='2 of 2 maps are written; run the same'):
        PackedLabelMaps(root)
    PackedWriter.create(root, ['a', 'b'], SHAPE).finish()
    PackedLabelMaps(root).verify()


def killed(root, keys):
    writer = PackedWriter.create(root, keys, (1, 1, 1))
    for key in keys[:-1]:
        writer.write(key, label_map(key, (1, 1, 1)))
    os._exit(9)


def test_a_killed_process_loses_only_what_it_wrote_last(tmp_path):
    root, keys = tmp_path / 'store', [f'{i:04}' for i in range(WRITES_PER_FLUSH + 100)]
    process = multiprocessing.get_context('fork').Process(
        target=killed, args=(root, keys)
    )
    process.start()
    process.join(60)
    assert process.exitcode == 9
    assert PackedWriter.open(root).missing() == keys[WRITES_PER_FLUSH:]


def test_interrupted_creation_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(source, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, 'replace', interrupted)
    with pytest.raises(KeyboardInterrupt):
        PackedWriter.create(tmp_path / 'store', KEYS, SHAPE)
    assert os.listdir(tmp_path) == []


def test_full_disk_is_an_error_before_anything_is_written(tmp_path):
    keys = [str(i) for i in range(1000)]
    with pytest.raises(DataError, match='store cannot be created: .*space'):
        # 2**58 bytes: more than file systems hold.
        PackedWriter.create(tmp_path / 'store', keys, (2**16, 2**16, 2**16))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    'change, message',
    [
        ({'keys': KEYS[1:]}, f'{len(KEYS)} maps under other keys'),
        ({'keys': [*KEYS[1:], 'other']}, 'under other keys'),
        ({'shape': (3, 5, 4)}, r'shape \(3, 4, 5\), not \(3, 5, 4\)'),
        ({'num_classes': 999}, 'num_classes 1000, not 999'),
        ({'num_classes': None}, 'num_classes 1000, not None'),
        ({'dtype': 'float32'}, 'scores in float16, not float32'),
    ],
)
def test_another_store_is_not_overwritten(tmp_path, change, message):
    root = tmp_path / 'store'
    arguments = {'keys': KEYS, 'shape': SHAPE, 'num_classes': 1000}
    writer = PackedWriter.create(root, **arguments)
    writer.write(KEYS[0], label_map(KEYS[0]))
    with pytest.raises(DataError, match=f'store is a packed .*{message}.*another fold'):
        PackedWriter.create(root, **{**arguments, **change})
    assert_same(write_all(writer).finish().read(KEYS[0]), label_map(KEYS[0]))


def test_other_files_are_not_overwritten(tmp_path):
    (tmp_path / 'notes.txt').write_text('mine')
    with pytest.raises(DataError, match='cannot be created: .*Name a folder that does'):
        PackedWriter.create(tmp_path, KEYS, SHAPE)
    with pytest.raises(DataError, match='cannot be created'):
        PackedWriter.create(tmp_path / 'notes.txt', KEYS, SHAPE)
    assert os.listdir(tmp_path) == ['notes.txt']


@pytest.mark.parametrize('num_classes', [1000, None])
def test_complete_store_is_unchanged(store, num_classes):
    writer = PackedWriter.create(store, KEYS, SHAPE, num_classes)
    assert writer.missing() == []
    with pytest.raises(DataError, match='store is complete'):
        writer.write(KEYS[0], label_map('other'))
    assert_same(writer.finish().read(KEYS[0]), label_map(KEYS[0]))


# Several processes


def write_some(root, keys):
    writer = PackedWriter.open(root)
    for key in keys:
        writer.write(key, label_map(key))
    writer.flush()


def test_two_processes_write_one_store(tmp_path):
    root, keys = tmp_path / 'store', [f'n{i % 7}/{i}' for i in range(2000)]
    PackedWriter.create(root, keys, SHAPE)
    fork = multiprocessing.get_context('fork')
    # Alternating keys: both write to every page of every file.
    parts = [sorted(keys)[::2], sorted(keys)[1::2]]
    processes = [fork.Process(target=write_some, args=(root, part)) for part in parts]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    maps = PackedWriter.create(root, keys, SHAPE).finish()
    for key in keys:
        assert_same(maps.read(key), label_map(key))


def make_one(root, barrier):
    barrier.wait()
    PackedWriter.create(root, KEYS, SHAPE)


def test_processes_that_create_the_same_store_at_once(tmp_path):
    fork = multiprocessing.get_context('fork')
    arguments = (tmp_path / 'store', fork.Barrier(4))
    processes = [fork.Process(target=make_one, args=arguments) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert os.listdir(tmp_path) == ['store']

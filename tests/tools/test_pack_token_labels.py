import numpy as np
import pytest

from tests.toy import run_tool
from volo.token_label.maps import LabelMap, read_label_map, write_label_map
from volo.token_label.packed import PackedLabelMaps

KEYS = [f'n{i % 2:02}/n{i % 2:02}_{i}' for i in range(6)]


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for key in KEYS:
        scores = rng.normal(5, 3, (5, 18, 18)).astype(np.float16)
        classes = rng.integers(0, 3000, (5, 18, 18)).astype(np.int32)
        classes[0, 0, 0] = 2999
        write_label_map(tmp_path / 'maps' / f'{key}.pt', LabelMap(scores, classes))
    return tmp_path / 'maps'


def assert_packed(store, folder):
    maps = PackedLabelMaps(store)
    maps.verify()
    assert list(maps.keys()) == sorted(KEYS)
    for key in KEYS:
        expected, found = read_label_map(folder / f'{key}.pt'), maps.read(key)
        # The files are float32 because of their classes; scores were float16.
        np.testing.assert_array_equal(found.scores, expected.scores)
        np.testing.assert_array_equal(found.classes, expected.classes)
    return maps


def test_packs_and_continues_after_an_error(folder, tmp_path):
    store = tmp_path / 'new' / 'store'
    last = folder / f'{max(KEYS)}.pt'
    good = last.read_bytes()
    write_label_map(last, LabelMap(np.ones((5, 9, 9)), np.ones((5, 9, 9), 'i4')))
    done = run_tool('pack_token_labels.py', folder, store)
    assert done.returncode == 2
    error = done.stderr.strip().splitlines()[-1]
    assert error.startswith(f'error: {last} cannot be packed')
    assert '(5, 9, 9)' in error and '(5, 18, 18)' in error

    last.write_bytes(good)
    # The first was only looked at for its shape this time: it is packed already.
    first = folder / f'{min(KEYS)}.pt'
    good = first.read_bytes()
    write_label_map(first, LabelMap(np.ones((5, 18, 18)), np.ones((5, 18, 18), 'i4')))
    done = run_tool('pack_token_labels.py', folder, store)
    assert done.returncode == 0, done.stderr
    summary = done.stdout.splitlines()[-1]
    assert summary.startswith(f'{store}: 6 maps, ') and '3000 classes' in summary
    assert summary.count('kB') == 2, 'sizes of the store and of the folder'
    first.write_bytes(good)
    assert assert_packed(store, folder).num_classes == 3000

    again = run_tool('pack_token_labels.py', folder, store)
    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines()[-1].startswith(summary.partition(';')[0])


def test_options(folder, tmp_path):
    done = run_tool(
        *('pack_token_labels.py', folder, tmp_path / 'store'),
        *('--num-classes', '70000', '--dtype', 'float32'),
    )
    assert done.returncode == 0, done.stderr
    assert 'packing' not in done.stderr, 'no progress bar where no terminal is'
    assert assert_packed(tmp_path / 'store', folder).num_classes == 70000


@pytest.mark.parametrize('problem', ['class', 'no files', 'no folder'])
def test_what_cannot_be_packed(folder, tmp_path, problem):
    options = ['--num-classes', '2999'] if problem == 'class' else []
    source, message = {
        'class': (folder, f'{min(KEYS)}.pt cannot be packed: {min(KEYS)}: class 2999'),
        'no files': (tmp_path / 'empty', 'empty: no .pt file'),
        'no folder': (tmp_path / 'nothing', 'nothing: no such folder'),
    }[problem]
    (tmp_path / 'empty').mkdir()
    done = run_tool('pack_token_labels.py', source, tmp_path / 'store', *options)
    assert done.returncode == 2
    assert 'Traceback' not in done.stderr
    assert message in done.stderr.strip().splitlines()[-1]

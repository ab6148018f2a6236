import numpy as np

from benchmarks import label_maps
from benchmarks.label_maps import (
    bytes_on_disk,
    measure_label_maps,
    pack,
    write_random_maps,
)

KEYS = ['a/0', 'b/1', 'b/0']


def test_random_maps_have_the_published_shape_and_dtype(tmp_path):
    maps = write_random_maps(tmp_path / 'maps', KEYS, num_classes=3)
    assert sorted(maps.keys()) == sorted(KEYS)
    found = [maps.read(key) for key in KEYS]
    for one in found:
        assert one.scores.shape == one.classes.shape == (5, 18, 18)
        assert one.scores.dtype == np.float16
        assert set(np.unique(one.classes)) == {0, 1, 2}
    assert (found[0].scores != found[1].scores).any()
    again = write_random_maps(tmp_path / 'again', KEYS, num_classes=3)
    assert (again.read('b/1').scores == found[1].scores).all()


def test_the_packed_store_has_the_same_maps(tmp_path):
    maps = write_random_maps(tmp_path / 'maps', KEYS)
    store = pack(maps, tmp_path / 'store')
    assert list(store.keys()) == sorted(KEYS)
    for key in KEYS:
        for part in ('scores', 'classes'):
            expected = getattr(maps.read(key), part)
            np.testing.assert_array_equal(getattr(store.read(key), part), expected)


def test_bytes_on_disk_are_whole_blocks(tmp_path):
    assert bytes_on_disk(tmp_path) == 0
    for name in ('a.pt', 'deep/b.pt'):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(range(1, 252)) * 41)
    found = bytes_on_disk(tmp_path)
    assert found > 2 * 251 * 41 and found % 512 == 0


def test_both_stores_read_all_maps_in_the_same_order(monkeypatch):
    read = {}

    def instead(functions, repeats):
        assert repeats == 2
        for kind, function in functions.items():
            read[kind] = function()
        return dict(folder=6.0, packed=3.0)

    monkeypatch.setattr(label_maps, 'median_seconds', instead)
    found = measure_label_maps(count=6, repeats=2)
    assert {kind: seconds for kind, (seconds, _) in found.items()} == dict(
        folder=1.0, packed=0.5
    )
    assert all(size >= 5 * 18 * 18 * 4 for _, size in found.values())
    for one, other in zip(read['folder'], read['packed'], strict=True):
        np.testing.assert_array_equal(one.classes, other.classes)
    assert len({one.scores.tobytes() for one in read['folder']}) == 6

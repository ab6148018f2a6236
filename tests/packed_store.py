"""A small packed store, for the tests of reading and of writing."""

import numpy as np

from volo.token_label.maps import LabelMap

SHAPE = (3, 4, 5)
# Not in the order of the store, with names of many lengths and beyond ASCII.
KEYS = [f'n{i % 3}/{"long" * (i % 4)}{i}' for i in reversed(range(20))] + ['ä/é', '日']


def label_map(key, shape=SHAPE, num_classes=1000):
    """Return a map that no other key has."""
    rng = np.random.default_rng(list(key.encode('utf-8', 'surrogateescape')))
    scores = rng.normal(5, 3, shape).astype(np.float16)
    return LabelMap(scores, rng.integers(0, num_classes, shape).astype(np.int32))


def assert_same(found, expected):
    np.testing.assert_array_equal(found.scores, expected.scores)
    np.testing.assert_array_equal(found.classes, expected.classes)


def write_all(writer):
    for key in writer.missing():
        writer.write(key, label_map(key))
    return writer

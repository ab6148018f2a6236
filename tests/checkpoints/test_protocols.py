import io
import pickle
from collections import OrderedDict

import pytest
import torch

from tests.bad_checkpoints import WEIGHTS
from volo.checkpoints.pickles import parse
from volo.checkpoints.protocols import to_protocol_2
from volo.checkpoints.reading import read_checkpoint, read_weights
from volo.errors import CheckpointError

SHARED = [1, 2.5, -(2**70), 'text \u00e9', b'\x00\xff', True, None]
CONTENT = dict(
    shared=(SHARED, SHARED),
    tuples=((), (1,), (1, 2), (1, 2, 3), tuple(range(300))),
    sets=[{1, 2}, frozenset(['a'])],
    ordered=OrderedDict(a=1, b=[{}]),
    mixed={1: 'a', 'b': -1.5, (2, 3): None},
)


@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
def test_all_protocols_become_protocol_2(protocol):
    parsed = parse(io.BytesIO(pickle.dumps(CONTENT, protocol)))

    rewritten = to_protocol_2(parsed.root)

    assert rewritten[:2] == b'\x80\x02'
    loaded = pickle.loads(rewritten)
    assert loaded == CONTENT and type(loaded['ordered']) is OrderedDict
    assert loaded['shared'][0] is loaded['shared'][1]


@pytest.mark.parametrize('protocol', [3, 4, 5])
def test_archives_of_other_protocols_are_read(tmp_path, protocol):
    weights = dict(a=torch.arange(6.0), c=torch.nn.Parameter(torch.ones(2, 3)))
    weights['b'] = weights['a'][1:]
    content = dict(state_dict=OrderedDict(weights), meta=dict(epoch=3))
    torch.save(content, tmp_path / 'x.pth', pickle_protocol=protocol)

    loaded = read_checkpoint(tmp_path / 'x.pth')

    assert loaded['meta'] == content['meta']
    assert loaded['state_dict'].keys() == weights.keys()
    for name, value in loaded['state_dict'].items():
        assert torch.equal(value, weights[name]) and type(value) is type(weights[name])
    assert (
        loaded['state_dict']['b'].data_ptr() == loaded['state_dict']['a'][1:].data_ptr()
    )


def test_other_protocols_of_the_old_format_are_refused_for_what_they_are(tmp_path):
    path = tmp_path / 'x.pth'
    torch.save(WEIGHTS, path, pickle_protocol=4, _use_new_zipfile_serialization=False)

    with pytest.raises(CheckpointError, match='another protocol'):
        read_weights(path)

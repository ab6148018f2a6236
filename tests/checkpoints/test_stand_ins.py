"""What other libraries save beside weights is read as plain data."""

import datetime
import decimal
import enum
import pathlib
import sys
import types
import uuid
from collections import Counter, OrderedDict, defaultdict

import pytest
import torch
from mmengine.config import ConfigDict

from tests.bad_checkpoints import WEIGHTS, Call
from volo.checkpoints.reading import read_checkpoint
from volo.errors import CheckpointError


def save(path, meta, **kwargs):
    torch.save(dict(state_dict=WEIGHTS, meta=meta), path, **kwargs)
    return path


class Stage(enum.Enum):
    TRAIN = 'train'


class Version(enum.IntEnum):
    NEW = 2


#: What other libraries save, and what is read: the same, unless given.
PLAIN_DATA = {
    'path': (pathlib.Path('work/x.pth'),),
    'pure path': (pathlib.PurePosixPath('/a'),),
    'path of Windows': (pathlib.PureWindowsPath('C:/a'),),
    'date': (datetime.date(2024, 2, 29),),
    'time': (datetime.time(12, 30, 1, 5),),
    'datetime': (datetime.datetime(2024, 1, 2, 3, 4, 5),),
    'datetime with zone': (
        datetime.datetime(2024, 1, 2, tzinfo=datetime.timezone.utc),
    ),
    'duration': (datetime.timedelta(days=-1, seconds=5),),
    'Enum': (Stage.TRAIN,),
    'IntEnum': (Version.NEW,),
    'Decimal': (decimal.Decimal('-1.50'),),
    'UUID': (uuid.UUID(int=2**127 + 1),),
    'slice': (slice(None, 3, 2),),
    'range': (range(3, 9, 2),),
    'frozenset': (frozenset(['a', 1, (2, 3)]),),
    'bytes': (b'\x00\xff',),
    'bytearray': (bytearray(b'\x00\xff'),),
    'complex': (1 + 2j,),
    'set': ({1, 2},),
    'type': (float,),
    'size': (torch.Size([1, 2]),),
    'dtype': (torch.float16,),
    'device': (torch.device('cpu'),),
    'defaultdict': (defaultdict(list, a=[1]), {'a': [1]}),
    'Counter': (Counter('aab'),),
    'OrderedDict': (OrderedDict(a=1),),
    'ConfigDict': (ConfigDict(a=ConfigDict(b=[1])), {'a': {'b': [1]}}),
}


@pytest.mark.parametrize('protocol', [2, 4])
@pytest.mark.parametrize('kind', PLAIN_DATA)
def test_plain_data_of_other_libraries_is_read(tmp_path, kind, protocol):
    saved, *expected = PLAIN_DATA[kind]
    path = save(tmp_path / 'x.pth', saved, pickle_protocol=protocol)

    value = read_checkpoint(path)['meta']

    expected = expected[0] if expected else saved
    assert type(value) is type(expected) and value == expected


def test_enums_that_do_not_exist_here_become_their_values(tmp_path, monkeypatch):
    module = types.ModuleType('absent_library')
    module.Stage = enum.Enum('Stage', dict(TRAIN='train'), module=module.__name__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    path = save(tmp_path / 'x.pth', [module.Stage.TRAIN, Stage.TRAIN])
    monkeypatch.delitem(sys.modules, module.__name__)

    assert read_checkpoint(path)['meta'] == ['train', Stage.TRAIN]


def test_objects_that_do_not_exist_here_are_refused(tmp_path, monkeypatch):
    module = types.ModuleType('absent_library')
    module.Model = type('Model', (), dict(__module__=module.__name__))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    path = save(tmp_path / 'x.pth', module.Model())
    monkeypatch.delitem(sys.modules, module.__name__)

    with pytest.raises(CheckpointError, match=r'import absent_library\.Model'):
        read_checkpoint(path)


@pytest.mark.parametrize(
    'arguments', [(b'\x07\xe4\x0c\xff' + b'\xff' * 6,), (b'short',), (2024, 1, 1), ()]
)
def test_impossible_dates_are_refused(tmp_path, arguments):
    path = save(tmp_path / 'x.pth', Call(datetime.datetime, *arguments))

    with pytest.raises(CheckpointError, match='day is out of range|plain data|damaged'):
        read_checkpoint(path)

"""Seeded mutations of checkpoints and label maps: pickles, archives and headers."""

import argparse
import datetime
import decimal
import io
import json
import pathlib
import pickletools
import random
import struct
import uuid
import zipfile
from collections import OrderedDict, defaultdict
from collections.abc import Callable

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer
from safetensors.torch import save as save_safetensors

#: Names and attributes that a mutation puts into a pickle.
NAMES = [
    *(
        '__array_interface__',
        '__class__',
        '__setstate__',
        '_metadata',
        'storage',
        'cpu',
    ),
    *('|O', 'f8', 'O8', 'latin1', 'punycode', 'int', 'data', 'max_length', ''),
]
GLOBALS = [
    *('builtins getattr', 'builtins eval', 'posix system', 'builtins bytearray'),
    *('builtins set', 'builtins slice', 'builtins list', '_codecs encode'),
    *('collections OrderedDict', 'collections Counter', 'collections defaultdict'),
    *('argparse Namespace', 'uuid UUID', 'decimal Decimal', 'datetime datetime'),
    *('numpy dtype', 'numpy ndarray', 'numpy._core.multiarray scalar'),
    *('numpy._core.multiarray _reconstruct', 'torch Tensor', 'torch FloatStorage'),
    'mmengine.logging.history_buffer HistoryBuffer',
    *('torch.storage UntypedStorage', 'torch Size', 'torch device', 'torch float16'),
    *(f'torch._utils _rebuild_{x}' for x in ('tensor', 'tensor_v2', 'tensor_v3')),
    *(f'torch._utils _rebuild_{x}' for x in ('parameter', 'sparse_tensor', 'qtensor')),
    *(
        'torch._utils _rebuild_meta_tensor_no_storage',
        'torch._utils _rebuild_nested_tensor',
    ),
    *('torch._utils _rebuild_parameter_with_state', 'torch.nn.parameter Parameter'),
    'torch._tensor _rebuild_from_type_v2',
]
#: Instructions without an argument.
INSTRUCTIONS = [
    bytes([x]) for x in b'()]}\x85\x86\x87\x88\x89NRQaebstu\x81.0\x8f\x91\x94'
]
#: The first bytes of instructions with a name, a text, a number or a reference.
VALUES = [b'c', b'X', b'K', b'M', b'J', b'\x8a', b'h']
NUMBERS = [0, 1, 2, 255, 2**31 - 1, -1, -(2**31), 2**62, 2**63, -(2**63), 2**200]


def seeds() -> dict[str, bytes]:
    """Return the files to mutate, by suffix and kind."""
    history = HistoryBuffer([1.0, 2.0], [1, 1])
    content = dict(
        state_dict=OrderedDict(
            weight=torch.nn.Parameter(torch.ones(2, 3)),
            half=torch.ones(4, dtype=torch.float16)[1:],
            sparse=torch.eye(3).to_sparse(),
        ),
        message_hub=dict(log_scalars=dict(loss=history)),
        meta=dict(
            array=np.arange(6.0).reshape(2, 3),
            names=np.array(['road', 'sky']),
            scalar=np.float32(1.5),
            args=argparse.Namespace(lr=0.1),
            options=ConfigDict(a=dict(b=1)),
            values=(pathlib.Path('a/b'), uuid.UUID(int=5), decimal.Decimal('1.5')),
            time=datetime.datetime(2024, 1, 2, tzinfo=datetime.timezone.utc),
            containers=[slice(1, 2), frozenset([1]), defaultdict(list, a=[1]), {2}],
            bytes=b'bytes',
        ),
        optimizer=dict(state={0: dict(step=torch.tensor(3.0))}, param_groups=[{}]),
    )

    def save(value: object, **kwargs: object) -> bytes:
        buffer = io.BytesIO()
        torch.save(value, buffer, **kwargs)
        return buffer.getvalue()

    weights = dict(weight=torch.ones(2, 3), bias=torch.zeros(4))
    label_map = torch.zeros(2, 5, 4, 4, dtype=torch.float16)
    return {
        'archive.pth': save(content),
        'old format.pth': save(content, _use_new_zipfile_serialization=False),
        'protocol 4.pth': save(weights, pickle_protocol=4),
        'weights.safetensors': save_safetensors(weights, metadata=dict(a='b')),
        'label map.pt': save(label_map),
        'old label map.pt': save(label_map, _use_new_zipfile_serialization=False),
    }


class Fuzzer:
    """Mutate files at random.

    Args:
        seed: The seed: the same seed gives the same files.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def mutate(self, name: str, content: bytes) -> bytes:
        """Return a mutated copy of a file of :func:`seeds`."""
        choose = self.random.choice
        if name.endswith('.safetensors'):
            return choose([self.flip, self.cut, self.edit_header])(content)
        if name.startswith('old'):
            return choose([self.flip, self.cut, self.edit_pickles])(content)
        mutations: list[Callable[[bytes], bytes]] = [self.flip, self.cut]
        mutations += [self.edit_members] * 2 + [self.edit_archive] * 6
        return choose(mutations)(content)

    def flip(self, content: bytes) -> bytes:
        """Change a few bytes."""
        data = bytearray(content)
        for _ in range(self.random.randint(1, 8)):
            data[self.random.randrange(len(data))] = self.random.randrange(256)
        return bytes(data)

    def cut(self, content: bytes) -> bytes:
        """Remove a piece, or repeat it."""
        start, end = sorted(self.random.choices(range(len(content) + 1), k=2))
        middle = content[start:end] * self.random.choice([0, 0, 2])
        return content[:start] + middle + content[end:]

    def edit_header(self, content: bytes) -> bytes:
        """Change a value in the header of a .safetensors file."""
        (size,) = struct.unpack('<Q', content[:8])
        header = json.loads(content[8 : 8 + size])
        tensor = self.random.choice([x for x in header if x != '__metadata__'])
        field = self.random.choice(['dtype', 'shape', 'data_offsets', 'other'])
        values = ['F32', 'BOOL', 'F8_E4M3', [], [[]], None, -1, 'a' * 1000]
        values += [[self.number(), self.number()] for _ in range(4)]
        header[tensor][field] = self.random.choice(values)
        text = json.dumps(header).encode()
        claimed = self.random.choice([len(text)] * 4 + [0, 2**63, len(text) + 1])
        return struct.pack('<Q', claimed) + text + content[8 + size :]

    def edit_archive(self, content: bytes) -> bytes:
        """Edit the pickle in an archive."""
        members = read_archive(content)
        name = next(x for x in members if x.endswith('data.pkl'))
        members[name] = self.edit_pickles(members[name])
        return write_archive(members.items())

    def edit_members(self, content: bytes) -> bytes:
        """Edit the members of an archive."""
        members = list(read_archive(content).items())
        index = self.random.randrange(len(members))
        name, data = members[index]
        kind = self.random.choice(['drop', 'twice', 'flip', 'cut', 'rename', 'grow'])
        if kind == 'drop':
            del members[index]
        elif kind == 'twice':
            members.append((name, self.random.choice(members)[1]))
        elif kind == 'rename':
            other = self.random.choice(members)[0]
            members[index] = self.random.choice([other, 'x/constants.pkl', '.']), data
        elif kind == 'grow':
            members[index] = name, data + bytes(self.random.choice([1, 100, 10**7]))
        elif data:
            members[index] = name, (self.flip if kind == 'flip' else self.cut)(data)
        compressed = self.random.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
        return write_archive(members, compressed)

    def edit_pickles(self, content: bytes) -> bytes:
        """Edit instructions of the pickles at the start of a file."""
        stream, pieces = io.BytesIO(content), []
        try:
            while len(pieces) < 5000:
                start = stream.tell()
                pieces += split_pickle(content, stream)
        except Exception:  # the storages of the old format, or the end
            rest = content[start:]
        for _ in range(self.random.choice([1, 1, 2, 4])):
            index = self.random.randrange(len(pieces))
            kind = self.random.choice(
                ['drop', 'twice', 'swap', 'insert', *['like'] * 4]
            )
            if kind == 'drop':
                del pieces[index]
            elif kind == 'twice':
                pieces.insert(index, pieces[index])
            elif kind == 'swap':
                other = self.random.randrange(len(pieces))
                pieces[index], pieces[other] = pieces[other], pieces[index]
            elif kind == 'like':
                same = [i for i, piece in enumerate(pieces) if piece[:1] in VALUES]
                index = self.random.choice(same)
                pieces[index] = self.instruction(pieces[index][:1])
            else:
                pieces.insert(index, self.instruction(b''))
        return b''.join(pieces) + rest

    def number(self) -> int:
        return self.random.choice([*NUMBERS, self.random.randrange(-300, 70000)])

    def instruction(self, like: bytes) -> bytes:
        """Return an instruction, if possible of the kind of another one."""
        kind = like or self.random.choice([b'', b'', b'c', b'X', b'\x8a', b'h', b'q'])
        if kind == b'c':
            return b'c%b\n' % self.random.choice(GLOBALS).replace(' ', '\n').encode()
        if kind == b'X':
            text = self.random.choice(NAMES).encode()
            return b'X' + struct.pack('<I', len(text)) + text
        if kind in (b'h', b'q'):
            return kind + bytes([self.random.randrange(120)])
        if kind:
            data = self.number().to_bytes(40, 'little', signed=True)
            return b'\x8a' + bytes([40]) + data
        return self.random.choice(INSTRUCTIONS)


def split_pickle(content: bytes, stream: io.BytesIO) -> list[bytes]:
    """Return the instructions of a pickle."""
    starts = [position for _, _, position in pickletools.genops(stream)]
    ends = [*starts[1:], stream.tell()]
    return [content[start:end] for start, end in zip(starts, ends, strict=True)]


def read_archive(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_archive(members, compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w', compression) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return buffer.getvalue()

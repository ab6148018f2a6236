"""Rewrite pickles in protocol 2, the only one that ``torch.load`` reads safely."""

import pickle
import struct
from typing import Any

from .pickles import Call, Node

_LATIN1 = b'X\x06\x00\x00\x00latin1'


def to_protocol_2(root: Any) -> bytes:
    """Return a pickle of parsed and checked nodes in protocol 2.

    Args:
        root: The result of the pickle: a node or a constant.
    """
    writer = _Writer()
    writer.write(root)
    return b'\x80\x02' + bytes(writer.output) + b'.'


class _Writer:
    def __init__(self) -> None:
        self.output = bytearray()
        self.memo: dict[int, int] = {}

    def write(self, value: Any) -> None:
        if not isinstance(value, Node):
            self.output += _constant(value)
        elif id(value) in self.memo:
            self.output += b'j' + struct.pack('<I', self.memo[id(value)])
        else:
            if isinstance(value, Call):
                self.write_call(value)
            else:
                self.write_node(value)
            self.memo[id(value)] = len(self.memo)
            self.output += b'r' + struct.pack('<I', self.memo[id(value)])

    def write_node(self, node: Node) -> None:
        match node.kind:
            case 'tuple':
                self.write_all(node.items, b't')
            case 'list':
                self.output += b']'
                self.write_all(node.items, b'e')
            case 'dict':
                self.output += b'}'
                self.write_all(node.items, b'u')
            case 'set' | 'frozenset':
                self.output += _global(f'builtins.{node.kind}') + b']'
                self.write_all(node.items, b'e')
                self.output += b'\x85R'
            case 'global':
                self.output += _global(node.name)
            case 'storage':
                self.write_all(node.items, b't')
                self.output += b'Q'

    def write_call(self, call: Call) -> None:
        self.output += _global(call.name)
        self.write_all(call.items, b't')
        self.output += b'R' if call.kind == 'call' else b'\x81'
        if call.entries:
            self.write_all(call.entries, b'u')
        for state in call.states:
            self.write(state)
            self.output += b'b'

    def write_all(self, values: list[Any], instruction: bytes) -> None:
        self.output += b'('
        for value in values:
            self.write(value)
        self.output += instruction


def _global(name: str) -> bytes:
    module, _, attribute = name.rpartition('.')
    return f'c{module}\n{attribute}\n'.encode()


def _constant(value: Any) -> bytes:
    if value is None:
        return b'N'
    if isinstance(value, bool):
        return b'\x88' if value else b'\x89'
    if isinstance(value, int):
        data = pickle.encode_long(value)
        return b'\x8a' + bytes([len(data)]) + data
    if isinstance(value, float):
        return b'G' + struct.pack('>d', value)
    if isinstance(value, str):
        data = value.encode('utf-8', 'surrogatepass')
        return b'X' + struct.pack('<I', len(data)) + data
    text = _constant(value.decode('latin1'))
    return _global('_codecs.encode') + text + _LATIN1 + b'\x86R'

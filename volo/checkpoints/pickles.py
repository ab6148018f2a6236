"""Parse pickles into inert nodes: nothing in a pickle is imported, called or created.

:mod:`.pickle_checks` decides by the nodes whether ``torch.load`` may read the pickle.
"""

import dataclasses
import pickletools
from typing import IO, Any

from torch._utils import IMPORT_MAPPING, NAME_MAPPING

from .stand_ins import UnsafePickleError

#: Instructions in a pickle. A weight with its EMA and AdamW's state takes about 140.
MAX_INSTRUCTIONS = 2_000_000

#: Containers inside each other.
MAX_DEPTH = 100

_CONSTANTS = {
    *('INT', 'BININT', 'BININT1', 'BININT2', 'LONG', 'LONG1', 'LONG4'),
    *('FLOAT', 'BINFLOAT', 'STRING', 'BINSTRING', 'SHORT_BINSTRING'),
    *('UNICODE', 'SHORT_BINUNICODE', 'BINUNICODE', 'BINUNICODE8'),
    *('SHORT_BINBYTES', 'BINBYTES', 'BINBYTES8'),
}
_LITERALS = {'NONE': None, 'NEWTRUE': True, 'NEWFALSE': False}
_EMPTY = {f'EMPTY_{kind.upper()}': kind for kind in ('tuple', 'list', 'dict', 'set')}
_MARKED = {kind.upper(): kind for kind in ('tuple', 'list', 'dict', 'frozenset')}
_TUPLES = {'TUPLE1': 1, 'TUPLE2': 2, 'TUPLE3': 3}


@dataclasses.dataclass(slots=True, eq=False)
class Node:
    """A container, a name, a call or a storage in a pickle.

    Attributes:
        kind: tuple, list, dict, set, frozenset, global, call, new (a call of
            ``__new__``) or storage.
        items: The elements of a container, where keys and values of a dict alternate;
            the arguments of a call; the fields of a storage in torch's persistent id.
        name: The full name of a global or of what is called.
        depth: How many times tuples are nested in a tuple.
    """

    kind: str
    items: list[Any]
    name: str = ''
    depth: int = 0


@dataclasses.dataclass(slots=True, eq=False)
class Call(Node):
    """A call in a pickle.

    Attributes:
        entries: Alternating keys and values that are set in the result.
        states: What is passed to ``__setstate__`` of the result.
    """

    entries: list[Any] = dataclasses.field(default_factory=list)
    states: list[Any] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Pickle:
    """A parsed pickle.

    Attributes:
        root: The result: a node or a constant.
        protocol: The pickle protocol.
        nodes: All nodes, also those that are not part of the result.
    """

    root: Any
    protocol: int
    nodes: list[Node]


def parse(stream: IO[bytes]) -> Pickle:
    """Parse a pickle of any protocol, up to its end in the stream.

    Raises:
        UnsafePickleError: It has too many instructions or calls what is not a name.
        Exception: Of any type, if it is damaged.
    """
    return _Parser().parse(stream)


class _Parser:
    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.nodes: list[Node] = []

    def push(self, kind: str, items: list[Any], name: str = '') -> None:
        make = Call if kind in ('call', 'new') else Node
        node = make(kind, items, name)
        self.nodes.append(node)
        self.stack.append(node)

    def push_tuple(self, items: list[Any]) -> None:
        """Push a small tuple: one byte of the pickle nests it once more."""
        depth = 1 + max((x.depth for x in items if isinstance(x, Node)), default=0)
        if depth > MAX_DEPTH:
            raise UnsafePickleError(f'it is nested more than {MAX_DEPTH} times')
        self.push('tuple', items)
        self.stack[-1].depth = depth

    def pop(self, count: int) -> list[Any]:
        return [self.stack.pop() for _ in range(count)][::-1]

    def pop_mark(self) -> list[Any]:
        items = self.stack
        self.stack = self.marks.pop()
        return items

    def top(self, kind: str) -> Node:
        node = self.stack[-1]
        if not isinstance(node, Node) or node.kind != kind:
            raise ValueError(f'an instruction needs a {kind}')
        return node

    def top_call(self) -> Call:
        node = self.stack[-1]
        if not isinstance(node, Call):
            raise ValueError('an instruction needs the result of a call')
        return node

    def parse(self, stream: IO[bytes]) -> Pickle:
        protocol: Any = 0
        for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            if count > MAX_INSTRUCTIONS:
                raise UnsafePickleError(
                    f'it has over {MAX_INSTRUCTIONS:,} instructions'
                )
            name = opcode.name
            if name == 'PROTO':
                protocol = argument
            elif name in _CONSTANTS:
                self.stack.append(argument)
            elif name in _LITERALS:
                self.stack.append(_LITERALS[name])
            elif name in _EMPTY:
                self.push(_EMPTY[name], [])
            elif name in _MARKED:
                self.push(_MARKED[name], self.pop_mark())
            elif name in _TUPLES:
                self.push_tuple(self.pop(_TUPLES[name]))
            elif name not in ('FRAME', 'STOP'):
                self.execute(name, argument)
        return Pickle(self.stack.pop(), protocol, self.nodes)

    def execute(self, name: str, argument: Any) -> None:
        """Execute an instruction that depends on the stack or the memo."""
        match name:
            case 'BINPUT' | 'LONG_BINPUT' | 'PUT':
                self.memo[argument] = self.stack[-1]
            case 'MEMOIZE':
                self.memo[len(self.memo)] = self.stack[-1]
            case 'BINGET' | 'LONG_BINGET' | 'GET':
                self.stack.append(self.memo[argument])
            case 'MARK':
                self.marks.append(self.stack)
                self.stack = []
            case 'GLOBAL':
                self.push('global', [], _full_name(*argument.split(' ')))
            case 'STACK_GLOBAL':
                self.push('global', [], '.'.join(self.pop(2)))
            case 'INST':
                items = self.pop_mark()
                self.push('call', items, _full_name(*argument.split(' ')))
            case 'REDUCE' | 'NEWOBJ':
                items = self.top('tuple').items
                self.stack.pop()
                called = self.top('global').name
                self.stack.pop()
                self.push('call' if name == 'REDUCE' else 'new', items, called)
            case 'BUILD':
                state = self.stack.pop()
                self.top_call().states.append(state)
            case 'APPEND':
                items = self.pop(1)
                self.top('list').items.extend(items)
            case 'APPENDS' | 'ADDITEMS':
                items = self.pop_mark()
                self.top('list' if name == 'APPENDS' else 'set').items.extend(items)
            case 'SETITEM' | 'SETITEMS':
                items = self.pop(2) if name == 'SETITEM' else self.pop_mark()
                if isinstance(self.stack[-1], Call):
                    self.top_call().entries.extend(items)
                else:
                    self.top('dict').items.extend(items)
            case 'BINPERSID':
                items = self.top('tuple').items
                self.stack.pop()
                self.push('storage', items)
            case 'POP':
                self.stack.pop()
            case _:
                raise ValueError(f'unsupported instruction {name}')


def _full_name(module: str, name: str) -> str:
    """Return the full name of a global of Python 2 or 3."""
    if (module, name) in NAME_MAPPING:
        module, name = NAME_MAPPING[module, name]
    else:
        module = IMPORT_MAPPING.get(module, module)
    return f'{module}.{name}'

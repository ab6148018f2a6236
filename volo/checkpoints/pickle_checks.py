"""Decide whether ``torch.load`` may read a pickle.

``torch.load(weights_only=True)`` refuses foreign code. But it also lets a file set any
attribute of an OrderedDict, some of which numpy takes as memory addresses, allocate any
number of bytes, and nest without limit. Here a pickle may contain only known calls with
known arguments, in limited size and depth.

``torch.serialization.get_unsafe_globals_in_checkpoint`` cannot replace this: it lists
names without their arguments, and reads pickle protocol 2 only.
"""

import re
from collections.abc import Callable
from typing import Any

import torch

from volo.errors import some

from .pickles import MAX_DEPTH, Call, Node, Pickle
from .stand_ins import CALLABLES, TYPES, UnsafePickleError, stand_in_for_enum

#: Elements of all containers. A shared container counts wherever it is used.
MAX_ELEMENTS = 20_000_000

#: Elements of a tuple that is a key: hashing it takes time for each of them.
MAX_KEY_ELEMENTS = 100

_STORAGE = re.compile(r'torch\.(?:cuda\.|storage\.)?(\w+)Storage')
_ELEMENT_BYTES = {
    **dict(Untyped=1, Bool=1, Byte=1, Char=1, Short=2, Int=4, Long=8),
    **dict(BFloat16=2, Half=2, Float=4, Double=8, ComplexFloat=8, ComplexDouble=16),
}
_TENSOR_TYPES = {'torch.Tensor', 'torch.nn.parameter.Parameter'}


def check(pickle: Pickle) -> dict[str, Callable[..., Any]]:
    """Check that a pickle contains only data.

    Args:
        pickle: The parsed pickle.

    Returns:
        The full names of Enums in the pickle, with stand-ins for them.

    Raises:
        UnsafePickleError: The pickle contains something else, or is too large.
    """
    registered = _registered_names()
    enums = _check_names(pickle, registered)
    callables = registered | CALLABLES.keys() | enums.keys()
    for node in pickle.nodes:
        if isinstance(node, Call):
            _check_call(node, callables)
        elif node.kind == 'storage':
            storage_bytes(node)
    _check_keys(pickle)
    depth, elements = _measure(pickle.root, 0, {})
    if depth > MAX_DEPTH or elements > MAX_ELEMENTS:
        raise UnsafePickleError(
            f'it has {elements:,} elements, nested {depth} times; {MAX_ELEMENTS:,} and '
            f'{MAX_DEPTH} are allowed'
        )
    return enums


def storage_bytes(node: Node) -> tuple[str, int]:
    """Return the key of a storage in the file and its size in bytes.

    Raises:
        UnsafePickleError: The node is not a storage.
    """
    match node.items:
        case [
            'storage',
            Node(kind='global', name=name),
            str(key),
            str(),
            int(numel),
            *_,
        ]:
            kind = _STORAGE.fullmatch(name)
            if kind and kind[1] in _ELEMENT_BYTES and numel >= 0:
                return key, numel * _ELEMENT_BYTES[kind[1]]
    raise UnsafePickleError('it refers to something that is not a storage')


def _registered_names() -> set[str]:
    """Return what this process has registered with ``add_safe_globals``."""
    return {
        entry[1]
        if isinstance(entry, tuple)
        else f'{entry.__module__}.{entry.__qualname__}'
        for entry in torch.serialization.get_safe_globals()
    }


def _check_names(pickle: Pickle, registered: set[str]) -> dict[str, Callable[..., Any]]:
    """Check all full names; return stand-ins for those of Enums."""
    calls: dict[str, list[Call]] = {}
    for node in pickle.nodes:
        if node.name:
            calls.setdefault(node.name, [])
        if isinstance(node, Call):
            calls[node.name].append(node)
    enums, unknown = {}, []
    for name in calls.keys() - registered - CALLABLES.keys() - _TORCH_CALLS.keys():
        if _is_value(name):
            continue
        plain = all(_is_plain_call(node) for node in calls[name])
        enum = stand_in_for_enum(name) if calls[name] and plain else None
        if enum:
            enums[name] = enum
        else:
            unknown.append(name)
    if unknown:
        raise UnsafePickleError(
            f'it would run or import {some(sorted(unknown))}, which weights do not need'
        )
    return enums


def _is_plain_call(node: Call) -> bool:
    """Return whether a call has one constant argument and nothing else."""
    plain = len(node.items) == 1 and not isinstance(node.items[0], Node)
    return plain and node.kind == 'call' and not node.states and not node.entries


def _is_value(name: str) -> bool:
    """Return whether a name is a type of Python or torch that is never called."""
    if name in TYPES or name in _TENSOR_TYPES or _STORAGE.fullmatch(name):
        return True
    return isinstance(getattr(torch, name.removeprefix('torch.'), None), torch.dtype)


def _check_call(node: Call, callables: set[str]) -> None:
    """Check the arguments of a call, and what is set in its result."""
    check = _TORCH_CALLS.get(node.name)
    valid = check(node.items) if check else node.name in callables
    valid = valid and all(_is_state(state) for state in node.states)
    # Setting the state or an element of a tensor would change its memory.
    is_tensor = check and node.name.startswith('torch.')
    valid = valid and not (is_tensor and node.states)
    valid = valid and not (node.entries and node.name not in _DICTS)
    if not valid:
        raise UnsafePickleError(
            f'it passes something to {node.name} that is not plain data'
        )


def _is_state(state: Any) -> bool:
    """Return whether attributes may be set from a state: none with a special meaning.

    numpy, torch and Python read attributes such as ``__array_interface__``.
    """
    if not isinstance(state, Node):
        return state is None
    if state.kind == 'dict':
        return all(type(x) is str and x[:2] != '__' for x in state.items[::2])
    # torch takes a tuple of two as two sets of attributes.
    return state.kind == 'tuple' and (
        len(state.items) != 2 or all(_is_state(item) for item in state.items)
    )


def _any_arguments(_: list[Any]) -> bool:
    return True


def _is_latin1(arguments: list[Any]) -> bool:
    """Return whether text becomes bytes by the codec that pickle uses."""
    text, *codec = arguments
    return type(text) is str and codec in (['latin1'], ['latin-1'])


def _is_bytearray(arguments: list[Any]) -> bool:
    """Return whether a bytearray has a content, not just a size."""
    if len(arguments) == 1:
        content = arguments[0]
        is_bytes = isinstance(content, Node) and content.name == '_codecs.encode'
        return is_bytes or type(content) is bytes
    return not arguments or _is_latin1(arguments)


def _has_state(arguments: list[Any]) -> bool:
    """Return whether the last of four arguments is a state."""
    return len(arguments) == 4 and _is_state(arguments[3])


def _is_tensor_with_state(arguments: list[Any]) -> bool:
    match arguments:
        case [
            Node(kind='global', name=build),
            Node(kind='global', name=kind),
            Node(kind='tuple'),
            state,
        ]:
            return build in _REBUILD and kind in _TENSOR_TYPES and _is_state(state)
    return False


_REBUILD = {
    f'torch._utils._rebuild_{what}'
    for what in ('tensor', 'tensor_v2', 'tensor_v3', 'parameter')
}

_DICTS = {
    'collections.OrderedDict',
    'collections.Counter',
    'collections.defaultdict',
    'mmengine.config.config.ConfigDict',
}

_HASHING = {
    'builtins.set',
    'builtins.frozenset',
    'collections.Counter',
    'collections.OrderedDict',
}

#: Name in a pickle that torch.load calls -> a check of the arguments.
_TORCH_CALLS: dict[str, Callable[[list[Any]], bool]] = {
    **dict.fromkeys(_REBUILD, _any_arguments),
    'torch._utils._rebuild_meta_tensor_no_storage': _any_arguments,
    'torch._utils._rebuild_sparse_tensor': _any_arguments,
    'torch._utils._rebuild_parameter_with_state': _has_state,
    'torch._tensor._rebuild_from_type_v2': _is_tensor_with_state,
    'torch.serialization._get_layout': _any_arguments,
    'torch.Size': _any_arguments,
    'torch.device': _any_arguments,
    'collections.OrderedDict': _any_arguments,
    'collections.Counter': _any_arguments,
    'builtins.set': _any_arguments,
    'builtins.complex': _any_arguments,
    'builtins.bytearray': _is_bytearray,
    '_codecs.encode': _is_latin1,
}


def _check_keys(pickle: Pickle) -> None:
    """Check that everything that is hashed takes little time to hash."""
    elements: dict[int, int] = {}  # a tuple is parsed after its elements
    for node in pickle.nodes:
        if node.kind == 'tuple':
            elements[id(node)] = 1 + sum(elements.get(id(x), 1) for x in node.items)
    for node in pickle.nodes:
        for key in _hashed(node):
            long = isinstance(key, int) and key.bit_length() > 64
            if long or elements.get(id(key), 1) > MAX_KEY_ELEMENTS:
                raise UnsafePickleError('it has a key that is too large')


def _hashed(node: Node) -> list[Any]:
    """Return what is hashed when a node is created."""
    if node.kind == 'dict':
        return node.items[::2]
    if node.kind in ('set', 'frozenset'):
        return node.items
    if not isinstance(node, Call):
        return []
    hashed = node.entries[::2]
    for argument in node.items if node.name in _HASHING else ():
        items = argument.items if isinstance(argument, Node) else []
        if node.name == 'collections.OrderedDict':  # pairs of keys and values
            items = [
                x for pair in items if isinstance(pair, Node) for x in pair.items[:1]
            ]
        hashed += items
    return hashed


def _measure(
    value: Any, depth: int, known: dict[int, tuple[int, int]]
) -> tuple[int, int]:
    """Return how deep a value is nested and its number of elements."""
    if not isinstance(value, Node):
        return 0, 1
    if depth > MAX_DEPTH:  # or it contains itself
        raise UnsafePickleError(f'it is nested more than {MAX_DEPTH} times')
    if id(value) not in known:
        items = value.items
        if isinstance(value, Call):
            items = [*value.items, *value.entries, *value.states]
        inner = [_measure(item, depth + 1, known) for item in items]
        known[id(value)] = (
            1 + max((depth for depth, _ in inner), default=0),
            1 + sum(elements for _, elements in inner),
        )
    return known[id(value)]

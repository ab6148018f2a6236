"""What a pickled checkpoint may contain beside tensors, rebuilt as plain data.

The original classes cannot be used: ``numpy.ndarray(shape, 'O', data)`` turns bytes of
the file into pointers to Python objects, HistoryBuffer replaces its methods with those
in the file, and ``getattr``, which pickles these methods, reaches any object. Stand-ins
accept only arguments of the types that the original class pickles.
"""

import argparse
import datetime
import decimal
import enum
import importlib.util
import math
import os
import pathlib
import re
import sys
import uuid
from collections.abc import Callable
from typing import Any

import numpy as np
from mmengine.logging import HistoryBuffer


class UnsafePickleError(Exception):
    """A pickle contains something that is not data; the text says what."""


def _require(condition: bool, name: str) -> None:
    if not condition:
        raise UnsafePickleError(f'it passes something to {name} that is not plain data')


class _Dtype:
    """Stand-in for ``numpy.dtype``: booleans, numbers and strings."""

    def __init__(self, code: str, align: bool = False, copy: bool = False) -> None:
        known = r'b1|[iu][1248]|f[248]|c8|c16|[SU]\d{1,4}'
        valid = type(code) is str and re.fullmatch(known, code) is not None
        _require(valid, 'numpy.dtype')
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple) -> None:
        # The code above has set the rest of the state already.
        if state[1] in ('<', '>'):
            self.dtype = self.dtype.newbyteorder(state[1])


class _Array(np.ndarray):
    """Stand-in for ``numpy.ndarray``. It is saved as an ordinary array."""

    def __new__(cls, *_: object) -> '_Array':
        return super().__new__(cls, 0)

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, is_fortran, data = state
        _require(
            type(dtype) is _Dtype
            and type(shape) is tuple
            and all(type(size) is int and size >= 0 for size in shape)
            and type(data) is bytes
            and len(data) == math.prod(shape) * dtype.dtype.itemsize,
            'numpy.ndarray',
        )
        own: Any = (1, shape, dtype.dtype, bool(is_fortran), data)
        super().__setstate__(own)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.view(np.ndarray).__reduce_ex__(protocol)


def _rebuild_array(*_: object) -> _Array:
    return _Array()


def _rebuild_scalar(dtype: Any, data: Any) -> Any:
    valid = type(dtype) is _Dtype and type(data) is bytes
    valid = valid and len(data) == dtype.dtype.itemsize > 0
    _require(valid, 'numpy.scalar')
    return np.frombuffer(data, dtype.dtype)[0]


class _History(HistoryBuffer):
    """Stand-in for ``HistoryBuffer``, which becomes one without the file's methods."""

    def __init__(self) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        self.max_length = int(state['max_length'])
        self._log_history = _as_numbers(state['_log_history'])
        self._count_history = _as_numbers(state['_count_history'])
        self._set_default_statistics()
        self.__class__ = HistoryBuffer


def _as_numbers(values: Any) -> np.ndarray:
    """Return an array that this module rebuilt, or a list of numbers, as an array."""
    if type(values) is list:
        valid = all(isinstance(x, (int, float, np.number)) for x in values)
        _require(valid, 'HistoryBuffer')
        return np.array(values, dtype=np.float64)
    _require(type(values) is _Array and values.dtype.kind in 'biuf', 'HistoryBuffer')
    return values


def _name_statistic(owner: object, name: str) -> str:
    """Stand-in for ``getattr``, which pickles the methods of a HistoryBuffer."""
    _require(owner is _History and type(name) is str, 'getattr')
    return name


def _no_bytes(*_: object) -> bytes:
    """Stand-in for ``bytes``, which protocol 2 calls for the data of empty arrays."""
    return b''


class _UUID(uuid.UUID):
    """Stand-in for ``uuid.UUID``, which becomes one."""

    __slots__ = ()

    def __init__(self) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        value = state['int']
        _require(type(value) is int and 0 <= value < 1 << 128, 'uuid.UUID')
        object.__setattr__(self, 'int', value)
        object.__setattr__(self, 'is_safe', uuid.SafeUUID.unknown)
        object.__setattr__(self, '__class__', uuid.UUID)


def _checked(build: Callable[..., Any], *types: type) -> Callable[..., Any]:
    """Return a function that calls ``build`` with arguments of the given types only."""

    def rebuild(*arguments: Any) -> Any:
        _require(all(type(x) in types for x in arguments), build.__name__)
        return build(*arguments)

    return rebuild


def _checked_date(kind: Any) -> Callable[..., Any]:
    """Return a function that rebuilds a date or time and checks its fields."""
    rebuild = _checked(kind, bytes, datetime.timezone, type(None))
    # The constructor accepts any month of 31 days from bytes; replace() does not.
    return lambda *arguments: rebuild(*arguments).replace()


def _plain_dict(content: Any = None) -> Any:
    """Stand-in for ``defaultdict`` and mmengine's ``ConfigDict``."""
    return content if type(content) is dict else {}


def _rebuild_member(kind: Any) -> Callable[[Any], Any]:
    """Return a function that finds a member of a loaded Enum without calling it."""

    def rebuild(value: Any) -> Any:
        for member in kind.__members__.values():
            if type(member.value) is type(value) and member.value == value:
                return member
        return value

    return rebuild


def stand_in_for_enum(name: str) -> Callable[[Any], Any] | None:
    """Return a stand-in for a class that may be an Enum, without importing anything.

    Args:
        name: The full name of a class that a pickle calls with one plain value.

    Returns:
        A function of that value: it returns the member of an Enum that is loaded, or
        the value itself if the class does not exist here. None for other classes.
    """
    module, _, attribute = name.rpartition('.')
    package = module.partition('.')[0]
    if not attribute[:1].isupper() or not package.isidentifier():
        return None
    if module in sys.modules:
        found = vars(sys.modules[module]).get(attribute)
        if isinstance(found, enum.EnumMeta):
            return _rebuild_member(found)
        exists = found is not None
    else:
        exists = package in sys.modules or importlib.util.find_spec(package) is not None
    return None if exists else lambda value: value


def _paths() -> dict[str, Callable[..., Any]]:
    posix, windows = pathlib.PurePosixPath, pathlib.PureWindowsPath
    own = pathlib.Path  # paths of the other system cannot be instantiated
    kinds = dict(
        PosixPath=own if os.name == 'posix' else posix,
        WindowsPath=own if os.name == 'nt' else windows,
        PurePosixPath=posix,
        PureWindowsPath=windows,
    )
    return {
        f'{module}.{name}': _checked(kind, str)
        for module in ('pathlib', 'pathlib._local')  # Python 3.13
        for name, kind in kinds.items()
    }


#: Name in a pickle -> what is called in its place.
CALLABLES: dict[str, Callable[..., Any]] = {
    'numpy.dtype': _Dtype,
    'numpy.ndarray': _Array,
    # numpy 2 renamed numpy.core.
    **{f'numpy.{x}.multiarray._reconstruct': _rebuild_array for x in ('core', '_core')},
    **{f'numpy.{x}.multiarray.scalar': _rebuild_scalar for x in ('core', '_core')},
    'mmengine.logging.history_buffer.HistoryBuffer': _History,
    'mmengine.config.config.ConfigDict': _plain_dict,
    'builtins.getattr': _name_statistic,
    'builtins.bytes': _no_bytes,
    'builtins.slice': _checked(slice, int, type(None)),
    'builtins.range': _checked(range, int),
    'builtins.frozenset': _checked(frozenset, list),
    'collections.defaultdict': _plain_dict,
    'decimal.Decimal': _checked(decimal.Decimal, str),
    'uuid.UUID': _UUID,
    # timm's training script saves its options.
    'argparse.Namespace': argparse.Namespace,
    **_paths(),
    'datetime.date': _checked_date(datetime.date),
    'datetime.time': _checked_date(datetime.time),
    'datetime.datetime': _checked_date(datetime.datetime),
    'datetime.timedelta': _checked(datetime.timedelta, int),
    'datetime.timezone': _checked(datetime.timezone, datetime.timedelta, str),
}

#: Names of types that may appear in a pickle as values, but are never called.
TYPES: dict[str, type] = {
    f'builtins.{kind.__name__}': kind
    for kind in (bool, int, float, str, tuple, list, dict)
}

"""Types that may stand in a pickled checkpoint beside tensors, as plain data."""

import argparse
import pickle
import re
from collections.abc import Callable
from typing import Any, SupportsIndex

import numpy as np
from mmengine.logging import HistoryBuffer


class _Dtype:
    """Stands in for numpy's dtype: bools, numbers and strings only."""

    def __init__(self, code: str, align: bool = False, copy: bool = False) -> None:
        if not re.fullmatch(r'b1|[iu][1248]|f[248]|c8|c16|[SU]\d{1,4}', str(code)):
            raise pickle.UnpicklingError(
                f'GLOBAL numpy.dtype({code!r}) was not an allowed'
            )
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple) -> None:
        # The rest of the state is what the code says already, or a forgery.
        if state[1] in ('<', '>'):
            self.dtype = self.dtype.newbyteorder(state[1])


class _Array(np.ndarray):
    """Stands in for numpy's array; equal to it, and saved as it."""

    def __new__(cls, *_: Any) -> '_Array':
        return super().__new__(cls, 0)

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, is_fortran, data = state
        own: Any = (1, shape, dtype.dtype, bool(is_fortran), data)
        super().__setstate__(own)

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        return self.view(np.ndarray).__reduce_ex__(protocol)


class _History(HistoryBuffer):
    """Stands in for HistoryBuffer, and becomes one without its file's methods."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.max_length = state['max_length']
        self._log_history = np.asarray(state['_log_history'])
        self._count_history = np.asarray(state['_count_history'])
        self._set_default_statistics()
        self.__class__ = HistoryBuffer


def _rebuild_array(*_: Any) -> _Array:
    return _Array()


def _rebuild_scalar(dtype: _Dtype, data: bytes) -> np.generic:
    return np.frombuffer(data, dtype.dtype, count=1)[0]


def _no_bytes(*_: Any) -> bytes:
    """Stand in for bytes, which protocol 2 calls for the data of empty arrays."""
    return b''


def _name_statistic(owner: type, name: str) -> str:
    """Stand in for getattr, by which a HistoryBuffer's own methods are written."""
    if owner is not _History:
        raise pickle.UnpicklingError('GLOBAL getattr was not an allowed')
    return name


def _under_both_names(module: str, name: str, target: Callable) -> list[tuple]:
    # numpy 2 renamed numpy.core; files of both are around.
    return [(target, f'numpy.{core}.{module}.{name}') for core in ('core', '_core')]


#: Each type that a Runner's checkpoint holds beside tensors and plain types, replaced
#: by one that can only hold data. The real ones are unsafe: numpy.ndarray(shape, 'O',
#: bytes) makes Python objects of bytes in the file, HistoryBuffer replaces its methods
#: by the file's, and getattr, by which those are written, reaches anything.
ALLOWED: list[tuple[Callable, str]] = [
    (_Dtype, 'numpy.dtype'),
    (_Array, 'numpy.ndarray'),
    *_under_both_names('multiarray', '_reconstruct', _rebuild_array),
    *_under_both_names('multiarray', 'scalar', _rebuild_scalar),
    (_History, 'mmengine.logging.history_buffer.HistoryBuffer'),
    (_name_statistic, 'builtins.getattr'),
    (_no_bytes, 'builtins.bytes'),
    # The options that timm's training script saves.
    (argparse.Namespace, 'argparse.Namespace'),
]

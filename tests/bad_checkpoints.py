"""Broken and malicious checkpoints, and what the error must say about them."""

import argparse
import codecs
import os
import pickle
import signal
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

from volo.errors import CheckpointError

WEIGHTS = dict(weight=torch.ones(2, 3))

#: Exit status of :func:`run_in_child`.
REFUSED = 3

#: Kind of file -> a pattern that its error matches.
BROKEN = {
    'missing': 'does not exist',
    'folder': 'is a folder',
    'empty': r'0 bytes',
    'text': 'not a checkpoint',
    'web page': 'a web page',
    'truncated': 'cut short',
    'truncated, old format': 'cut short',
    'truncated safetensors': 'cut short',
    'archive': 'an archive',
    'torchscript': 'TorchScript',
    'no tensors': 'the keys epoch, lr',
    'a list': 'a list',
}

#: Kind of file -> the global that its error must name.
MALICIOUS = {
    'torch.save': 'posix.system',
    'torch.save, old format': 'posix.system',
    'torch.save, protocol 4': 'posix.system',
    'pickle 0': 'posix.system',
    'pickle 2': 'posix.system',
    'pickle 5': 'posix.system',
    'eval': 'eval',
    'getattr': 'getattr',
    'partial': 'functools.partial',
    'module': 'torch.nn.modules.linear.Linear',
    'numpy objects': 'numpy.dtype',
}


class Call:
    """An object that pickles as a call of a function, and a state for the result."""

    def __init__(self, function, *args, state=None):
        self.call = function, args, state

    def __reduce__(self):
        return self.call


def with_interface(owner: Any, kind: str, data: Any) -> Any:
    """Return an object that numpy takes for an array in memory.

    Args:
        owner: An object whose attributes can be set.
        kind: Type of the elements, such as ``'<f8'``.
        data: Address of the elements and whether they are read-only, or bytes.
    """
    interface = dict(data=data, typestr=kind, shape=(8,), version=3)
    vars(owner)['__array_interface__'] = interface
    return owner


def history(*args: Any, **state: Any) -> Call:
    """Return what pickles as a HistoryBuffer with other content."""
    state = dict(max_length=1, _count_history=[1.0], **state) if state else None
    return Call(HistoryBuffer, *args, state=state)


_ADDRESS = '<f8', (0x10000, False)
_POINTERS = '|O', b'\x10' * 64


#: Kind of file -> a function that makes something for it that reads foreign memory or
#: takes hours or gigabytes.
HARMFUL = {
    'address in a Namespace': lambda: history(
        _log_history=with_interface(argparse.Namespace(), *_ADDRESS)
    ),
    'address in an OrderedDict': lambda: history(
        _log_history=with_interface(OrderedDict(), *_ADDRESS)
    ),
    'address in a list': lambda: history(
        _log_history=[with_interface(OrderedDict(), *_ADDRESS)]
    ),
    'address in an argument': lambda: history(
        with_interface(argparse.Namespace(), *_ADDRESS)
    ),
    'address in the options': lambda: with_interface(argparse.Namespace(), *_ADDRESS),
    'pointers in a Namespace': lambda: history(
        _log_history=with_interface(argparse.Namespace(), *_POINTERS)
    ),
    'pointers in an OrderedDict': lambda: history(
        _log_history=with_interface(OrderedDict(), *_POINTERS)
    ),
    'index outside of a sparse tensor': lambda: Call(
        torch._utils._rebuild_sparse_tensor,
        torch.sparse_coo,
        (torch.tensor([[10**9]]), torch.ones(1), (3,), True),
    ),
    'size of a bytearray': lambda: Call(bytearray, 3_000_000_000),
    'slow codec': lambda: Call(codecs.encode, '\xe9' * 3_000_000, 'punycode'),
    'size of a tensor': lambda: Call(
        torch._utils._rebuild_tensor, torch.ones(1).storage(), 0, (10**9,), (1,)
    ),
    'attributes of a tensor': lambda: Call(
        torch._utils._rebuild_parameter_with_state,
        *(torch.ones(1), False, OrderedDict(), dict(__class__=1)),
    ),
}


class NumpyBinaryObject:
    """An object that pickles as an array whose object pointers are in the file."""

    def __reduce__(self):
        return np.ndarray, ((1,), 'O', b'\x10' * 8)


def run_in_child(function: Callable[[], object], seconds: int = 60) -> int:
    """Call a function in a forked process.

    Args:
        function: What to call.
        seconds: After so long the process is killed.

    Returns:
        0; REFUSED if the function raised a CheckpointError; 1 for another error; -N
        if signal N ended the process.
    """
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            signal.alarm(seconds)
            function()
            status = 0
        except CheckpointError:
            status = REFUSED
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def make_broken(kind: str, folder: Path) -> Path:
    """Write a file of a kind in BROKEN."""
    name = 'x.safetensors' if 'safetensors' in kind else 'x.pth'
    path = folder / name
    if kind == 'folder':
        path.mkdir()
    elif kind == 'empty':
        path.touch()
    elif kind == 'text':
        path.write_text('version 1\nsome notes, not weights\n')
    elif kind == 'web page':
        path.write_text('<!DOCTYPE html><html>Sign in to download</html>')
    elif kind == 'archive':
        with path.open('wb') as file:
            np.savez(file, weight=np.ones(3))
    elif kind == 'torchscript':
        torch.jit.script(torch.nn.Linear(2, 2)).save(path)
    elif kind == 'no tensors':
        torch.save(dict(epoch=1, lr=[0.1, 0.2]), path)
    elif kind == 'a list':
        torch.save([1, 2, 3], path)
    elif kind.startswith('truncated'):
        if path.suffix == '.safetensors':
            from safetensors.torch import save_file

            save_file(WEIGHTS, path)
        else:
            new = 'old' not in kind
            torch.save(WEIGHTS, path, _use_new_zipfile_serialization=new)
        path.write_bytes(path.read_bytes()[:-10])
    return path


def make_malicious(kind: str, folder: Path) -> tuple[Path, Path]:
    """Write a file of a kind in MALICIOUS; return it and the file it would create."""
    path, canary = folder / 'x.pth', folder / 'canary'
    make_canary = f'open({str(canary)!r}, "w").close()'
    evil = Call(os.system, f'touch {canary}')
    if kind == 'eval':
        evil = Call(eval, make_canary)
    elif kind == 'getattr':
        evil = Call(getattr, 'text', 'upper')
    elif kind == 'partial':
        import functools

        evil = Call(functools.partial, 'text', 'upper')
    elif kind == 'module':
        evil = torch.nn.Linear(1, 1)
    elif kind == 'numpy objects':
        evil = np.array([{}], dtype=object)
    content = dict(meta=evil, state_dict=WEIGHTS)
    if kind.startswith('pickle'):
        path.write_bytes(pickle.dumps(content, protocol=int(kind[-1])))
    else:
        torch.save(
            content,
            path,
            pickle_protocol=4 if '4' in kind else 2,
            _use_new_zipfile_serialization='old' not in kind,
        )
    return path, canary


def with_malicious_configs(checkpoint: dict[str, Any], canary: Path) -> dict[str, Any]:
    """Put a config that creates a file wherever mmengine looks for one to run."""
    text = f'open({str(canary)!r}, "w").close()\n'
    hub = dict(log_scalars={}, runtime_info={}, resumed_keys={})
    hub = {**hub, **checkpoint.get('message_hub', {})}
    hub['runtime_info'] = {**hub['runtime_info'], 'cfg': text}
    hub['resumed_keys'] = {**hub['resumed_keys'], 'cfg': True}
    meta = {**checkpoint.get('meta', {}), 'cfg': text, 'config': text}
    return {**checkpoint, 'meta': meta, 'message_hub': hub}

"""Read checkpoint files without executing code from them.

``torch.load`` without ``weights_only`` executes any code that a file contains, and
mmengine falls back to that with a warning. Here a file may contain tensors, plain
Python types and what an mmengine Runner writes. All other files are refused, unless
:data:`.trust.TRUST_VARIABLE` is set.
"""

import io
import logging
import os
import pickle
import pickletools
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log
from safetensors import SafetensorError, safe_open

from volo.errors import CheckpointError, some

from .fetching import locate
from .stand_ins import ALLOWED
from .trust import TRUST_VARIABLE, is_trusted

#: Where trainers keep the weights and the averaged weights (EMA).
WEIGHT_KEYS: tuple[str, ...] = ('state_dict', 'model')
EMA_KEYS: tuple[str, ...] = ('state_dict_ema', 'model_ema', 'ema_state_dict')


def read_checkpoint(
    path: str | os.PathLike, map_location: Any = 'cpu'
) -> dict[str, Any]:
    """Read a whole checkpoint: weights, meta, optimizer and everything else.

    Args:
        path: A ``.pth``, ``.pt``, ``.pth.tar`` or ``.safetensors`` file, or its URL
            with its SHA-256, as in :func:`volo.checkpoints.fetching.locate`.
        map_location: As in ``torch.load``.

    Returns:
        The checkpoint as it was saved. For a ``.safetensors`` file, its metadata as
        ``meta`` and its tensors as ``state_dict``.

    Raises:
        CheckpointError: The file is missing, empty, damaged, not a checkpoint, without
            tensors, or contains code; or it cannot be downloaded.
    """
    path = locate(path)
    if path.is_dir():
        raise CheckpointError(f'{path} is a folder: name a checkpoint file in it')
    if not path.exists():
        raise CheckpointError(f'{path} does not exist: check the path')
    try:
        if path.stat().st_size == 0:
            raise CheckpointError(f'{path} is empty (0 bytes): fetch it again')
        if path.suffix == '.safetensors':
            checkpoint = _read_safetensors(path, map_location)
        else:
            checkpoint = _read_pickle(path, map_location)
    except OSError as error:
        raise CheckpointError(
            f'{path} cannot be read: {error.strerror or error}'
        ) from error
    if not isinstance(checkpoint, dict) or not _holds_tensor(checkpoint):
        raise CheckpointError(
            f'{path} holds no weights, but {_describe(checkpoint)}: name a checkpoint '
            'that was saved from a model'
        )
    return checkpoint


def read_weights(
    path: str | os.PathLike, use_ema: bool = False
) -> dict[str, torch.Tensor]:
    """Read the weights of the model from a checkpoint.

    Args:
        path: As in :func:`read_checkpoint`.
        use_ema: Return the averaged weights (EMA). Files of mmengine's ``EMAHook``
            give the same weights either way: their main weights are the averaged
            ones.

    Returns:
        Names and tensors on the CPU, in the layout of the file, without ``module.``.

    Raises:
        CheckpointError: As in :func:`read_checkpoint`, or the file has no such weights.
    """
    return select_weights(read_checkpoint(path), str(path), use_ema)


def select_weights(
    checkpoint: Mapping[str, Any], source: str, use_ema: bool = False
) -> dict[str, torch.Tensor]:
    """Return the weights of the model in a checkpoint.

    Args:
        checkpoint: A flat dict of tensors, or a dict that has such a dict under one
            of :data:`WEIGHT_KEYS` or :data:`EMA_KEYS`.
        source: The name of the checkpoint in error messages.
        use_ema: As in :func:`read_weights`.

    Returns:
        Names and tensors, without the ``module.`` of wrapped models.

    Raises:
        CheckpointError: There are no such weights.
    """
    # EMAHook swaps the two when it saves: its ema_state_dict, recognized by the number
    # of averaging steps, holds the weights that were *not* averaged.
    swapped = 'steps' in (checkpoint.get('ema_state_dict') or ())
    keys = EMA_KEYS if use_ema and not swapped else WEIGHT_KEYS
    found = [key for key in keys if isinstance(checkpoint.get(key), Mapping)]
    if found:
        weights = checkpoint[found[0]]
    elif not use_ema:
        weights = checkpoint
    else:
        raise CheckpointError(
            f'{source} holds no averaged weights (EMA): it has '
            f'{_describe(checkpoint)}. Use its plain weights instead'
        )
    if not weights or not all(isinstance(v, torch.Tensor) for v in weights.values()):
        raise CheckpointError(
            f'{source} holds no weights under {" or ".join(keys)}, but '
            f'{_describe(checkpoint)}: save the model as dict(state_dict=...)'
        )
    names = [re.sub(r'^(module\.)+', '', name) for name in weights]
    if len(set(names)) < len(names):
        raise CheckpointError(
            f'{source} holds the same weights twice, with and without "module.": '
            'save one set of them'
        )
    return dict(zip(names, weights.values(), strict=True))


def _describe(checkpoint: Any) -> str:
    """Return what was found where weights were expected."""
    if not isinstance(checkpoint, Mapping):
        return f'a {type(checkpoint).__name__}'
    return f'the keys {some(checkpoint, 6)}' if checkpoint else 'an empty dict'


def _holds_tensor(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_holds_tensor(item) for item in value.values())
    if isinstance(value, (list, tuple)):
        return any(_holds_tensor(item) for item in value)
    return isinstance(value, torch.Tensor)


def _read_safetensors(path: Path, map_location: Any) -> dict[str, Any]:
    # Functions and dicts remap the devices in a pickle: they do not apply here.
    known = isinstance(map_location, (str, torch.device))
    try:
        with safe_open(path, 'pt', device=str(map_location) if known else 'cpu') as f:
            tensors = {name: f.get_tensor(name) for name in f.keys()}
            return dict(meta=f.metadata() or {}, state_dict=tensors)
    except SafetensorError as error:
        raise CheckpointError(
            f'{path} is damaged, cut short or no .safetensors file ({error}): '
            'fetch it again'
        ) from error


def _read_pickle(path: Path, map_location: Any) -> Any:
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals([*ALLOWED]):
            # About pickle protocols and TorchScript: the errors below say it.
            warnings.simplefilter('ignore', UserWarning)
            return torch.load(path, map_location=map_location, weights_only=True)
    except OSError:
        raise
    except pickle.UnpicklingError as error:
        reason = _why_refused(path, str(error))
        if not reason:
            raise CheckpointError(_explain_damage(path, error)) from error
        if not is_trusted():
            # Without the cause: torch's own text advises to open it unsafely.
            raise CheckpointError(
                f'{path} was refused, and nothing in it was run: {reason}. Get the '
                f'weights as .safetensors; {TRUST_VARIABLE}=1 opens the file all the '
                'same, if you trust whoever made it'
            ) from None
    # A pickle that is broken off or no pickle at all can fail with anything.
    except Exception as error:
        raise CheckpointError(_explain_damage(path, error)) from error
    print_log(
        f'{path} is opened because {TRUST_VARIABLE}=1 says so, although {reason}',
        logger='current',
        level=logging.WARNING,
    )
    return torch.load(path, map_location=map_location, weights_only=False)


def _explain_damage(path: Path, error: Exception) -> str:
    """Say what is wrong with a file that could not be opened for what it is."""
    with path.open('rb') as file:
        start = file.read(64)
    if start.startswith(b'PK'):
        if zipfile.is_zipfile(path):
            return (
                f'{path} is an archive, but not one of weights (TorchScript, perhaps): '
                'name a file saved by torch.save(model.state_dict(), ...)'
            )
    elif not start.startswith(b'\x80'):
        looks = 'a web page' if start.lstrip().startswith(b'<') else 'something else'
        return (
            f'{path} is not a checkpoint but {looks}: name a .pth, .pt, .pth.tar or '
            '.safetensors file'
        )
    # torch puts advice before and after the reason.
    reason = str(error).rpartition('WeightsUnpickler error:')[2].strip()
    reason = reason.partition('\n')[0].partition('. ')[0] or type(error).__name__
    return (
        f'{path} is damaged or cut short ({reason}): compare its size with the '
        'original and fetch it again'
    )


def _why_refused(path: Path, message: str) -> str:
    """Name what a refused pickle would have run; empty if it is merely broken."""
    named = re.search(r'GLOBAL (\S+) (?:was not an allowed|whose module)', message)
    if named:
        names = [named[1]]
    elif 'Unsupported operand' in message:
        # torch's safe reader knows protocol 2 only: look for the names ourselves.
        allowed = {name for _, name in ALLOWED} - {'builtins.getattr'}
        allowed |= {'collections.OrderedDict', '_codecs.encode'}
        tensors = re.compile(r'torch\.(_utils\._rebuild|\w*Storage|storage\.)')
        found = _named_globals(path)
        names = [x for x in found if x not in allowed and not tensors.match(x)]
        if found and not names:
            return 'it is pickled by another protocol than torch.save uses'
    else:
        names = []
    if not names:
        return ''
    return f'it would run or import {", ".join(names)}, which weights do not need'


def _named_globals(path: Path) -> list[str]:
    """List the globals in a file's pickles, by reading them and not running them."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            members = [name for name in archive.namelist() if name.endswith('data.pkl')]
            stream = io.BytesIO(b''.join(archive.read(name) for name in members))
    else:
        stream = io.BytesIO(path.read_bytes())
    try:
        return list(dict.fromkeys(_iter_globals(stream)))
    except Exception:  # broken off: pickletools raises all kinds of errors
        return []


def _iter_globals(stream: io.BytesIO) -> Iterator[str]:
    memo: list[Any] = []
    pushed: list[Any] = ['', '']
    argument: Any
    for opcode, argument, _ in pickletools.genops(stream):
        if opcode.name in ('GLOBAL', 'INST'):
            yield argument.replace(' ', '.')
        elif opcode.name == 'STACK_GLOBAL':
            yield '.'.join(str(part) for part in pushed[-2:])
        elif opcode.name == 'MEMOIZE':
            memo.append(pushed[-1])
        elif opcode.name in ('BINGET', 'LONG_BINGET'):
            pushed.append(memo[argument] if argument < len(memo) else '')
        elif 'UNICODE' in opcode.name:
            pushed.append(argument)
        elif opcode.stack_after:
            pushed.append('')

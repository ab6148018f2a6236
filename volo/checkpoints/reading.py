"""Read checkpoint files without executing code from them.

``torch.load`` without ``weights_only`` executes any code that a file contains, and
mmengine falls back to that with a warning. Here a file may contain tensors, plain
Python types and what an mmengine Runner writes. All other files are refused, unless
:data:`.trust.TRUST_VARIABLE` is set.
"""

import logging
import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from mmengine.logging import print_log
from safetensors import SafetensorError, safe_open

from volo.errors import CheckpointError, some

from .archives import OtherFileError, prepare
from .fetching import open_checkpoint
from .stand_ins import UnsafePickleError
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
    path, file = open_checkpoint(path)
    with file:
        try:
            if path.suffix == '.safetensors':
                checkpoint = _read_safetensors(path, file, map_location)
            else:
                checkpoint = _read_pickle(path, file, map_location)
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
    averaged = checkpoint.get('ema_state_dict')
    swapped = isinstance(averaged, Mapping) and 'steps' in averaged
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
    valid = all(
        isinstance(name, str) and isinstance(value, torch.Tensor)
        for name, value in weights.items()
    )
    if not weights or not valid:
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


def _holds_tensor(checkpoint: Any) -> bool:
    pending, seen = [checkpoint], set()
    while pending:
        value = pending.pop()
        if isinstance(value, torch.Tensor):
            return True
        if isinstance(value, (Mapping, list, tuple)) and id(value) not in seen:
            seen.add(id(value))
            pending += value.values() if isinstance(value, Mapping) else value
    return False


def _read_safetensors(path: Path, file: BinaryIO, map_location: Any) -> dict[str, Any]:
    # The file that is open, even if the path is another one by now.
    descriptor = f'/dev/fd/{file.fileno()}'
    name = descriptor if os.path.exists(descriptor) else path
    # Functions and dicts remap the devices in a pickle: they do not apply here.
    known = isinstance(map_location, (str, torch.device))
    try:
        with safe_open(name, 'pt', device=str(map_location) if known else 'cpu') as f:
            tensors = {name: f.get_tensor(name) for name in f.keys()}
            return dict(meta=f.metadata() or {}, state_dict=tensors)
    except SafetensorError as error:
        raise CheckpointError(
            f'{path} is damaged, cut short or no .safetensors file ({error}): '
            'fetch it again'
        ) from error


def _read_pickle(path: Path, file: BinaryIO, map_location: Any) -> Any:
    try:
        source, stand_ins = prepare(file)
        with (
            warnings.catch_warnings(),
            torch.serialization.safe_globals(stand_ins),
            # A sparse tensor may have indices outside of its shape.
            torch.sparse.check_sparse_tensor_invariants(),
        ):
            # About storages and pickle protocols, which do not concern the user.
            warnings.simplefilter('ignore', UserWarning)
            return torch.load(
                source, map_location=map_location, weights_only=True, mmap=False
            )
    except OSError:
        raise
    except UnsafePickleError as error:
        reason = str(error)
    except OtherFileError as error:
        raise CheckpointError(
            f'{path} is {error}: name a file saved by torch.save(model.state_dict(), '
            '...)'
        ) from None
    # A damaged pickle can fail with anything. torch's own text, in the cause, would
    # advise to read the file unsafely.
    except Exception as error:
        raise CheckpointError(_explain_damage(path, file, error)) from None
    if not is_trusted():
        raise CheckpointError(
            f'{path} was refused, and nothing in it was run: {reason}. Get the weights '
            f'as .safetensors; {TRUST_VARIABLE}=1 opens the file anyway, if you trust '
            'whoever made it'
        )
    print_log(
        f'{path} is opened because {TRUST_VARIABLE}=1 is set, although {reason}',
        logger='current',
        level=logging.WARNING,
    )
    file.seek(0)
    return torch.load(file, map_location=map_location, weights_only=False)


def _explain_damage(path: Path, file: BinaryIO, error: Exception) -> str:
    """Return what is wrong with a file that could not be read."""
    file.seek(0)
    start = file.read(64)
    if not start.startswith((b'PK', b'\x80')):
        looks = 'a web page' if start.lstrip().startswith(b'<') else 'something else'
        return (
            f'{path} is not a checkpoint but {looks}: name a .pth, .pt, .pth.tar or '
            '.safetensors file'
        )
    reason = str(error).rpartition('WeightsUnpickler error:')[2].strip()
    reason = reason.partition('\n')[0].partition('. ')[0]
    if not reason or 'weights_only' in reason:
        reason = type(error).__name__
    return (
        f'{path} is damaged or cut short ({reason}): compare its size with the '
        'original and fetch it again'
    )

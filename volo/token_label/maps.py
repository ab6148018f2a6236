"""Label maps: an annotator's best classes in every cell of a grid over an image.

The published format (Token Labeling, arXiv 2104.10858) is one ``.pt`` file per image,
``<root>/<class folder>/<stem>.pt``: a tensor (2, k, h, w) with the k best raw scores of
every cell, then their class indices. The published maps are float16 with k, h, w = 5,
18, 18.
"""

import dataclasses
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from volo.checkpoints.archives import prepare
from volo.datasets.checks import special_file
from volo.errors import DataError, MissingLabelMapError
from volo.files import describe_write_error, write_atomically

#: float16 holds all integers below this number; larger class indices need float32.
MAX_CLASSES_IN_FLOAT16 = 2048


@dataclasses.dataclass(frozen=True)
class LabelMap:
    """The k best classes of every cell of a grid over the whole image.

    Attributes:
        scores: Raw scores (logits), floating point, shape (k, h, w). Every class that
            is not listed counts as score 0.
        classes: Class indices, integer, shape (k, h, w).
    """

    scores: np.ndarray
    classes: np.ndarray


def label_key(image: str | Path, root: str | Path) -> str:
    """Return the key of an image's label map: its path below ``root``, no suffix.

    Raises:
        DataError: The image is not below ``root``.
    """
    # Path.relative_to takes thirty times as long, for every image loaded.
    path, folder = os.path.normpath(image), os.path.normpath(root)
    prefix = '' if folder == '.' else os.path.join(folder, '')
    if not path.startswith(prefix):
        raise DataError(
            f'{image} is not below {root}, so its label map has no name. Set the '
            "dataset's img_path prefix to a folder that holds all images"
        )
    return os.path.splitext(path[len(prefix) :])[0].replace(os.sep, '/')


def read_label_map(path: str | Path) -> LabelMap:
    """Read a ``.pt`` file of the published format, of any k, h and w.

    Code inside the file is never executed.

    Raises:
        MissingLabelMapError: The file does not exist.
        DataError: The file is broken or is not a label map.
    """
    special = special_file(path)
    if special:
        raise DataError(f'{path}: not a label map: {special}. Put a file there')
    try:
        with open(path, 'rb') as file:
            checked, _ = prepare(file)
            tensor = torch.load(checked, map_location='cpu', weights_only=True)
    except FileNotFoundError:
        raise MissingLabelMapError(
            f'{path}: no such label map. Make it with tools/generate_token_labels.py'
        ) from None
    except Exception as error:  # broken files raise anything
        reason = f'{type(error).__name__}: {error}'.partition('\n')[0]
        raise DataError(
            f'{path}: broken label map ({reason}). Restore the file or make it again'
        ) from error
    if not isinstance(tensor, torch.Tensor):
        raise DataError(
            f'{path}: not a label map: a {type(tensor).__name__}, not a tensor'
        )
    if tensor.layout != torch.strided or tensor.is_nested or tensor.is_meta:
        raise DataError(
            f'{path}: a label map is a dense tensor, not a sparse, nested or meta one. '
            'Save tensor.to_dense()'
        )
    if tensor.ndim != 4 or tensor.shape[0] != 2 or 0 in tensor.shape:
        raise DataError(
            f'{path}: a label map has shape (2, k, h, w): the k best scores of every '
            f'cell, then their classes; this one has {tuple(tensor.shape)}'
        )
    if tensor.dtype not in (torch.float16, torch.float32, torch.float64):
        raise DataError(
            f'{path}: a label map is float16 or float32, not {tensor.dtype}'
        )
    # A few bytes may claim to be a map of any size.
    if tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
        raise DataError(
            f'{path}: the tensor is expanded: it has fewer values than elements. Save '
            'tensor.contiguous()'
        )
    scores, indices = tensor.detach().resolve_neg().numpy()
    with np.errstate(invalid='ignore'):  # NaN is found below
        classes = indices.astype(np.int32)
    if not np.isfinite(scores).all():
        raise DataError(f'{path}: a score is not finite. Make the label map again')
    if (classes != indices).any() or classes.min() < 0:
        raise DataError(f'{path}: class indices must be whole numbers from 0 on')
    return LabelMap(scores, classes)


def write_label_map(path: str | Path, label_map: LabelMap) -> None:
    """Write a ``.pt`` file of the published format atomically.

    The file is float16 as published, or float32 if a class index needs it.

    Raises:
        DataError: A score is not finite, or the file cannot be written.
    """
    exact = label_map.classes.max() < MAX_CLASSES_IN_FLOAT16
    dtype = np.float16 if exact else np.float32
    with np.errstate(over='ignore'):
        scores = label_map.scores.astype(dtype)
    if not np.isfinite(scores).all():
        raise DataError(
            f'{path}: a score is not finite in {scores.dtype}. Check the weights of '
            'the annotator'
        )
    tensor = np.stack([scores, label_map.classes.astype(dtype)])
    content = io.BytesIO()
    torch.save(torch.from_numpy(tensor), content)
    try:
        # Waiting for the disk takes longer than annotating the image.
        write_atomically(path, content.getvalue(), durable=False)
    except OSError as error:
        raise DataError(describe_write_error(path, error)) from error


class Writer(Protocol):
    """Write label maps, into a folder or a packed store.

    Attributes:
        root: The folder or store.
    """

    root: Path

    def missing(self) -> list[str]:
        """Return the keys of all maps that are not written yet, sorted."""

    def write(self, key: str, label_map: LabelMap) -> None:
        """Write one map."""

    def flush(self) -> None:
        """Bring everything written so far to disk."""

    def finish(self) -> object:
        """Complete the store, after all processes have called :meth:`flush`."""


class LabelMapFolder:
    """Read a folder of ``.pt`` files, one per image.

    Args:
        root: The folder; the map of a key is ``<root>/<key>.pt``.

    Raises:
        DataError: The folder does not exist.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise DataError(
                f'{root}: no such folder of label maps. Make one with '
                'tools/generate_token_labels.py'
            )

    def read(self, key: str) -> LabelMap:
        """Read one map.

        Args:
            key: From :func:`label_key`.

        Raises:
            MissingLabelMapError: The folder has no such map.
            DataError: The map is broken.
        """
        return read_label_map(self.path(key))

    def path(self, key: str) -> str:
        """Return the file of a map. The file may not exist."""
        return f'{self.root}/{key}.pt'

    def keys(self) -> Iterator[str]:
        """Yield the key of every map, in arbitrary order."""
        for folder, _, files in os.walk(self.root):
            for name in files:
                if name.endswith('.pt') and not name.startswith('.'):
                    yield label_key(os.path.join(folder, name), self.root)

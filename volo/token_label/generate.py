"""From a folder of pictures and an annotator to a store of label maps."""

import dataclasses
import datetime
import os
import re
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from mmengine.dist import all_reduce, barrier, get_dist_info
from PIL import Image, ImageOps
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress
from timm.data import ImageNetInfo
from torch.utils.data import DataLoader, Dataset

from volo.errors import ConfigError, DataError

from .annotator import Annotator, Preprocess, top_k
from .maps import (
    LabelMap,
    LabelMapFolder,
    label_key,
    read_label_map,
    write_label_map,
)
from .packed import is_packed
from .packed_writer import PackedWriter

SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff', '.ppm', '.pgm')


class Writer(Protocol):
    """What label maps are written with."""

    def missing(self) -> list[str]:
        """Return the keys of all maps that are not written yet, sorted."""

    def write(self, key: str, label_map: LabelMap) -> None:
        """Write one map."""

    def flush(self) -> None:
        """Bring to the disk what was written so far."""


class FolderWriter:
    """Write one ``.pt`` file a picture, and keep those that are there.

    Args:
        root: The folder, made if missing.
        keys: The names of all maps.
        shape: (k, h, w) of every map.

    Raises:
        DataError: The folder cannot be made, or holds something else.
    """

    def __init__(
        self, root: str | Path, keys: Sequence[str], shape: tuple[int, int, int]
    ) -> None:
        try:
            Path(root).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f'{root} cannot be made: {error}') from error
        if is_packed(root):
            raise DataError(
                f'{root} is a packed store: give --packed to go on with it, or name '
                'another folder'
            )
        self._folder = LabelMapFolder(root)
        there = set(self._folder.keys())
        self._missing = [key for key in sorted(keys) if key not in there]
        kept = next((key for key in keys if key in there), None)
        if kept:
            path = self._folder.path(kept)
            found = read_label_map(path).scores.shape
            if found != shape:
                raise DataError(
                    f'{path} has shape {found} (k, h, w), not {shape}. Give the same '
                    'options as then, or name another folder'
                )

    def missing(self) -> list[str]:
        """Return the keys of all maps that were not there at the start, sorted."""
        return self._missing

    def write(self, key: str, label_map: LabelMap) -> None:
        """Write one map.

        Raises:
            DataError: It cannot be written.
        """
        write_label_map(self._folder.path(key), label_map)

    def flush(self) -> None:
        """Do nothing: every file is written whole."""


class Pictures(Dataset):
    """Pictures of a folder, as an annotator takes them.

    Args:
        paths: Files.
        preprocess: Of the annotator.
    """

    def __init__(self, paths: Sequence[str], preprocess: Preprocess) -> None:
        self.paths = paths
        self.preprocess = preprocess

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[int, torch.Tensor]:
        return index, self.preprocess(read_picture(self.paths[index]))


def read_picture(path: str | Path) -> Image.Image:
    """Read a picture as RGB, turned upright as training has it.

    Raises:
        DataError: It cannot be read.
    """
    try:
        with warnings.catch_warnings(), Image.open(path) as picture:
            # About EXIF data that is cut short, as some in ImageNet is.
            warnings.simplefilter('ignore', UserWarning)
            return ImageOps.exif_transpose(picture).convert('RGB')
    # SyntaxError is what Pillow raises for some broken PNGs.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = 'not a picture' if 'cannot identify' in str(error) else str(error)
        raise DataError(
            f'{path}: broken picture ({reason}). Restore the file or remove it, then '
            'run the same command again'
        ) from error


def find_pictures(root: str | Path) -> dict[str, str]:
    """Find all pictures below a folder.

    Returns:
        Keys of their label maps, sorted, and their files.

    Raises:
        DataError: There is no folder or no picture, or two would have one label map.
    """
    if not Path(root).is_dir():
        raise DataError(f'{root}: no such folder of pictures')
    found: dict[str, str] = {}
    for folder, _, names in os.walk(root, followlinks=True):
        for name in names:
            if not name.lower().endswith(SUFFIXES) or name.startswith('.'):
                continue
            path = os.path.join(folder, name)
            key = label_key(path, root)
            if key in found:
                raise DataError(
                    f'{found[key]} and {path} would have the same label map: rename '
                    'or remove one'
                )
            found[key] = path
    if not found:
        raise DataError(f'{root}: no pictures found ({", ".join(SUFFIXES)})')
    return dict(sorted(found.items()))


def number_classes(keys: Sequence[str], num_classes: int) -> dict[str, int] | str:
    """Tell which class of an annotator each class folder is.

    Args:
        keys: Of all pictures; what is before the first ``/`` is the class.
        num_classes: Of the annotator.

    Returns:
        The folders and their classes; or why that is not known.
    """
    if not all('/' in key for key in keys):
        return 'the pictures are not in class folders'
    folders = sorted({key.partition('/')[0] for key in keys})
    if num_classes == 1000 and all(re.fullmatch(r'n\d{8}', name) for name in folders):
        numbers = {wnid: i for i, wnid in enumerate(ImageNetInfo().label_names())}
        if numbers.keys() >= set(folders):
            return {name: numbers[name] for name in folders}
    if len(folders) == num_classes:
        return {name: i for i, name in enumerate(folders)}
    return f'{len(folders)} class folders, but the annotator has {num_classes} classes'


@dataclasses.dataclass(frozen=True)
class Report:
    """What was done, by all processes together.

    Attributes:
        total: Maps in the store.
        new: Those of this run.
        shape: (k, h, w) of a map.
        out: The store.
        correct: New pictures whose class the annotator finds.
        unknown: Why ``correct`` means nothing; '' if it does.
    """

    total: int
    new: int
    shape: tuple[int, int, int]
    out: Path
    correct: int
    unknown: str

    def __str__(self) -> str:
        k, h, w = self.shape
        top_1 = (
            f'not known: {self.unknown}'
            if self.unknown
            else f'{self.correct / self.new:.2%} of the {self.new} new'
        )
        return (
            f'{self.out}: {self.total} label maps ({self.new} new) of {h} x {w} cells, '
            f"{k} classes each; annotator's top-1: {top_1}"
        )


def join_processes(launcher: str, device: str | None = None) -> torch.device:
    """Join the other processes that ``torchrun`` started, and choose the device.

    Args:
        launcher: ``none`` or ``pytorch``.
        device: As in ``torch.device``; None: a GPU if there is one.

    Raises:
        ConfigError: There is no such device, or ``torchrun`` did not start this.
    """
    device = device or ('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        chosen = torch.device(device)
        if chosen.type == 'cuda' and launcher != 'none' and chosen.index is None:
            chosen = torch.device('cuda', int(os.environ.get('LOCAL_RANK', 0)))
            # Or the loader's pinned memory would occupy the first GPU for all.
            torch.cuda.set_device(chosen)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition('\n')[0]
        raise ConfigError(f'--device {device} cannot be used: {reason}') from error
    if launcher != 'none':
        missing = [name for name in ('RANK', 'WORLD_SIZE') if name not in os.environ]
        if missing:
            raise ConfigError(
                f'--launcher {launcher}: {" and ".join(missing)} not in the '
                'environment; start with torchrun'
            )
        # On GPUs too: all that is exchanged is three numbers. While rank 0 verifies
        # a large store, the others wait.
        torch.distributed.init_process_group(
            'gloo', timeout=datetime.timedelta(hours=12)
        )
    return chosen


def generate_label_maps(
    annotator: Annotator,
    pictures: str | Path,
    out: str | Path,
    *,
    k: int = 5,
    batch_size: int = 64,
    workers: int = 2,
    packed: bool = False,
) -> Report:
    """Write a label map for every picture of a folder that has none yet.

    Interrupted, the same call goes on where it stopped. Processes that have joined
    (:func:`join_processes`) share the work; all of them make this call.

    Args:
        annotator: Gives the scores.
        pictures: ``<class>/<name>.jpg`` or ``<name>.jpg`` below it.
        out: ``<key>.pt`` files below it, or the packed store.
        k: Classes kept for each cell.
        batch_size: Pictures a batch, for each process.
        workers: Processes that load pictures, for each process.
        packed: Write a packed store.

    Raises:
        ConfigError: The annotator has no k classes.
        DataError: A picture is broken, a score does not fit into float16, or ``out``
            cannot be written or holds something else.
    """
    paths = find_pictures(pictures)
    keys = list(paths)
    if not 1 <= k <= annotator.num_classes:
        raise ConfigError(f'--top-k {k}: from 1 to {annotator.num_classes} can be kept')
    shape = (k, *annotator.grid)
    rank, world_size = get_dist_info()
    writer: Writer
    if packed:
        if rank == 0:
            writer = PackedWriter.create(out, keys, shape, annotator.num_classes)
        barrier()
        if rank > 0:
            writer = PackedWriter.open(out)
    else:
        writer = FolderWriter(out, keys, shape)
    missing = writer.missing()
    barrier()  # Nothing is written before all ranks know what is missing.

    classes = number_classes(keys, annotator.num_classes)
    counts = Counter()
    share = missing[rank::world_size]
    loader = DataLoader(
        Pictures([paths[key] for key in share], annotator.preprocess),
        batch_size=batch_size,
        num_workers=min(workers, len(share)),
        pin_memory=annotator.device.type == 'cuda',
    )
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=rank > 0) as bar:
        name = (
            f'label maps, 1 of {world_size} parts' if world_size > 1 else 'label maps'
        )
        task = bar.add_task(name, total=len(share))
        try:
            for indices, batch in loader:
                scores, logits = annotator(batch.to(annotator.device))
                best = logits.argmax(1).tolist()
                for index, label_map, found in zip(
                    indices.tolist(), top_k(scores, k), best, strict=True
                ):
                    key = share[index]
                    _check_range(label_map, key)
                    writer.write(key, label_map)
                    counts['new'] += 1
                    if not isinstance(classes, str):
                        counts['correct'] += found == classes[key.partition('/')[0]]
                bar.advance(task, len(batch))
        finally:
            writer.flush()
    new, correct = _sum_over_ranks(counts['new'], counts['correct'])
    if packed and rank == 0:
        writer.finish()
    unknown = classes if isinstance(classes, str) else ''
    if not new:
        unknown = 'no picture was annotated in this run'
    return Report(len(keys), new, shape, Path(out), correct, unknown)


def _check_range(label_map: LabelMap, key: str) -> None:
    highest = torch.finfo(torch.float16).max
    # Not-a-number compares as false.
    if not (abs(label_map.scores) <= highest).all():
        raise DataError(
            f'{key}: the annotator gives a score that is not finite in float16, in '
            'which label maps are kept. Are its weights and --input-size right?'
        )


def _sum_over_ranks(*values: int) -> list[int]:
    total = torch.tensor(values)
    all_reduce(total)
    return total.tolist()

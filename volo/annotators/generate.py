"""From a folder of images and an annotator to a store of label maps."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from mmengine.dist import all_reduce, barrier, get_dist_info
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress
from torch.utils.data import DataLoader

from volo.errors import ConfigError, DataError
from volo.token_label.maps import LabelMap, Writer

from .annotator import Annotator, top_k
from .images import Images, find_images, number_classes


@dataclasses.dataclass(frozen=True)
class Report:
    """The work of all processes together.

    Attributes:
        total: Number of maps.
        new: Number of maps written in this run.
        shape: (k, h, w) of a map.
        out: The folder or packed store.
        correct: New images whose class is the annotator's best.
        unknown: Why ``correct`` is not known, or ''.
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


def generate_label_maps(
    annotator: Annotator,
    images: str | Path,
    open_writer: Callable[[Sequence[str], tuple[int, int, int]], Writer],
    *,
    k: int = 5,
    batch_size: int = 64,
    workers: int = 2,
    upright: bool = False,
) -> Report:
    """Write a label map for every image of a folder that has none yet.

    After an interruption the same call continues. Joined processes
    (:func:`volo.engine.launch.join_processes`) share the work: all of them make this
    call.

    Args:
        annotator: Scores the images.
        images: Folder of ``<class>/<name>.jpg`` or ``<name>.jpg``.
        open_writer: Opens the writer of the maps, given their keys and their shape
            (k, h, w). Called by the main process first, then by all others.
        k: Classes to keep for each cell.
        batch_size: Images per process and batch.
        workers: Loading processes per process.
        upright: Rotate images as EXIF says. Must be as in the pipeline of the training,
            see :func:`volo.annotators.images.read_image`.

    Raises:
        ConfigError: The annotator has fewer than k classes.
        DataError: An image is broken, a score does not fit into float16, or the maps
            cannot be written.
    """
    paths = find_images(images)
    keys = list(paths)
    if not 1 <= k <= annotator.num_classes:
        raise ConfigError(
            f'--top-k {k}: give a number from 1 to {annotator.num_classes}'
        )
    shape = (k, *annotator.grid)
    rank, world_size = get_dist_info()
    if rank == 0:
        writer = open_writer(keys, shape)
    barrier()
    if rank > 0:
        writer = open_writer(keys, shape)
    missing = writer.missing()
    barrier()  # All ranks must know what is missing before any of them writes.

    classes = number_classes(keys, annotator.num_classes)
    counts: Counter[str] = Counter()
    share = missing[rank::world_size]
    loader = DataLoader(
        Images([paths[key] for key in share], annotator.preprocess, upright),
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
    if rank == 0:
        writer.finish()
    unknown = classes if isinstance(classes, str) else ''
    if not new:
        unknown = 'no image was annotated in this run'
    return Report(len(keys), new, shape, writer.root, correct, unknown)


def _check_range(label_map: LabelMap, key: str) -> None:
    highest = torch.finfo(torch.float16).max
    # NaN compares as false.
    if not (abs(label_map.scores) <= highest).all():
        raise DataError(
            f'{key}: a score of the annotator is not finite in float16, the type of '
            "label maps. Check the annotator's weights and --input-size"
        )


def _sum_over_ranks(*values: int) -> list[int]:
    total = torch.tensor(values)
    all_reduce(total)
    return total.tolist()

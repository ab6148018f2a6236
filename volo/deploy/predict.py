"""From sources to predictions on disk, shared by processes and resumable."""

import contextlib
import dataclasses
import json
import os
import time
from collections.abc import Iterator, Sequence
from typing import Any

from mmengine.dist import (
    all_gather_object,
    barrier,
    broadcast_object_list,
    get_dist_info,
)

from volo.engine.folder_lock import FolderLock
from volo.errors import ConfigError, some
from volo.files import describe_write_error, write_atomically

from .predict_outputs import OutputError, OutputOptions, Outputs
from .predict_records import check_settings, merge_parts, remove_partial_files
from .predict_run import Run, RunOptions, printable
from .predictions import Predictor
from .sources import Item, find_items, name_outputs

#: The file that names what could not be read.
FAILURES_NAME = 'failures.jsonl'


@dataclasses.dataclass(frozen=True)
class Report:
    """The work of all processes together.

    Attributes:
        folder: Folder of the outputs.
        total: Number of images and videos.
        todo: Number of those that earlier runs had not finished.
        images: Number of images and frames that were predicted.
        failures: What could not be read, and why.
        seconds: Time of the run.
    """

    folder: str
    total: int
    todo: int
    images: int
    failures: list[tuple[str, str]]
    seconds: float

    def __str__(self) -> str:
        done = self.todo - len(self.failures)
        text = f'{self.folder}: {done} of {self.total} images and videos predicted'
        if self.todo < self.total:
            text += f', {self.total - self.todo} were already complete'
        if self.images:
            text += f' ({self.images / self.seconds:.1f} images/s)'
        if self.failures:
            names = some(os.path.basename(path) for path, _ in self.failures)
            text += f'. {len(self.failures)} could not be read: {names}'
        return printable(text)


def predict_sources(
    predictor: Predictor,
    sources: Sequence[str],
    outputs: OutputOptions,
    options: RunOptions,
) -> Report:
    """Predict all images and videos of sources that are not complete yet.

    Joined processes (:func:`volo.engine.launch.join_processes`) share the work: all of
    them make this call. After an interruption the same call continues.

    Args:
        predictor: The model.
        sources: As in :func:`volo.deploy.sources.find_items`.
        outputs: What to write.
        options: How to work.

    Returns:
        What was done. Files that cannot be read are listed there.

    Raises:
        ConfigError: The folder is in use, or has predictions of another model.
        DataError: A source does not exist or is empty.
        OutputError: An output cannot be written.
    """
    rank, world_size = get_dist_info()
    writer = Outputs(predictor, outputs)
    start = time.perf_counter()
    with _lock(outputs) if rank == 0 else contextlib.nullcontext():
        plan: list[Any] = [None, None]
        if rank == 0:
            plan = list(_plan(predictor, sources, writer, options))
        broadcast_object_list(plan)
        todo, order = plan
        run = Run(predictor, writer, options)
        run.predict(todo[rank::world_size])
        counts = all_gather_object((run.images, run.failures))
        failures = [failure for _, found in counts for failure in found]
        if rank == 0:
            with _readable_write_errors(outputs):
                merge_parts(outputs.folder, writer.keys, order)
                _write_failures(outputs, failures)
        barrier()
    return Report(
        str(outputs.folder),
        len(order),
        len(todo),
        sum(images for images, _ in counts),
        failures,
        time.perf_counter() - start,
    )


def _plan(
    predictor: Predictor,
    sources: Sequence[str],
    writer: Outputs,
    options: RunOptions,
) -> tuple[list[Item], list[str]]:
    """Return what is left to do, and the order of all sources."""
    folder = writer.options.folder
    items = find_items(sources, skip=folder)
    with _readable_write_errors(writer.options):
        frames = {'choice of --max-frames': str(options.max_frames)}
        check_settings(folder, predictor.settings | frames)
        remove_partial_files(folder)
        finished = merge_parts(folder, writer.keys)
    taken = {name: source for source, name in finished.items()}
    # A camera never shows the same again.
    left = [i for i in items if i.kind == 'camera' or i.source not in finished]
    todo = name_outputs(left, taken)
    named = {item.path: item for item in todo}
    return todo, [named.get(item.path, item).source for item in items]


@contextlib.contextmanager
def _lock(outputs: OutputOptions) -> Iterator[None]:
    """Lock the folder of the outputs, so that two runs do not share it."""
    with _readable_write_errors(outputs):
        outputs.folder.mkdir(parents=True, exist_ok=True)
    with FolderLock() as lock:
        try:
            lock.acquire(outputs.folder)
        except ConfigError as error:
            raise ConfigError(
                f'{outputs.folder} is in use by another run, or cannot be written. '
                'Wait until that ends, or choose another folder with --out'
            ) from error
        yield


@contextlib.contextmanager
def _readable_write_errors(outputs: OutputOptions) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        path = error.filename or outputs.folder
        raise OutputError(describe_write_error(path, error)) from error


def _write_failures(
    outputs: OutputOptions, failures: Sequence[tuple[str, str]]
) -> None:
    """Write what could not be read, or remove the file of an earlier run."""
    path = outputs.folder / FAILURES_NAME
    lines = [
        json.dumps({'source': s, 'error': reason}) + '\n' for s, reason in failures
    ]
    if lines:
        write_atomically(path, ''.join(lines).encode())
    else:
        path.unlink(missing_ok=True)

"""The work of one process: images are read, predicted and written side by side."""

import dataclasses
import os
from collections import deque
from collections.abc import Hashable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from mmengine.dist import get_dist_info
from PIL import Image
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from volo.errors import DataError
from volo.files import describe_write_error

from .predict_outputs import OutputError, Outputs
from .predict_records import Part
from .predict_video import predict_video
from .predictions import Predictor, Sample
from .sources import Item


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """How the work is done.

    Attributes:
        batch_size: Images per process and batch, at most.
        workers: Threads per process that read and write images.
        memory: Bytes that a batch may take, estimated.
        max_frames: Frames to predict of a video or a camera. None: all.
    """

    batch_size: int = 8
    workers: int = 2
    memory: float = 2e9
    max_frames: int | None = None


class Run:
    """Predicts the items of one process.

    Args:
        predictor: The model.
        outputs: Writes the predictions.
        options: How to work.

    Attributes:
        images: Number of images and frames that were predicted.
        failures: What could not be read, and why.
    """

    def __init__(
        self, predictor: Predictor, outputs: Outputs, options: RunOptions
    ) -> None:
        self.images = 0
        self.failures: list[tuple[str, str]] = []
        self._predictor = predictor
        self._outputs = outputs
        self._options = options
        self._rank, self._world_size = get_dist_info()
        self._part = Part(outputs.options.folder, self._rank)
        self._console = Console(stderr=True)
        self._progress = Progress(
            TextColumn('{task.description}', markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            _SpeedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=self._rank > 0,
        )

    def predict(self, items: Sequence[Item]) -> None:
        """Predict all items.

        Raises:
            OutputError: An output cannot be written.
        """
        images = [item for item in items if item.kind == 'image']
        try:
            with self._progress:
                if images:
                    self._predict_images(images)
                for item in items:
                    if item.kind != 'image':
                        self._predict_video(item)
        finally:
            self._part.close()

    def _add_task(self, name: str, total: int | None) -> TaskID:
        if self._world_size > 1:
            name += f', 1 of {self._world_size} parts'
        return self._progress.add_task(name, total=total)

    def _predict_images(self, items: Sequence[Item]) -> None:
        task = self._add_task('images', len(items))
        writing: deque[Future[dict[str, Any]]] = deque()

        def finish(most: int) -> None:
            """Wait until at most so many images are being written."""
            while len(writing) > most:
                self._record(writing.popleft().result())
                self.images += 1
                self._progress.advance(task)

        with ThreadPoolExecutor(self._options.workers) as pool:
            for batch in self._batches(items, task):
                predictions = self._predictor.predict([sample for _, sample in batch])
                for (item, sample), prediction in zip(batch, predictions, strict=True):
                    writing.append(
                        pool.submit(
                            self._outputs.write_image, item, sample.image, prediction
                        )
                    )
                # An image that is large by itself is not kept while the next one runs.
                large = batch[0][1].bytes > self._options.memory
                finish(most=0 if large else 2 * self._options.workers)
            finish(most=0)

    def _batches(
        self, items: Sequence[Item], task: TaskID
    ) -> Iterator[list[tuple[Item, Sample]]]:
        """Read images and yield those that fit into one batch together."""
        groups: dict[Hashable, list[tuple[Item, Sample]]] = {}
        for item, sample in self._load_ahead(items):
            if isinstance(sample, DataError):
                self._fail(item, sample)
                self._progress.advance(task)
                continue
            group = groups.setdefault(sample.batch_key, [])
            group.append((item, sample))
            limit = sample.batch_limit(self._options.batch_size, self._options.memory)
            if len(group) >= limit:
                yield groups.pop(sample.batch_key)
            elif sum(map(len, groups.values())) > 2 * self._options.batch_size:
                # Images of many sizes: do not wait for a full batch.
                yield groups.pop(max(groups, key=lambda key: len(groups[key])))
        yield from groups.values()

    def _load_ahead(
        self, items: Sequence[Item]
    ) -> Iterator[tuple[Item, Sample | DataError]]:
        """Yield images in order, while threads read the next ones.

        They read as many as one batch has, or fewer if those are large.
        """
        waiting: deque[tuple[Item, Future[Sample], int]] = deque()
        ahead = iter(items)
        item = next(ahead, None)
        with ThreadPoolExecutor(self._options.workers) as pool:
            while waiting or item:
                while item and len(waiting) <= self._options.batch_size:
                    size = _loaded_bytes(item.path)
                    loaded = sum(other for _, _, other in waiting)
                    if waiting and loaded + size > self._options.memory / 4:
                        break
                    future = pool.submit(self._predictor.load, Path(item.path))
                    waiting.append((item, future, size))
                    item = next(ahead, None)
                first, future, _ = waiting.popleft()
                try:
                    yield first, future.result()
                except DataError as error:
                    yield first, error

    def _predict_video(self, item: Item) -> None:
        task = self._add_task(os.path.basename(item.name), self._options.max_frames)

        def advance(frames: int, total: int | None) -> None:
            self.images += frames
            self._progress.update(task, advance=frames, total=total)

        try:
            record = predict_video(
                self._predictor,
                item,
                self._outputs,
                self._options.max_frames,
                self._options.batch_size,
                self._options.memory,
                advance,
            )
        except OutputError:
            raise
        except DataError as error:
            self._progress.remove_task(task)
            self._fail(item, error)
            return
        self._record(record)
        if 'error' in record:
            self._fail(item, DataError(record['error']))

    def _record(self, record: dict[str, Any]) -> None:
        try:
            self._part.add(record)
        except OSError as error:
            folder = self._outputs.options.folder
            raise OutputError(describe_write_error(folder, error)) from error

    def _fail(self, item: Item, error: DataError) -> None:
        self.failures.append((item.source, str(error)))
        text = printable(f'{item.source}: {error}')
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def printable(text: str) -> str:
    """Replace what cannot be printed: names of files may not be text."""
    return text.encode(errors='replace').decode()


class _SpeedColumn(ProgressColumn):
    """Images per second."""

    def render(self, task: Task) -> Text:
        seconds = task.finished_time or task.elapsed
        speed = task.completed / seconds if seconds else 0
        return Text(f'{speed:.1f} images/s')


def _loaded_bytes(path: str) -> int:
    """Estimate what a loaded image takes: as it is drawn, and as an input."""
    try:
        if not os.path.isfile(path):  # opening a FIFO would block
            return 0
        with Image.open(path) as image:
            return image.width * image.height * 8
    except Exception:  # whoever reads the file says what is wrong
        return 0

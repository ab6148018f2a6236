"""Prediction on the frames of a video or a camera."""

import contextlib
import itertools
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from PIL import Image

from volo.errors import ConfigError, DataError
from volo.files import atomic_path, describe_write_error

from .predict_outputs import OutputError, Outputs
from .predictions import Classification, Predictor, Sample, Segmentation
from .sources import Item

#: Frames per second of an overlay whose source does not tell its own.
_DEFAULT_RATE = 25.0


class Video:
    """The frames of a video or a camera.

    Args:
        item: The video or the camera.

    Raises:
        DataError: It cannot be opened.
    """

    def __init__(self, item: Item) -> None:
        # FFmpeg's messages name no file; the errors of this class do.
        os.environ.setdefault('OPENCV_FFMPEG_LOGLEVEL', '-8')
        camera = item.kind == 'camera'
        self._capture = cv2.VideoCapture(int(item.path) if camera else item.path)
        if not self._capture.isOpened():
            raise DataError(
                'the camera cannot be opened'
                if camera
                else 'the video cannot be decoded (unknown format or broken file)'
            )
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        #: Frames per second.
        self.rate = rate if 0 < rate <= 1000 else _DEFAULT_RATE
        count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        #: Number of frames that the file promises, None if it does not.
        self.promised = count if count > 0 and not camera else None

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield the frames, RGB, uint8 (H, W, 3)."""
        try:
            while True:
                found, frame = self._capture.read()
                if not found:
                    return
                yield np.ascontiguousarray(frame[..., ::-1])
        finally:
            self._capture.release()


def predict_video(
    predictor: Predictor,
    item: Item,
    outputs: Outputs,
    most: int | None,
    batch_size: int,
    memory: float,
    advance: Callable[[int, int | None], None],
) -> dict[str, Any]:
    """Predict every frame, and write all outputs of a video.

    A camera runs until it ends, until ``most`` frames, or until it is interrupted.

    Args:
        predictor: The model.
        item: A video or a camera.
        outputs: Writes masks and draws overlays.
        most: Largest number of frames. None: all.
        batch_size: Frames per batch.
        memory: Bytes that a batch may take.
        advance: Called after each frame with 1 and the number of all frames, if known.

    Returns:
        The JSON line of the video. Where it breaks off early, ``error`` says so.

    Raises:
        DataError: The video cannot be decoded.
        OutputError: An output cannot be written.
    """
    video = Video(item)
    folder = outputs.options.folder
    record: dict[str, Any] = {'source': item.source, 'name': item.name}
    record['lines'] = f'frames/{item.name}.jsonl'
    if 'mask' in outputs.keys:
        record['mask'] = f'masks/{item.name}'
    if 'overlay' in outputs.keys:
        suffix = '' if item.name.lower().endswith('.mp4') else '.mp4'
        record['overlay'] = f'overlays/{item.name}{suffix}'
    count = 0
    try:
        with contextlib.ExitStack() as stack:
            lines = stack.enter_context(atomic_path(folder / record['lines']))
            file = stack.enter_context(lines.open('w'))
            writer = None
            if 'overlay' in record:
                writer = _OverlayWriter(folder / record['overlay'], video.rate)
                stack.enter_context(writer)
            try:
                frames = _predict(predictor, video, most, batch_size, memory)
                for sample, prediction in frames:
                    line: dict[str, Any] = {'frame': count}
                    line['time'] = round(count / video.rate, 6)
                    if 'mask' in record:
                        line['mask'] = f'{record["mask"]}/{count:06}.png'
                        outputs.write_mask(line['mask'], prediction)
                    if writer:
                        writer.write(
                            outputs.draw(sample.image, prediction, steady=True)
                        )
                    file.write(json.dumps(line | outputs.describe(prediction)) + '\n')
                    record['height'], record['width'] = sample.image.shape[:2]
                    count += 1
                    advance(1, most or video.promised)
            except KeyboardInterrupt:
                if item.kind != 'camera':
                    raise
            if not count:
                raise DataError('no frame can be decoded')
    except OSError as error:
        path = error.filename or folder
        raise OutputError(describe_write_error(path, error)) from error
    record['frames'] = count
    if most is None and video.promised and count < 0.95 * video.promised - 2:
        record['error'] = f'decoding stopped after {count} of {video.promised} frames'
    return record


def _predict(
    predictor: Predictor, video: Video, most: int | None, batch_size: int, memory: float
) -> Iterator[tuple[Sample, Classification | Segmentation]]:
    """Yield the frames and their predictions."""
    batch: list[Sample] = []
    for frame in itertools.islice(video, most):
        batch.append(predictor.prepare(frame))
        if len(batch) >= batch[0].batch_limit(batch_size, memory):
            yield from zip(batch, predictor.predict(batch), strict=True)
            batch = []
    if batch:
        yield from zip(batch, predictor.predict(batch), strict=True)


class _OverlayWriter:
    """Writes frames into an MP4 file, which appears when it is complete.

    Args:
        path: The file.
        rate: Frames per second.
    """

    def __init__(self, path: Path, rate: float) -> None:
        self._rate = rate
        self._stack = contextlib.ExitStack()
        self._partial = self._stack.enter_context(atomic_path(path))
        # OpenCV goes by the suffix.
        self._working = self._partial.with_name(f'{self._partial.name}.mp4')
        self._stack.callback(self._working.unlink, missing_ok=True)
        self._writer: cv2.VideoWriter | None = None

    def write(self, image: Image.Image) -> None:
        """Append a frame.

        Raises:
            ConfigError: OpenCV cannot write videos here.
        """
        # Encoders need even sides.
        width, height = (side + side % 2 for side in image.size)
        frame = np.asarray(image.crop((0, 0, width, height)))[..., ::-1]
        if self._writer is None:
            codec = cv2.VideoWriter.fourcc(*'mp4v')
            self._writer = cv2.VideoWriter(
                str(self._working), codec, self._rate, (width, height)
            )
            if not self._writer.isOpened():
                raise ConfigError(
                    'OpenCV cannot write MP4 files here: give --no-overlays'
                )
        self._writer.write(np.ascontiguousarray(frame))

    def __enter__(self) -> '_OverlayWriter':
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._writer is not None:
            self._writer.release()
            if kind is None:
                self._working.replace(self._partial)
        self._stack.__exit__(kind, error, trace)

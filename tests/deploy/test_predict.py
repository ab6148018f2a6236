import dataclasses
import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from volo.deploy import predict_video
from volo.deploy.predict import predict_sources
from volo.deploy.predict_outputs import OutputError, OutputOptions
from volo.deploy.predict_run import RunOptions
from volo.deploy.predictions import (
    Classification,
    MaskBuilder,
    Sample,
    default_palette,
)
from volo.engine.folder_lock import FolderLock
from volo.errors import ConfigError, DataError


class Bright:
    """Segments bright pixels; a classifier where asked."""

    def __init__(self, task='segmentation'):
        self.task = task
        self.classes = ('dark', 'bright')
        self.palette = default_palette(2)
        self.settings = {'checkpoint': 'none'}
        self.batches = []

    def load(self, path):
        try:
            return self.prepare(np.array(Image.open(path).convert('RGB')))
        except OSError as error:
            raise DataError('not an image') from error

    def prepare(self, image):
        return Sample(image, image.mean(axis=2) > 127, image.shape)

    def predict(self, samples):
        self.batches.append(len(samples))
        return [self.predict_one(sample.inputs) for sample in samples]

    def predict_one(self, bright):
        if self.task == 'classification':
            return Classification(np.array([1 - bright.mean(), bright.mean()]))
        mask = MaskBuilder(*bright.shape, 2)
        mask.put(0, 0, bright, np.full(bright.shape, 0.75))
        return mask.result()


@pytest.fixture
def images(tmp_path):
    """Five images and a broken file in folders."""
    folder = tmp_path / 'images'
    for i, name in enumerate(['a.png', 'b.png', 'x/a.png', 'x/c.png', 'a.bmp']):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        array = np.zeros((20, 30 + i % 2, 3), np.uint8)
        array[: 4 * i + 4] = 255
        Image.fromarray(array).save(path)
    (folder / 'x/broken.png').write_text('no image')
    return folder


@pytest.fixture
def out(tmp_path):
    return tmp_path / 'out'


def predict(predictor, source, out, outputs=None, **options):
    return predict_sources(
        predictor,
        [str(source)],
        OutputOptions(out, **(outputs or {})),
        RunOptions(**options),
    )


def lines(out):
    text = (out / 'predictions.jsonl').read_text()
    return {Path(r['source']).name: r for r in map(json.loads, text.splitlines())}


def test_a_folder_gets_masks_overlays_and_lines(images, out):
    predictor = Bright()
    report = predict(predictor, images, out, batch_size=2)
    assert sum(predictor.batches) == report.images == 5 and 2 in predictor.batches
    assert report.failures == [(f'{images}/x/broken.png', 'not an image')]
    failure = json.loads((out / 'failures.jsonl').read_text())
    assert failure == {'source': f'{images}/x/broken.png', 'error': 'not an image'}
    assert str(report).startswith(f'{out}: 5 of 6 images and videos predicted (')
    assert str(report).endswith('1 could not be read: broken.png')
    masks = {p.relative_to(out / 'masks').as_posix() for p in out.rglob('*.png')}
    # a.bmp came first.
    assert masks == {'a.png', 'a.png.png', 'b.png', 'x/a.png', 'x/c.png'}
    record = lines(out)['c.png']
    assert record == {
        'source': f'{images}/x/c.png',
        'name': 'x/c',
        'width': 31,
        'height': 20,
        'mask': 'masks/x/c.png',
        'overlay': 'overlays/x/c.jpg',
        'classes': [
            {'name': 'dark', 'index': 0, 'share': 0.2, 'score': 0.75},
            {'name': 'bright', 'index': 1, 'share': 0.8, 'score': 0.75},
        ],
    }
    with Image.open(out / record['mask']) as mask:
        assert mask.mode == 'P' and mask.size == (31, 20)
        assert mask.getpalette()[:6] == predictor.palette.ravel().tolist()
        assert np.array(mask).sum() == 16 * 31
    with Image.open(out / record['overlay']) as overlay:
        assert overlay.width > overlay.height > 20


def test_a_second_run_does_what_is_missing(images, out):
    predict(Bright(), images, out)
    before = (out / 'predictions.jsonl').read_bytes()
    again = Bright()
    report = predict(again, images, out)
    assert again.batches == [] and report.todo == 1
    assert '5 were already complete' in str(report)
    assert (out / 'predictions.jsonl').read_bytes() == before

    (out / lines(out)['b.png']['mask']).unlink()
    Image.new('RGB', (9, 9)).save(images / 'x/broken.png')
    report = predict(again, images, out)
    assert again.batches == [1, 1] and report.failures == []
    assert not (out / 'failures.jsonl').exists()
    text = (out / 'predictions.jsonl').read_text()
    names = [json.loads(line)['name'] for line in text.splitlines()]
    assert names == ['a', 'a.png', 'b', 'x/a', 'x/broken', 'x/c']


def test_more_outputs_than_before_are_added(images, out):
    (images / 'x/broken.png').unlink()
    predict(Bright(), images, out, dict(overlays=False))
    assert not (out / 'overlays').exists() and (out / 'masks').exists()
    again = Bright()
    predict(again, images, out)
    assert sum(again.batches) == 5
    assert all((out / record['overlay']).exists() for record in lines(out).values())


def test_a_classification_has_its_best_classes(images, out):
    predict(Bright('classification'), images / 'b.png', out, dict(top_k=1))
    assert not (out / 'masks').exists()
    (record,) = lines(out).values()
    assert record['classes'] == [{'name': 'dark', 'index': 0, 'score': 0.6}]
    assert (out / 'overlays/b.jpg').exists()


def test_an_interrupted_run_continues(images, out, monkeypatch):
    (images / 'x/broken.png').unlink()
    stopping = Bright()
    monkeypatch.setattr(stopping, 'predict_one', stop_after(2, stopping.predict_one))
    with pytest.raises(KeyboardInterrupt):
        predict(stopping, images, out, batch_size=1, workers=1)
    again = Bright()
    report = predict(again, images, out, batch_size=1)
    assert 3 <= sum(again.batches) <= 5 and report.todo == sum(again.batches)
    assert len((out / 'predictions.jsonl').read_text().splitlines()) == 5
    assert not list(out.rglob('*.partial'))


def stop_after(count, function):
    calls = iter(range(count))

    def stopping(*args):
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return function(*args)

    return stopping


def test_images_of_many_sizes_do_not_wait_for_full_batches(tmp_path, out):
    folder = tmp_path / 'sizes'
    folder.mkdir()
    for i in range(12):
        Image.new('RGB', (10 + i, 10)).save(folder / f'{i}.png')
    predictor = Bright()
    predict(predictor, folder, out, batch_size=3)
    assert predictor.batches == [1] * 12


def test_an_image_that_takes_much_memory_runs_alone(images, out):
    (images / 'x/broken.png').unlink()
    predictor = Bright()
    prepare = predictor.prepare
    predictor.prepare = lambda x: dataclasses.replace(prepare(x), bytes=1000)
    predict(predictor, images, out, batch_size=4, memory=999)
    assert predictor.batches == [1] * 5


@pytest.fixture
def clip(tmp_path):
    path = tmp_path / 'clip.avi'
    fourcc = cv2.VideoWriter.fourcc(*'MJPG')
    writer = cv2.VideoWriter(str(path), fourcc, 10, (320, 240))
    for i in range(12):
        noise = np.random.default_rng(i).integers(0, 9, (240, 320, 3))
        writer.write((20 * i + noise).astype(np.uint8))
    writer.release()
    return path


def test_every_frame_of_a_video_is_predicted(clip, out):
    predictor = Bright()
    report = predict(predictor, clip, out, batch_size=5)
    assert predictor.batches == [5, 5, 2] and report.images == 12
    (record,) = lines(out).values()
    assert record == {
        'source': str(clip),
        'name': 'clip.avi',
        'lines': 'frames/clip.avi.jsonl',
        'mask': 'masks/clip.avi',
        'overlay': 'overlays/clip.avi.mp4',
        'height': 240,
        'width': 320,
        'frames': 12,
    }
    text = (out / record['lines']).read_text()
    frames = [json.loads(line) for line in text.splitlines()]
    assert [frame['time'] for frame in frames] == [i / 10 for i in range(12)]
    assert [frame['classes'][1]['share'] for frame in frames] == [0] * 7 + [1] * 5
    with Image.open(out / frames[3]['mask']) as mask:
        assert mask.size == (320, 240)
    video = cv2.VideoCapture(str(out / record['overlay']))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 12
    assert not list(out.rglob('*.partial*'))

    predict(predictor, clip, out, batch_size=5)
    assert len(predictor.batches) == 3


def test_the_number_of_frames_can_be_limited(clip, out):
    assert predict(Bright(), clip, out, max_frames=3).images == 3
    (record,) = lines(out).values()
    assert record['frames'] == 3 and 'error' not in record
    with pytest.raises(ConfigError, match='predictions of another choice of --max-fr'):
        predict(Bright(), clip, out)


def test_an_interrupted_video_leaves_nothing_and_starts_again(clip, out):
    predictor = Bright()
    predict_one = predictor.predict_one
    predictor.predict_one = stop_after(7, predict_one)
    with pytest.raises(KeyboardInterrupt):
        predict(predictor, clip, out)
    assert not list((out / 'frames').iterdir())
    assert not list((out / 'overlays').iterdir())
    predictor.predict_one = predict_one
    assert predict(predictor, clip, out).images == 12


@pytest.mark.parametrize(
    ('change', 'reason'),
    [
        (lambda data: b'x' * 1000, 'the video cannot be decoded (unknown format or '),
        (lambda data: data[: len(data) // 2], 'decoding stopped after '),
    ],
)
def test_a_broken_video_is_named(clip, out, change, reason):
    clip.write_bytes(change(clip.read_bytes()))
    predictor = Bright()
    for _ in range(2):  # nothing of it counts as complete
        report = predict(predictor, clip, out)
        ((path, error),) = report.failures
        assert path == str(clip) and error.startswith(reason)


class Camera:
    """A camera that is interrupted after three frames."""

    def __init__(self, number):
        assert number == 3
        self.frames = iter([np.zeros((48, 64, 3), np.uint8)] * 3)

    def isOpened(self):  # noqa: N802 - OpenCV's name
        return True

    def get(self, key):
        return 0

    def read(self):
        frame = next(self.frames, None)
        if frame is None:
            raise KeyboardInterrupt
        return True, frame

    def release(self):
        pass


def test_a_camera_runs_until_it_is_interrupted_and_again(out, monkeypatch):
    monkeypatch.setattr(predict_video.cv2, 'VideoCapture', Camera)
    for name in ('camera3', 'camera3-2'):
        report = predict(Bright(), '3', out, batch_size=1)
        assert report.images == 3 and report.failures == []
        assert len((out / f'frames/{name}.jsonl').read_text().splitlines()) == 3
    assert list(lines(out)) == ['camera3', 'camera3-2']


@pytest.mark.parametrize('source', ['images', 'clip'])
def test_an_output_that_cannot_be_written_ends_the_run(request, out, source):
    out.mkdir()
    (out / 'masks').touch()
    with pytest.raises(OutputError, match='masks.* cannot be written'):
        predict(Bright(), request.getfixturevalue(source), out)


def test_names_that_are_no_text_are_predicted_and_told(tmp_path, out, capsys):
    folder = tmp_path / 'names'
    folder.mkdir()
    name = os.fsdecode(b'a\xff[b].png')
    Image.new('RGB', (20, 20)).save(folder / name)
    (folder / os.fsdecode(b'b\xff[c].png')).write_text('no image')
    report = predict(Bright(), folder, out)
    assert report.images == 1 and (out / 'masks' / name).exists()
    print(report)
    printed = capsys.readouterr()
    assert 'b?[c].png: not an image' in printed.err
    assert printed.out.endswith('could not be read: b?[c].png\n')


def test_two_runs_do_not_share_a_folder(images, out):
    with FolderLock() as lock:
        lock.acquire(out)
        with pytest.raises(ConfigError, match='out is in use by another run'):
            predict(Bright(), images, out)


def test_another_model_is_refused(images, out):
    predict(Bright(), images, out)
    other = Bright()
    other.settings = {'checkpoint': 'other'}
    with pytest.raises(ConfigError, match='predictions of another checkpoint'):
        predict(other, images, out)

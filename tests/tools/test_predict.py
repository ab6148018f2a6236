import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from PIL import Image

from tests.toy import ROOT, run_tool
from volo.deploy import standalone
from volo.engine import load_config

TOOL = ROOT / 'tools/predict.py'


@pytest.fixture(scope='module')
def weights(toy, tmp_path_factory):
    """Checkpoints of random weights for both tasks."""
    folder = tmp_path_factory.mktemp('weights')
    for task in ('classify', 'segment'):
        cfg = load_config(toy / f'{task}.py')
        init_default_scope(cfg.default_scope)
        torch.manual_seed(0)
        torch.save(MODELS.build(cfg.model).state_dict(), folder / f'{task}.pth')
    return folder


@pytest.fixture
def model(toy, weights):
    return lambda task: (toy / f'{task}.py', weights / f'{task}.pth')


@pytest.fixture
def images(tmp_path):
    """Twelve images of two sizes in two folders."""
    folder = tmp_path / 'images'
    generator = np.random.default_rng(0)
    for i in range(12):
        path = folder / ('ab'[i % 2]) / f'{i:02}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        size = (70, 50 + i // 6, 3)
        Image.fromarray(generator.integers(0, 256, size, dtype=np.uint8)).save(path)
    return folder


def read_lines(out):
    text = (out / 'predictions.jsonl').read_text()
    return [json.loads(line) for line in text.splitlines()]


def error_of(done):
    assert done.returncode == 2 and 'Traceback' not in done.stderr, done.stderr
    (line,) = [li for li in done.stderr.splitlines() if li.startswith('error: ')]
    return line


@pytest.mark.parametrize('task', ['classify', 'segment'])
def test_predicts_a_folder(model, images, tmp_path, task):
    (images / 'broken.jpg').write_text('no image')
    out = tmp_path / 'out'
    done = run_tool('predict.py', *model(task), images, '--out', out)
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith(f'{out}: 12 of 13 images and videos predicted (')
    assert done.stdout.endswith('1 could not be read: broken.jpg\n')
    assert f'{images}/broken.jpg: not an image' in done.stderr
    assert '13/13' in done.stderr and 'images/s' in done.stderr
    assert 'arning' not in done.stderr
    for line in read_lines(out):
        values = [
            row['score' if task == 'classify' else 'share'] for row in line['classes']
        ]
        assert len(values) == (5 if task == 'classify' else 8)
        assert task == 'classify' or sum(values) == pytest.approx(1, abs=1e-4)
        with Image.open(out / line['overlay']) as overlay:
            assert overlay.width > line['width']
    assert len(list(out.rglob('masks/?/*.png'))) == (0 if task == 'classify' else 12)

    (images / 'broken.jpg').unlink()
    done = run_tool('predict.py', *model(task), images, '--out', out)
    assert done.returncode == 0
    assert done.stdout.endswith('predicted, 12 were already complete\n')


def test_memory_and_batch_size_do_not_change_masks_of_slide_inference(
    model, images, tmp_path
):
    options = ['--no-overlays', '--cfg-options', 'model.test_cfg.mode=slide']
    options += ['model.test_cfg.crop_size=(32,32)', 'model.test_cfg.stride=(21,21)']
    one, two = tmp_path / 'one', tmp_path / 'two'
    for out, more in ((one, []), (two, ['--memory', '1e-4', '--batch-size', '1'])):
        arguments = [images / 'a', '--out', out, *more, *options]
        done = run_tool('predict.py', *model('segment'), *arguments)
        assert done.returncode == 0, done.stderr
        assert not (out / 'overlays').exists()
    for line in read_lines(one):
        assert (one / line['mask']).read_bytes() == (two / line['mask']).read_bytes()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['{config}', '{checkpoint}', 'none.png'], 'none.png: no such file, folder'),
        (['{config}', '{checkpoint}', 'empty'], 'empty: no images or videos found'),
        (['{config}'], 'CHECKPOINT and SOURCE not given after'),
        (['{config}', '{checkpoint}'], 'CHECKPOINT and SOURCE not given after'),
        (['model.onnx'], 'at least one SOURCE not given after model.onnx'),
        (['empty', 'a.png'], 'empty: no labels.json of tools/export.py in it'),
        (['none.onnx', 'a.png'], 'none.onnx: no such exported model'),
        (['cut.onnx', 'a.png'], 'cut.onnx cannot be opened by ONNX Runtime: damaged'),
        (['cut.onnx', 'a.png', '--tta'], '--tta: for CONFIG and CHECKPOINT, not for'),
        (['{config}', 'other.pth', 'a.png'], 'other.pth'),
        (['{config}', '{checkpoint}', 'a.png', '--device', 'x'], '--device x cannot'),
        (['{config}', '{checkpoint}', 'a.png', '--tta'], 'has no tta_model'),
    ],
)
def test_bad_input_is_one_clear_error(model, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'cut.onnx').write_bytes(b'\x08\x08')
    (tmp_path / 'other.pth').write_text('no weights')
    Image.new('RGB', (40, 40)).save('a.png')
    config, checkpoint = model('classify')
    given = [a.format(config=config, checkpoint=checkpoint) for a in arguments]
    done = run_tool('predict.py', *given, '--out', 'out')
    assert message in error_of(done)
    assert not (tmp_path / 'out/predictions.jsonl').exists()


def test_predictions_of_another_checkpoint_are_not_mixed(
    model, weights, images, tmp_path
):
    config, checkpoint = model('classify')
    arguments = (images / 'a/00.png', '--out', tmp_path / 'out')
    assert run_tool('predict.py', config, checkpoint, *arguments).returncode == 0
    other = weights / 'trained.pth'
    torch.save({k: v + 1 for k, v in torch.load(checkpoint).items()}, other)
    done = run_tool('predict.py', config, other, *arguments)
    assert 'out holds predictions of another checkpoint. Choose' in error_of(done)


def kill(running):
    """Kill a launcher and its ranks, which are process groups of their own."""
    pid = running.pid
    children = Path(f'/proc/{pid}/task/{pid}/children').read_text().split()
    for process in (pid, *map(int, children)):
        os.kill(process, signal.SIGKILL)
    running.communicate()


def launch(*arguments):
    """Start two ranks."""
    command = ['-m', 'torch.distributed.run', '--standalone', '--nproc-per-node=2']
    return subprocess.Popen(
        [sys.executable, *command, TOOL, *map(str, arguments), '--launcher', 'pytorch'],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''},
    )


@pytest.mark.slow
def test_two_ranks_share_a_folder_are_killed_and_resumed(model, tmp_path):
    folder, out = tmp_path / 'many', tmp_path / 'out'
    folder.mkdir()
    for i in range(60):
        Image.new('RGB', (64, 64), (4 * i, 0, 0)).save(folder / f'{i:02}.png')
    arguments = [*model('segment'), folder, '--out', out, '--batch-size', '1']
    running = launch(*arguments)
    deadline = time.monotonic() + 300
    lines = []
    while len(lines) < 5 and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
        parts = out.glob('predictions.part*.jsonl')
        lines = [line for part in parts for line in part.read_text().splitlines()]
    kill(running)
    assert len(lines) >= 5

    running = launch(*arguments)
    stdout, stderr = running.communicate()
    assert running.returncode == 0, stderr
    assert stdout.count('images and videos predicted') == 1
    complete = int(stdout.split(' were already')[0].rpartition(' ')[2])
    assert 5 <= complete < 60
    sources = Counter(line['source'] for line in read_lines(out))
    assert list(sources) == [str(folder / f'{i:02}.png') for i in range(60)]
    assert set(sources.values()) == {1}
    assert len(list((out / 'masks').iterdir())) == 60
    assert not list(out.glob('predictions.part*'))

    alone = tmp_path / 'alone'
    done = run_tool('predict.py', *model('segment'), folder, '--out', alone)
    assert done.returncode == 0, done.stderr
    for mask in (alone / 'masks').iterdir():
        assert mask.read_bytes() == (out / 'masks' / mask.name).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize('task', ['classify', 'segment'])
def test_an_exported_folder_predicts_with_and_without_volo(
    toy, model, images, tmp_path, task
):
    exported = tmp_path / 'exported'
    sizes = ['--images', images / 'a/00.png']
    done = run_tool('export.py', *model(task), '--out', exported, *sizes)
    assert done.returncode == 0, done.stderr
    source = images if task == 'segment' else toy / 'data/images/val'
    outs = [tmp_path / name for name in ('torch', 'volo', 'alone')]
    for given, out in zip((model(task), [exported]), outs, strict=False):
        done = run_tool('predict.py', *given, source, '--out', out)
        assert done.returncode == 0, done.stderr
    done = subprocess.run(
        [sys.executable, '-I', exported / 'predict.py', source, '--out', outs[2]],
        cwd='/',
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    template = Path(standalone.__file__)
    assert (exported / 'predict.py').read_text() == template.read_text()
    records = [{line['source']: line for line in read_lines(out)} for out in outs]
    assert records[0].keys() == records[1].keys() == records[2].keys()
    for source, line in records[0].items():
        if task == 'classify':
            best = [
                [(row['name'], row['score']) for row in record[source]['classes']]
                for record in records
            ]
            for other in best[1:]:
                assert [name for name, _ in other] == [name for name, _ in best[0]]
                assert [s for _, s in other] == pytest.approx(
                    [s for _, s in best[0]], abs=1e-4
                )
            continue
        relative = os.path.relpath(source, images)
        masks = [
            np.array(Image.open(path))
            for path in (
                outs[0] / line['mask'],
                outs[1] / records[1][source]['mask'],
                outs[2] / f'masks/{relative}.png',
            )
        ]
        np.testing.assert_array_equal(masks[1], masks[2])
        assert (masks[0] == masks[1]).mean() > 0.999

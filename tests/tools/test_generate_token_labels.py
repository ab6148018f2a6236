import os
import runpy
import subprocess
import sys

import numpy as np
import pytest
import torch

from tests.toy import ROOT, run_tool
from volo.annotators.annotator_mmpretrain import build_mmpretrain_annotator
from volo.errors import VoloError
from volo.token_label import LabelMapFolder
from volo.token_label.packed import PackedLabelMaps

TOOL = ROOT / 'tools/generate_token_labels.py'
RANDOM = ('--timm', 'test_vit', '--random-weights', '--workers', '0')


@pytest.fixture
def main():
    """The tool's own main in this process, which saves the seconds of its imports."""

    def call(*arguments):
        tool = runpy.run_path(str(TOOL))
        tool['main'](tool['make_parser']().parse_args(list(map(str, arguments))))

    return call


@pytest.fixture
def images(toy):
    return toy / 'data/images/val'


def test_random_weights_annotate_the_toy_images(main, images, tmp_path, capsys):
    main(images, tmp_path, *RANDOM, '--input-size', 64, '--top-k', 2)
    assert capsys.readouterr().out == (
        f'{tmp_path}: 7 label maps (7 new) of 4 x 4 cells, 2 classes each; '
        "annotator's top-1: not known: 7 class folders, but the annotator has 1000 "
        'classes\n'
    )
    assert len(list(LabelMapFolder(tmp_path).keys())) == 7


def test_a_classifier_of_this_project_annotates(main, toy, images, tmp_path, capsys):
    config, checkpoint = toy / 'classify.py', tmp_path / 'it.pth'
    torch.save(build_mmpretrain_annotator(config, None).model.state_dict(), checkpoint)
    options = ['--config', config, '--checkpoint', checkpoint, '--packed']
    main(images, tmp_path / 'maps', *options, '--workers', 0)
    assert capsys.readouterr().out.endswith('of the 7 new\n')
    store = PackedLabelMaps(tmp_path / 'maps')
    assert len(store) == 7 and store.num_classes == 7


@pytest.mark.slow
@pytest.mark.parametrize('packed', [False, True])
def test_two_ranks_write_what_one_writes(main, images, tmp_path, capsys, packed):
    options = [*RANDOM, '--batch-size', '1', '--num-classes', '7']
    options += ['--packed'] * packed
    main(images, tmp_path / 'one', *options)
    launch = ['-m', 'torch.distributed.run', '--standalone', '--nproc-per-node=2']
    arguments = [TOOL, images, tmp_path / 'two', *options, '--launcher', 'pytorch']
    done = subprocess.run(
        [sys.executable, *launch, *map(str, arguments), '--device', 'cpu'],
        capture_output=True,
        text=True,
        env={**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    line = capsys.readouterr().out.replace('/one:', '/two:')
    assert done.stdout.count('label maps (') == 1 and done.stdout.endswith(line)
    kind = PackedLabelMaps if packed else LabelMapFolder
    one, two = kind(tmp_path / 'one'), kind(tmp_path / 'two')
    keys = sorted(one.keys())
    assert len(keys) == 7 and sorted(two.keys()) == keys
    for key in keys:
        np.testing.assert_array_equal(one.read(key).scores, two.read(key).scores)
        np.testing.assert_array_equal(one.read(key).classes, two.read(key).classes)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--config', 'c.py'], '--config needs the weights'),
        (
            ['--config', 'c.py', '--checkpoint', 'f', '--num-classes', '3'],
            '--num-classes is for --timm',
        ),
        ([*RANDOM, '--checkpoint', 'f.pth'], 'give --checkpoint or --random'),
        (['--timm', 'test_vit', '--checkpoint', 'f.pth'], 'f.pth does not exist'),
        ([*RANDOM, '--top-k', '1001'], '--top-k 1001'),
    ],
)
def test_conflicting_options_are_refused(main, images, tmp_path, arguments, message):
    with pytest.raises(VoloError, match=message):
        main(images, tmp_path / 'maps', *arguments)
    assert not (tmp_path / 'maps').exists()


def test_without_network_the_error_says_to_give_a_checkpoint(images, tmp_path):
    offline = dict(HF_HUB_OFFLINE='1', HF_HOME=str(tmp_path), TORCH_HOME=str(tmp_path))
    done = run_tool(
        TOOL.name, images, tmp_path / 'maps', '--timm', 'test_vit', **offline
    )
    assert done.returncode == 2 and 'Traceback' not in done.stderr
    line = done.stderr.splitlines()[-1]
    assert line.startswith('error: --timm test_vit cannot be built')
    assert line.endswith('give them with --checkpoint')


def test_a_broken_image_is_named_in_one_line(tmp_path):
    (tmp_path / 'a').mkdir()
    (tmp_path / 'a' / 'broken.jpg').write_bytes(b'no image')
    options = [*RANDOM[:-1], '1', '--input-size', '64']  # The worker's own error.
    done = run_tool(TOOL.name, tmp_path, tmp_path / 'maps', *options)
    assert done.returncode == 2 and 'Traceback' not in done.stderr
    (line,) = [x for x in done.stderr.splitlines() if x.startswith('error: ')]
    assert 'broken.jpg: broken image (not an image)' in line

"""Small data and configs for tests that run the real commands."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from demo.shapes import SEGMENTATION_CLASSES
from demo.shapes_dataset import generate_shapes_dataset
from tests.forked import ROOT, fork_server
from volo.checkpoints.reading import read_checkpoint

CLASSIFICATION = """
_base_ = [
    '{configs}/_base_/models/volo_tiny_classifier.py',
    '{configs}/_base_/datasets/cifar10_64.py',
    '{configs}/_base_/classification_runtime.py',
]
model = dict(backbone=dict(img_size=64), head=dict(num_classes=7))
loader = dict(
    batch_size=7,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(data_root='{data}/images'),
)
train_dataloader = loader
val_dataloader = loader
test_dataloader = loader
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-4))
train_cfg = dict(by_epoch=True, max_epochs=2, val_interval=1)
auto_scale_lr = dict(base_batch_size=14, enable=False)
"""

SEGMENTATION = """
_base_ = ['{configs}/volo_tiny_upernet_camvid.py']
classes = {classes}
palette = [[0, 0, i] for i in range(8)]
dataset = dict(
    data_root='{data}',
    metainfo=dict(_delete_=True, classes=classes, palette=palette),
    void_labels=(),
)
loader = dict(num_workers=0, persistent_workers=False, dataset=dataset)
model = dict(
    data_preprocessor=dict(size=(64, 64)),
    backbone=dict(img_size=64),
    decode_head=dict(num_classes=8),
    auxiliary_head=dict(num_classes=8),
)
train_pipeline = [
    dict(type='LoadImageFromFile', imdecode_backend='pillow'),
    dict(type='LoadAnnotations'),
    dict(type='CheckSegmentationSample'),
    dict(type='RandomCrop', crop_size=(64, 64)),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(batch_size=2, **loader)
train_dataloader['dataset'] = dict(pipeline=train_pipeline, **dataset)
val_dataloader = loader
test_dataloader = loader
param_scheduler = []
train_cfg = dict(max_iters=4, val_interval=2)
default_hooks = dict(checkpoint=dict(interval=2), logger=dict(interval=1))
"""


def write_tasks(folder: Path) -> dict[str, Path]:
    """Write a synthetic dataset to ``folder/data``, and a config for each task."""
    generate_shapes_dataset(
        folder / 'data', train_per_class=2, val_per_class=1, size=64
    )
    configs = {}
    for name, text in (('classify', CLASSIFICATION), ('segment', SEGMENTATION)):
        configs[name] = folder / f'{name}.py'
        configs[name].write_text(
            text.format(
                configs=ROOT / 'configs',
                data=folder / 'data',
                classes=SEGMENTATION_CLASSES,
            )
        )
    return configs


def assert_same(path: Path, expected: Path) -> None:
    """Compare weights, averaged weights and the optimizer's state bit for bit."""
    ours, theirs = (
        _tensors({**read_checkpoint(p), 'message_hub': None}) for p in (path, expected)
    )
    assert ours.keys() == theirs.keys()
    assert not [name for name in ours if not torch.equal(ours[name], theirs[name])]


def _tensors(value: Any, name: str = '') -> dict[str, torch.Tensor]:
    """Return every tensor of a checkpoint by its dotted place."""
    if isinstance(value, torch.Tensor):
        return {name: value}
    if isinstance(value, dict | list | tuple):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {k: v for i, x in items for k, v in _tensors(x, f'{name}.{i}').items()}
    return {}


def run_tool(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess:
    """Run a tool of this checkout: a Python file, a shell script or a package."""
    tool, *rest = map(str, arguments)
    if not tool.endswith('.sh'):
        running = fork_server().start(tool, *rest, **environment)
        status = running.wait()
        return subprocess.CompletedProcess(
            [tool, *rest], status, running.stdout, running.stderr
        )
    return subprocess.run(
        ['bash', str(ROOT / 'tools' / tool), *rest],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env=tool_environment() | environment,
    )


def tool_environment() -> dict[str, str]:
    """Return the environment in which the scripts run this checkout on the CPU."""
    return {
        **os.environ,
        'PYTHON': sys.executable,
        'PYTHONPATH': str(ROOT),
        'OMP_NUM_THREADS': '1',
        'CUDA_VISIBLE_DEVICES': '',
    }

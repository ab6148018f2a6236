"""A small model, and batches that make its loss, gradients or statistics infinite.

``python -m tests.poison RANK FOLDER`` is one of two processes that train on them.
"""

import itertools
import json
import os
import sys
from pathlib import Path

import numpy as np
import torch
import torch.distributed
from mmcv.transforms import TRANSFORMS, BaseTransform
from mmengine.dataset import pseudo_collate
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import MODELS, RUNNERS
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from torch import nn
from torch.utils.data import DataLoader

import volo.engine.hooks.non_finite  # noqa: F401
from volo.engine.cli import leave

#: The first value of a sample whose gradients become infinite.
EXPLODES = 5.0

#: Numbers the Runners.
COUNT = itertools.count()


@TRANSFORMS.register_module()
class Poison(BaseTransform):
    """Make the images NaN whose names contain ``name``."""

    def __init__(self, name: str) -> None:
        self.name = name

    def transform(self, results: dict) -> dict:
        if self.name in results['img_path']:
            results['img'] = np.full_like(results['img'], np.nan, np.float32)
        return results


class Explode(torch.autograd.Function):
    """The identity, with infinite gradients."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradients):
        return gradients * torch.inf


@MODELS.register_module()
class PoisonedModel(BaseModel):
    """A batch norm and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.norm = nn.BatchNorm1d(3)
        self.fc = nn.Linear(3, 2)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        x = torch.stack(inputs)
        outputs = self.fc(self.norm(x)).float()
        if (x[:, 0] == EXPLODES).any():
            outputs = Explode.apply(outputs)
        return dict(loss_fc=outputs.square().mean(), accuracy=outputs.mean())


class Record(Hook):
    """Copy the model and the optimizer's state after every iteration."""

    priority = 'LOWEST'

    def __init__(self) -> None:
        self.states = []

    def before_train(self, runner):
        self.after_train_iter(runner, -1)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        optimizer = runner.optim_wrapper.optimizer.state
        state = {**runner.model.state_dict()}
        for number, values in enumerate(optimizer.values()):
            state |= {f'{number}.{name}': value for name, value in values.items()}
        self.states.append(
            {n: v.clone() for n, v in state.items() if isinstance(v, torch.Tensor)}
        )

    def unchanged(self) -> list[bool]:
        """Tell for every iteration whether it changed nothing."""
        return [same(*states) for states in itertools.pairwise(self.states)]


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Tell whether two states are equal, bit for bit."""
    return one.keys() == other.keys() and all(
        torch.equal(one[name], other[name]) for name in one
    )


def make_samples(kinds: list[str], rank: int = 0) -> list[dict]:
    """Make two samples of each kind; a kind always gives the same samples.

    Args:
        kinds: In ``nan``, ``explodes`` and ``huge`` (too large for the statistics of a
            norm), the second sample is poisoned. All other kinds are good.
        rank: Part of the file names.
    """
    poison = dict(nan=torch.nan, explodes=EXPLODES, huge=1e30)
    samples = []
    for kind in kinds:
        generator = torch.Generator().manual_seed(sum(map(ord, kind)) + rank)
        inputs = torch.randn(2, 3, generator=generator)
        inputs[1, 0] = poison.get(kind, inputs[1, 0])
        for x, place in zip(inputs, 'ab', strict=True):
            path = f'{kind}_{rank}_{place}.jpg'
            data_sample = BaseDataElement(metainfo=dict(img_path=path))
            samples.append(dict(inputs=x, data_samples=data_sample))
    return samples


def make_runner(
    folder: Path,
    kinds: list[str],
    optim_wrapper: dict | None = None,
    max_in_a_row: int = 10,
    rank: int = 0,
    **options,
) -> Runner:
    """Make a Runner that trains ``PoisonedModel`` on batches of these kinds, in order.

    Args:
        folder: Folder of logs and checkpoints.
        kinds: As in :func:`make_samples`, one per batch.
        optim_wrapper: Changes to the default, AdamW in float32.
        max_in_a_row: As in ``SkipNonFiniteHook``.
        rank: Rank of the process.
        options: Arguments of the Runner.

    Returns:
        A Runner; its ``record`` is its :class:`Record` hook.
    """
    loader = DataLoader(make_samples(kinds, rank), 2, collate_fn=pseudo_collate)
    cfg = dict(
        work_dir=str(folder),
        # Runners that start within one second would share their message hub.
        experiment_name=f'poisoned_{next(COUNT)}',
        model=dict(type='PoisonedModel'),
        train_dataloader=loader,
        train_cfg=dict(by_epoch=False, max_iters=len(kinds)),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.1))
        | (optim_wrapper or {}),
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=1),
            checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=1000),
            non_finite=dict(type='SkipNonFiniteHook', max_in_a_row=max_in_a_row),
        ),
        log_processor=dict(by_epoch=False),
        default_scope='mmengine',
    )
    cfg |= options
    runner = RUNNERS.get(cfg.pop('runner_type', 'Runner'))(**cfg)
    runner.record = Record()
    runner.register_hook(runner.record)
    return runner


def train_rank(rank: int, folder: Path) -> None:
    """Train with DDP, then with FSDP, as one of two processes; write the results.

    Rank 1 has a NaN, then a gradient that explodes. The batches of rank 0 are good.
    """
    os.environ.update(LOCAL_RANK=str(rank), CUDA_VISIBLE_DEVICES='')
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2
    )
    kinds = [['a', 'b', 'c', 'd'], ['a', 'nan', 'explodes', 'd']][rank]
    ddp = dict(type='MMDistributedDataParallel', device_ids=None)
    fsdp = dict(runner_type='FlexibleRunner', strategy=dict(type='VOLOFSDPStrategy'))
    results = {}
    for name, options in dict(
        ddp=dict(cfg=dict(model_wrapper_cfg=ddp)), fsdp=fsdp
    ).items():
        (folder / name).mkdir(exist_ok=True)
        options['launcher'] = 'pytorch'
        runner = make_runner(folder / name, kinds, rank=rank, **options)
        runner.train()
        results[name] = dict(
            unchanged=runner.record.unchanged(),
            skipped=runner.message_hub.get_info('skipped_steps'),
        )
    (folder / f'rank_{rank}.json').write_text(json.dumps(results))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    leave(0)


if __name__ == '__main__':
    train_rank(int(sys.argv[1]), Path(sys.argv[2]))

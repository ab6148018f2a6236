"""Measure how long a training will take."""

import math
import time
import warnings
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import PixelData
from mmpretrain.structures import DataSample
from mmseg.structures import SegDataSample

#: An evaluation step takes about a third of a training step: no backward pass.
_EVALUATION = 1 / 3


def expected_minutes(cfg: Config, train_images: int, val_images: int) -> float:
    """Estimate the length of a training from timed steps with random images.

    Args:
        cfg: From :func:`volo.engine.launch.load_config`.
        train_images: Number of training images.
        val_images: Number of validation images.
    """
    batch = cfg.train_dataloader.batch_size
    per_image = _seconds_per_step(cfg) / batch
    loop = cfg.train_cfg
    if loop.get('by_epoch'):
        trained = loop.max_epochs * math.ceil(train_images / batch) * batch
        rounds = loop.max_epochs / loop.val_interval
    else:
        trained = loop.max_iters * batch
        rounds = loop.max_iters / loop.val_interval
    images = trained + rounds * val_images * _EVALUATION
    return images * per_image / 60


def _seconds_per_step(cfg: Config, steps: int = 4) -> float:
    """Return the time of the fastest step after the first.

    Other programs slow single steps down.
    """
    init_default_scope(cfg.default_scope)
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    settings = _without_sync(cfg.model.to_dict())
    settings['backbone'].pop('init_cfg', None)
    times = []
    with torch.random.fork_rng(), torch.device(device), warnings.catch_warnings():
        warnings.simplefilter('ignore')  # training shows them too
        model = MODELS.build(settings).to(device).train()
        inputs, samples = _batch(cfg)
        for _ in range(steps):
            start = time.perf_counter()
            losses = model(inputs, samples, mode='loss')
            model.parse_losses(losses)[0].backward()
            model.zero_grad()
            _wait(device)
            times.append(time.perf_counter() - start)
    return min(times[1:])


def _batch(cfg: Config) -> tuple[torch.Tensor, list[Any]]:
    backbone = cfg.model.backbone
    side, batch = backbone.img_size, cfg.train_dataloader.batch_size
    height, width = (side, side) if isinstance(side, int) else side
    inputs = torch.rand(batch, backbone.get('in_channels', 3), height, width)
    if 'decode_head' not in cfg.model:
        return inputs, [DataSample().set_gt_label(0).to(inputs.device)] * batch
    mask = PixelData(data=torch.zeros(1, height, width, dtype=torch.long))
    return inputs, [SegDataSample(gt_sem_seg=mask)] * batch


def _wait(device: str) -> None:
    if device == 'cuda':
        torch.cuda.synchronize()


def _without_sync(node: Any) -> Any:
    """Replace SyncBN, which needs several processes."""
    if isinstance(node, dict):
        values = {key: _without_sync(value) for key, value in node.items()}
        return values | {'type': 'BN'} if values.get('type') == 'SyncBN' else values
    if isinstance(node, list | tuple):
        return [_without_sync(value) for value in node]
    return node

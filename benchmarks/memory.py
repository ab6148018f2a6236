"""The memory of a training step on a GPU, counted without one.

The step runs on fake tensors, see :mod:`benchmarks.fake_gpu`, and all that lives on
the GPU is added up.

Not counted are the CUDA context, workspaces inside of kernels and libraries, and
fragmentation. :data:`MARGIN` is kept free for them.
"""

import copy
import dataclasses
import functools
import inspect
import math
from collections.abc import Callable, Iterable, Sequence

import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, OPTIMIZERS, init_default_scope
from mmengine.structures import PixelData
from mmpretrain.structures import DataSample
from mmseg.structures import SegDataSample
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.utils._pytree import tree_leaves

from volo.engine.launch import readable_errors
from volo.errors import ConfigError
from volo.ops.backends import find_obstacle

from .fake_gpu import FakeGPU, GPUFunctions, LiveBytes, rounded
from .report import Report
from .steps import DTYPES

GIB = 2**30

#: Part of a card that is kept free for what is not counted.
MARGIN = 0.1


@dataclasses.dataclass(frozen=True)
class StepMemory:
    """Bytes at the peak of a training step; all but ``gradients`` add up to ``total``.

    Args:
        weights: Parameters and buffers.
        gradients: Of all parameters, as they are when backward is over.
        optimizer: Its state.
        copies: Buckets of DDP, and the averaged weights of EMA.
        gradients_at_peak: Those that live then.
        activations: The rest: what backward needs and what is temporary, images and
            labels among it.
        total: All.
    """

    weights: int
    gradients: int
    optimizer: int
    copies: int
    gradients_at_peak: int
    activations: int
    total: int


def training_dtype(cfg: Config) -> str:
    """Return the dtype that a config trains in, a key of :data:`.steps.DTYPES`."""
    if cfg.optim_wrapper.type != 'AmpOptimWrapper':
        return 'float32'
    return 'bf16' if cfg.optim_wrapper.get('dtype') == 'bfloat16' else 'fp16'


class FakeTraining:
    """The model and the optimizer of a config, on fake tensors.

    SyncBN is BN. Images have the backbone's ``img_size``; classifiers get plain
    labels, whose memory differs from that of label maps by a few numbers a token.

    Args:
        cfg: Of a model with the backbone :class:`volo.models.VOLO`.
        dtype: Of autocast, a key of :data:`.steps.DTYPES`.
        gpus: More than one: the buckets of DDP count.
        device: ``'cuda'``, or ``'cpu'`` to compare with a real step.

    Raises:
        ConfigError: The config has another backbone, shards the model, or is broken.
    """

    def __init__(
        self, cfg: Config, dtype: str, gpus: int = 8, device: str = 'cuda'
    ) -> None:
        if cfg.model.get('backbone', {}).get('type') != 'VOLO':
            raise ConfigError(f'{cfg.filename}: no model with the backbone VOLO')
        if 'strategy' in cfg:
            raise ConfigError(
                f'{cfg.filename}: {cfg.strategy.type} shards the model over the GPUs, '
                'which is not counted; take a config without strategy'
            )
        init_default_scope(cfg.default_scope)
        self.device = device
        self.fake = FakeTensorMode(allow_non_fake_inputs=True)
        with self.fake:
            obstacle = find_obstacle('fused', torch.empty(0, device=device), 0.0)
        if obstacle and device == 'cuda':
            raise ConfigError(f'outlook attention as on a GPU: {obstacle}')
        self.functions = GPUFunctions(DTYPES[dtype])
        options = copy.deepcopy(cfg.model)
        options.backbone.pop('init_cfg', None)
        side = options.backbone.get('img_size', 224)
        self.size = (side, side) if isinstance(side, int) else tuple(side)
        with self.fake, FakeGPU(), torch.device(device), readable_errors(cfg):
            self.model = revert_sync_batchnorm(MODELS.build(options)).train()
        # Checkpointing calls them again in backward, where no mode is active.
        for block in (b for stage in self.model.backbone.stages for b in stage):
            block.forward = self.functions.around(block.forward)
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = self._build_optimizer(dict(cfg.optim_wrapper.optimizer))
        hooks = [hook.type for hook in cfg.get('custom_hooks') or []]
        averaged = self.model.parameters() if 'EMAHook' in hooks else []
        self.copies = _bytes(averaged) + (gpus > 1) * _bytes(self.trained)

    def _build_optimizer(self, options: dict) -> torch.optim.Optimizer:
        """Return the optimizer, with the state that it has after a step."""
        options['params'] = self.trained
        cls = OPTIMIZERS.get(options['type'])
        if cls is None:
            raise ConfigError(f'optim_wrapper.optimizer: unknown {options["type"]!r}')
        if 'foreach' in inspect.signature(cls).parameters and 'fused' not in options:
            # torch's choice on a GPU, which it does not make for fake tensors.
            options.setdefault('foreach', self.device == 'cuda')
        with self.fake, FakeGPU():
            optimizer = OPTIMIZERS.build(options)
            for parameter in self.trained:
                parameter.grad = torch.empty_like(parameter)
            optimizer.step()
            optimizer.zero_grad()
        return optimizer

    def step(self, batch_size: int, with_cp: bool = False) -> StepMemory:
        """Count a training step.

        Args:
            batch_size: Images on the GPU.
            with_cp: Of the backbone: recompute activations in backward.
        """
        self.model.backbone.with_cp = with_cp
        tracker = LiveBytes(self.device)
        state = tree_leaves([*self.optimizer.state.values()])
        for tensor in [*self.model.parameters(), *self.model.buffers(), *state]:
            tracker.add(tensor)

        def count_gradient(parameter: nn.Parameter) -> None:
            tracker.gradients += rounded(parameter.grad.nbytes)

        with self.fake, tracker, FakeGPU():
            hooks = [
                p.register_post_accumulate_grad_hook(count_gradient)
                for p in self.trained
            ]
            with self.functions:
                losses = self.model(*self._make_batch(batch_size), mode='loss')
                loss = self.model.parse_losses(losses)[0]
            del losses
            self.functions.weights.clear()
            loss.backward()
            self.functions.weights.clear()
            self.optimizer.step()
            self.optimizer.zero_grad()
            for hook in hooks:
                hook.remove()
        weights = _bytes([*self.model.parameters(), *self.model.buffers()])
        optimizer = _bytes([x for x in state if x.device.type == self.device])
        total, gradients = tracker.peak
        return StepMemory(
            weights=weights,
            gradients=tracker.gradients,
            optimizer=optimizer,
            copies=self.copies,
            gradients_at_peak=gradients,
            activations=total - weights - optimizer - gradients,
            total=total + self.copies,
        )

    def _make_batch(self, batch_size: int) -> tuple[torch.Tensor, list]:
        images = torch.empty(batch_size, 3, *self.size, device=self.device)
        samples = []
        for _ in range(batch_size):
            if hasattr(self.model, 'decode_head'):
                mask = torch.zeros(
                    (1, *self.size), dtype=torch.int64, device=self.device
                )
                samples.append(SegDataSample(gt_sem_seg=PixelData(data=mask)))
            else:
                samples.append(DataSample().set_gt_label(0).to(self.device))
        return images, samples


def _bytes(tensors: Iterable[torch.Tensor]) -> int:
    return sum(rounded(tensor.nbytes) for tensor in tensors)


def largest_batch(total: Callable[[int], int], limit: float) -> int:
    """Return the largest batch that fits.

    Memory grows along lines: the step has several moments that may be its peak, and
    each is linear in the batch. So this follows lines through batches that it counts.

    Args:
        total: Bytes with a batch size.
        limit: Bytes.

    Returns:
        A batch size that was counted; 0 if not even 1 fits.
    """
    fits, too_large, last, batch = 0, math.inf, 1, 2
    if total(1) > limit:
        return 0
    while too_large - fits > 1:
        if total(batch) <= limit:
            fits = max(fits, batch)
        else:
            too_large = min(too_large, batch)
        slope = (total(batch) - total(last)) / (batch - last)
        guess = batch + math.floor((limit - total(batch)) / max(slope, 1))
        last = batch
        # The lines are steeper to the right: do not trust a flat one too far.
        batch = min(max(guess, fits + 1), too_large - 1, 4 * batch)
    return fits


def measure_memory(
    cfg: Config,
    batch_sizes: Sequence[int] | None,
    dtype: str | None,
    cards: Sequence[int],
    gpus: int = 8,
) -> Report:
    """Count a config's training step, with and without ``with_cp``.

    Args:
        cfg: As :class:`FakeTraining` takes it.
        batch_sizes: Images on a GPU; the config's if None.
        dtype: Of autocast, a key of :data:`.steps.DTYPES`; the config's if None.
        cards: Sizes of GPUs in GiB, for which the largest batch is looked for.
        gpus: On how many it trains.

    Raises:
        ConfigError: As :class:`FakeTraining` raises it.
    """
    dtype = dtype or training_dtype(cfg)
    batch_sizes = batch_sizes or [cfg.train_dataloader.batch_size]
    training = FakeTraining(cfg, dtype, gpus)
    rows = []
    for with_cp in (False, True):
        step = functools.cache(functools.partial(training.step, with_cp=with_cp))
        fits = {
            f'fits_{card}': largest_batch(
                lambda n, step=step: step(n).total, card * GIB * (1 - MARGIN)
            )
            for card in cards
        }
        for batch_size in batch_sizes:
            found = dataclasses.asdict(step(batch_size))
            gib = {f'{key}_gib': value / GIB for key, value in found.items()}
            row = dict(name='yes' if with_cp else 'no', with_cp=with_cp)
            rows.append(dict(**row, batch_size=batch_size, **found, **gib, **fits))
    shown = dict(
        weights='weights',
        optimizer='optimizer',
        copies='DDP, EMA',
        gradients_at_peak='gradients',
        activations='activations',
        total='total',
    )
    columns = {'with_cp': '{name}', 'batch': '{batch_size}'}
    columns |= {title: f'{{{key}_gib:.2f}}' for key, title in shown.items()}
    columns |= {f'fits {card} GB': f'{{fits_{card}}}' for card in cards}
    return Report(
        name='memory',
        title=(
            f'{cfg.filename}: GiB on a GPU at the peak of a training step, images '
            f'of {training.size[0]} x {training.size[1]}, {dtype}; fits: the largest '
            f'batch a GPU with {MARGIN:.0%} kept free'
        ),
        options=dict(
            config=str(cfg.filename),
            batch_sizes=list(batch_sizes),
            dtype=dtype,
            cards=list(cards),
            margin=MARGIN,
            gpus=gpus,
            image=list(training.size),
            device='cpu',
        ),
        columns=columns,
        rows=rows,
    )

"""Count the memory of a training step with fake tensors: model, optimizer and batch.

See :mod:`benchmarks.memory` for what is counted.
"""

import copy
import dataclasses
import inspect
from collections.abc import Iterable

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
from .steps import DTYPES


@dataclasses.dataclass(frozen=True)
class StepMemory:
    """Bytes at the peak of a training step.

    All but ``gradients`` add up to ``total``.

    Attributes:
        weights: Parameters and buffers.
        gradients: Gradients of all parameters, at the end of the backward pass.
        optimizer: State of the optimizer.
        copies: Buckets of DDP, and the averaged weights of EMA.
        gradients_at_peak: The gradients that are alive at the peak.
        activations: The rest: images, labels, what the backward pass needs, and
            temporary tensors.
        total: The sum.
    """

    weights: int
    gradients: int
    optimizer: int
    copies: int
    gradients_at_peak: int
    activations: int
    total: int


def training_dtype(cfg: Config) -> str:
    """Return the training dtype of a config, a key of :data:`.steps.DTYPES`."""
    if cfg.optim_wrapper.type != 'AmpOptimWrapper':
        return 'float32'
    return 'bf16' if cfg.optim_wrapper.get('dtype') == 'bfloat16' else 'fp16'


class FakeTraining:
    """Model and optimizer of a config, on fake tensors.

    SyncBN is replaced by BN. Images have the backbone's ``img_size``. Classifiers get
    plain labels; label maps would add a few numbers per token.

    Args:
        cfg: Config of a model with the backbone :class:`volo.models.VOLO`.
        dtype: Dtype of autocast, a key of :data:`.steps.DTYPES`.
        gpus: Number of GPUs. With more than one, the buckets of DDP count.
        device: ``'cuda'``, or ``'cpu'`` to compare with a real step.

    Raises:
        ConfigError: The config has another backbone, shards the model, or is invalid.
    """

    def __init__(
        self, cfg: Config, dtype: str, gpus: int = 8, device: str = 'cuda'
    ) -> None:
        if cfg.model.get('backbone', {}).get('type') != 'VOLO':
            raise ConfigError(
                f'{cfg.filename}: no model with the backbone VOLO: name another config'
            )
        if 'strategy' in cfg:
            raise ConfigError(
                f'{cfg.filename}: {cfg.strategy.type} shards the model over the GPUs, '
                'which is not counted: name a config without strategy'
            )
        init_default_scope(cfg.default_scope)
        self.device = device
        self.fake = FakeTensorMode(allow_non_fake_inputs=True)
        with self.fake:
            obstacle = find_obstacle('fused', torch.empty(0, device=device), 0.0)
        if obstacle and device == 'cuda':
            raise ConfigError(f'cannot count outlook attention on a GPU: {obstacle}')
        self.functions = GPUFunctions(DTYPES[dtype])
        options = copy.deepcopy(cfg.model)
        options.backbone.pop('init_cfg', None)
        side = options.backbone.get('img_size', 224)
        self.size = (side, side) if isinstance(side, int) else tuple(side)
        with self.fake, FakeGPU(), torch.device(device), readable_errors(cfg):
            self.model = revert_sync_batchnorm(MODELS.build(options)).train()
        # Checkpointing calls the blocks again in the backward pass, outside the mode.
        for block in (b for stage in self.model.backbone.stages for b in stage):
            block.forward = self.functions.around(block.forward)
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = self._build_optimizer(dict(cfg.optim_wrapper.optimizer))
        hooks = [hook.type for hook in cfg.get('custom_hooks') or []]
        averaged = self.model.parameters() if 'EMAHook' in hooks else []
        self.copies = _bytes(averaged) + (gpus > 1) * _bytes(self.trained)

    def _build_optimizer(self, options: dict) -> torch.optim.Optimizer:
        """Return the optimizer with the state of a finished step."""
        options['params'] = self.trained
        cls = OPTIMIZERS.get(options['type'])
        if cls is None:
            raise ConfigError(f'optim_wrapper.optimizer: unknown {options["type"]!r}')
        if 'foreach' in inspect.signature(cls).parameters and 'fused' not in options:
            # torch's choice on a GPU. For fake tensors it chooses otherwise.
            options.setdefault('foreach', self.device == 'cuda')
        with self.fake, FakeGPU():
            optimizer = OPTIMIZERS.build(options)
            for parameter in self.trained:
                parameter.grad = torch.empty_like(parameter)
            optimizer.step()
            optimizer.zero_grad()
        return optimizer

    def step(self, batch_size: int, with_cp: bool = False) -> StepMemory:
        """Count the memory of a training step.

        Args:
            batch_size: Images per GPU.
            with_cp: Recompute activations of the backbone in the backward pass.
        """
        self.model.backbone.with_cp = with_cp
        tracker = LiveBytes(self.device)
        state = tree_leaves([*self.optimizer.state.values()])
        for tensor in [*self.model.parameters(), *self.model.buffers(), *state]:
            tracker.add(tensor)

        def count_gradient(parameter: nn.Parameter) -> None:
            assert parameter.grad is not None
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

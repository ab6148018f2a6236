"""The learning rate schedule of the published recipe."""

import math
from typing import Any

from mmengine.optim import OptimWrapper
from mmengine.optim.scheduler import _ParamScheduler
from mmengine.registry import PARAM_SCHEDULERS
from torch.optim import Optimizer


@PARAM_SCHEDULERS.register_module()
class WarmupCosineLR(_ParamScheduler):
    """timm's cosine schedule, whose cosine starts at step 0, not after the warm-up.

    With base rate b, step t < warmup has ``warmup_lr + t / warmup * (b - warmup_lr)``,
    later steps have ``eta_min + (b - eta_min) * (1 + cos(pi * t / T_max)) / 2``, and
    steps from ``T_max`` on have ``eta_min``: the cool-down, until training ends.
    mmengine's LinearLR and CosineAnnealingLR in sequence start the cosine after the
    warm-up. Where parameter groups have different base rates, ``warmup_lr`` and
    ``eta_min`` apply to the highest, and the others keep their ratio to it.

    mmengine documents ``_ParamScheduler`` and ``_get_value`` for subclasses.

    Args:
        optimizer: The optimizer of the model.
        T_max: Length of the cosine, warm-up included, in epochs (or iterations).
        warmup: Length of the warm-up.
        warmup_lr: Rate of the first step.
        eta_min: Rate at the end of the cosine.
        kwargs: ``begin``, ``end``, ``by_epoch``, ``last_step``, ``verbose``.
    """

    def __init__(
        self,
        optimizer: Optimizer | OptimWrapper,
        T_max: int,
        warmup: int = 0,
        warmup_lr: float = 1e-6,
        eta_min: float = 1e-5,
        **kwargs: Any,
    ) -> None:
        self.T_max = T_max
        self.warmup = warmup
        self.warmup_lr = warmup_lr
        self.eta_min = eta_min
        super().__init__(optimizer, 'lr', **kwargs)

    def _get_value(self) -> list[float]:
        """Return the rate of every parameter group at ``last_step``."""
        step = self.last_step
        if step < self.warmup:
            first, part = self.warmup_lr, step / self.warmup
        else:
            first = self.eta_min
            part = (1 + math.cos(math.pi * min(step / self.T_max, 1))) / 2
        # mmengine's wrapper adds a group without parameters, for the log, which
        # --auto-scale-lr does not scale.
        optimizer: Any = getattr(self.optimizer, 'optimizer', self.optimizer)
        highest = max(self.base_values[: len(optimizer.param_groups)])
        shares = [base / highest if highest else 1.0 for base in self.base_values]
        return [
            share * first + part * (base - share * first)
            for share, base in zip(shares, self.base_values, strict=True)
        ]

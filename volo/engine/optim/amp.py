"""Mixed precision on a CPU, which mmengine lacks: bfloat16."""

import contextlib
from collections.abc import Iterator

import torch
from mmengine.device import get_device
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(OptimWrapper):
    """Autocast to bfloat16; its range is that of float32, so there is no loss scale.

    mmengine's ``AmpOptimWrapper`` refuses to run without a GPU.
    """

    @contextlib.contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Run the forward pass in bfloat16."""
        with super().optim_context(model), torch.autocast(get_device(), torch.bfloat16):
            yield

"""Train with PyTorch's FSDP, for models that are large for their GPUs."""

from typing import Any

# mmengine 0.10 documents strategies, but exports them from this module only.
from mmengine._strategy import FSDPStrategy
from mmengine.device import get_device
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, STRATEGIES
from mmengine.runner import FlexibleRunner
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel

from volo.models.layers import Block


def wrap_blocks(module: nn.Module, recurse: bool, nonwrapped_numel: int) -> bool:
    """Shard every block of VOLO, and the rest of the model as one: an FSDP policy.

    Args:
        module: The module in question.
        recurse: Whether FSDP asks to look inside the module, or to wrap it.
        nonwrapped_numel: Parameters of the module that are not wrapped yet.
    """
    return recurse or isinstance(module, Block)


@STRATEGIES.register_module()
class VOLOFSDPStrategy(FSDPStrategy):
    """mmengine's FSDP strategy, sharding block by block and saving whole checkpoints.

    It also runs on a CPU.

    Args:
        kwargs: As in mmengine's ``FSDPStrategy``.
    """

    def __init__(self, **kwargs: Any) -> None:
        wrapper = dict(
            type='MMFullyShardedDataParallel',
            auto_wrap_policy=wrap_blocks,
            use_orig_params=True,
        )
        kwargs = dict(model_wrapper=wrapper, state_dict_cfg='full') | kwargs
        super().__init__(**kwargs)
        if get_device() == 'cpu':
            # Else mmengine names a GPU, and torch frees tensors that it "offloads" to
            # the CPU, where they are.
            self.model_wrapper.setdefault('device_id', 'cpu')
            self.state_dict_config.offload_to_cpu = False
            self.optim_state_dict_config.offload_to_cpu = False

    def load_optim_state_dict(self, state_dict: dict) -> None:
        """Load the optimizer's state from a whole checkpoint.

        mmengine gives torch these arguments in the order that torch 2.0 had.
        """
        optimizer = self.optim_wrapper.optimizer
        self.optim_wrapper.load_state_dict(
            FullyShardedDataParallel.optim_state_dict_to_load(
                model=self.model, optim=optimizer, optim_state_dict=state_dict
            )
        )


@HOOKS.register_module()
class CountersAfterValidationHook(Hook):
    """Correct the counters in checkpoints that FlexibleRunner saves in a validation.

    ``CheckpointHook`` saves again when a validation finds the best model. By then the
    counters are increased, but FlexibleRunner adds one more, and a run resumed from
    there would skip an epoch or an iteration.
    """

    def __init__(self) -> None:
        self.validating = False

    def before_val(self, runner: FlexibleRunner) -> None:
        """Note that the counters are increased."""
        self.validating = True

    def after_val(self, runner: FlexibleRunner) -> None:
        """Note that the counters are not increased yet."""
        self.validating = False

    def before_save_checkpoint(self, runner: FlexibleRunner, checkpoint: dict) -> None:
        """Correct the counters before they are saved."""
        if self.validating:
            checkpoint['meta'].update(epoch=runner.epoch, iter=runner.iter)

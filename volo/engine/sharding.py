"""Training with PyTorch's FSDP, for models that are large for their GPUs."""

from mmengine._strategy import FSDPStrategy
from mmengine.device import get_device
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, STRATEGIES
from mmengine.runner import FlexibleRunner
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel

from volo.models.layers import Block


def wrap_blocks(module: nn.Module, recurse: bool, nonwrapped_numel: int) -> bool:
    """Shard VOLO's blocks one by one, and the rest of the model together.

    What FSDP asks of every module, its ``auto_wrap_policy``.

    Args:
        module: The module in question.
        recurse: Whether FSDP asks if it shall look inside, or if it shall wrap.
        nonwrapped_numel: Parameters of the module that are not wrapped yet.
    """
    return recurse or isinstance(module, Block)


@STRATEGIES.register_module()
class VOLOFSDPStrategy(FSDPStrategy):
    """mmengine's FSDP, a block at a time, with whole checkpoints, also on a CPU.

    Args:
        kwargs: As for mmengine's ``FSDPStrategy``.
    """

    def __init__(self, **kwargs) -> None:
        wrapper = dict(
            type='MMFullyShardedDataParallel',
            auto_wrap_policy=wrap_blocks,
            use_orig_params=True,
        )
        kwargs = dict(model_wrapper=wrapper, state_dict_cfg='full') | kwargs
        super().__init__(**kwargs)
        if get_device() == 'cpu':
            # Else mmengine names a GPU, and torch frees what it "offloads" to where
            # it already is.
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
    """Let checkpoints that FlexibleRunner saves after a validation say where they are.

    ``CheckpointHook`` saves once more when validation has found the best model. By
    then the counters have been increased; FlexibleRunner adds one all the same, and a
    run resumed from there would leave out an epoch or an iteration.
    """

    def __init__(self) -> None:
        self.validating = False

    def before_val(self, runner: FlexibleRunner) -> None:
        """Note that the counters already count what is finished."""
        self.validating = True

    def after_val(self, runner: FlexibleRunner) -> None:
        """Note that they do not."""
        self.validating = False

    def before_save_checkpoint(self, runner: FlexibleRunner, checkpoint: dict) -> None:
        """Correct the counters that are about to be saved."""
        if self.validating:
            checkpoint['meta'].update(epoch=runner.epoch, iter=runner.iter)

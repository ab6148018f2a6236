"""Runner hooks."""

import torch
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import FlexibleRunner, Runner
from torch import nn
from torch.distributed.fsdp import (
    FullStateDictConfig,
    FullyShardedDataParallel,
    StateDictType,
)

from volo.errors import CheckpointError


@HOOKS.register_module()
class CheckLoadedWeightsHook(Hook):
    """Refuse a checkpoint that does not belong to the model.

    mmengine loads what fits and logs the rest. Here every tensor must find its
    place, with one exception: in training, ``load_from`` a checkpoint with another
    number of classes drops the classifiers, which then train from scratch.

    Args:
        drop_classifiers: Allow that exception.
    """

    #: Layers whose shape depends on the number of classes.
    CLASSIFIERS = ('head.fc.', 'head.aux_fc.', '.conv_seg.')

    def __init__(self, drop_classifiers: bool = False) -> None:
        self.drop_classifiers = drop_classifiers

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compare names and shapes with the model's, before they are loaded.

        Raises:
            CheckpointError: Something is missing, left over or of another shape.
        """
        own = self._whole_state_dict(runner.model)
        theirs = checkpoint.get('state_dict', checkpoint)
        theirs = {name.removeprefix('module.'): theirs[name] for name in theirs}
        odd = {
            name
            for name in own.keys() | theirs.keys()
            if name not in own
            or name not in theirs
            or own[name].shape != theirs[name].shape
        }
        # Resampled by the backbone when it is loaded.
        odd = {name for name in odd if not name.endswith('pos_embed')}
        classifiers = {
            name
            for name in odd & own.keys() & theirs.keys()
            if any(layer in name for layer in self.CLASSIFIERS)
        }
        if self.drop_classifiers and classifiers:
            odd -= classifiers
            # All of them, not those alone that differ: they belong together.
            dropped = {n for n in own if any(layer in n for layer in self.CLASSIFIERS)}
            loaded = checkpoint.get('state_dict', checkpoint)
            for name in list(loaded):
                if name.removeprefix('module.') in dropped:
                    loaded[name] = own[name.removeprefix('module.')].clone()
            print_log(
                'The checkpoint has another number of classes: its classifiers are '
                f'dropped and trained from scratch ({", ".join(sorted(dropped))}).',
                logger='current',
            )
        if odd:
            examples = ', '.join(
                f'{name} ({self._describe(theirs, name)} in the file, '
                f'{self._describe(own, name)} in the model)'
                for name in sorted(odd)[:3]
            )
            raise CheckpointError(
                f'the checkpoint does not belong to this model: {len(odd)} tensors '
                f'are missing, left over or of another shape, for example {examples}. '
                'Use the config it was trained with, or, to start a new task from its '
                "backbone, model.backbone.init_cfg=dict(type='Pretrained', ...)"
            )

    @staticmethod
    def _whole_state_dict(model: nn.Module) -> dict[str, torch.Tensor]:
        if isinstance(model, FullyShardedDataParallel):
            with FullyShardedDataParallel.state_dict_type(
                model, StateDictType.FULL_STATE_DICT, FullStateDictConfig()
            ):
                return model.state_dict()
        while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
            model = model.module
        return model.state_dict()

    @staticmethod
    def _describe(state_dict: dict, name: str) -> str:
        if name not in state_dict:
            return 'absent'
        return 'x'.join(map(str, state_dict[name].shape)) or 'scalar'


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

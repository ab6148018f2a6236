"""Refuse checkpoints that do not belong to the model."""

import torch
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import nn
from torch.distributed.fsdp import (
    FullStateDictConfig,
    FullyShardedDataParallel,
    StateDictType,
)

from volo.errors import CheckpointError
from volo.models.weights import STEM_WEIGHT, compare, stem_fits
from volo.models.wrappers import unwrap


@HOOKS.register_module()
class CheckLoadedWeightsHook(Hook):
    """Refuse a checkpoint that does not belong to the model.

    mmengine loads the tensors that fit and logs the others. Here every tensor must fit,
    with two exceptions: where ``load_from`` names a checkpoint with another number of
    classes, training drops its classifiers and starts them from scratch, and a stem for
    RGB is adapted to images with other channels.

    Args:
        drop_classifiers: Allow these exceptions.
    """

    #: Before EMAHook, which loads the weights too.
    priority = 'VERY_HIGH'

    #: Layers whose shape depends on the number of classes.
    CLASSIFIERS = ('head.fc.', 'head.aux_fc.', '.conv_seg.')

    def __init__(self, drop_classifiers: bool = False) -> None:
        self.drop_classifiers = drop_classifiers

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compare names and shapes with the model's before the weights are loaded.

        Raises:
            CheckpointError: A tensor is missing, left over or of another shape.
        """
        own = self._whole_state_dict(runner.model)
        theirs = checkpoint.get('state_dict', checkpoint)
        theirs = {name.removeprefix('module.'): theirs[name] for name in theirs}
        # The backbone resizes position embeddings when it loads them.
        ignore = {
            name for name in own.keys() | theirs.keys() if name.endswith('pos_embed')
        }
        if self.drop_classifiers:
            # The backbone adapts them when it loads them, too.
            ignore |= {
                name
                for name in own.keys() & theirs.keys()
                if name.endswith(STEM_WEIGHT) and stem_fits(theirs[name], own[name])
            }
        mismatch = compare(own, theirs, ignore)
        classifiers = {name for name in mismatch.misshapen if self._classifies(name)}
        if self.drop_classifiers and classifiers:
            mismatch = compare(own, theirs, ignore | classifiers)
            # Also those of the same shape: they belong together.
            dropped = {name for name in own if self._classifies(name)}
            loaded = checkpoint.get('state_dict', checkpoint)
            for name in list(loaded):
                if name.removeprefix('module.') in dropped:
                    loaded[name] = own[name.removeprefix('module.')].clone()
            print_log(
                'The checkpoint has another number of classes: its classifiers are '
                f'dropped and trained from scratch ({", ".join(sorted(dropped))}).',
                logger='current',
            )
        if mismatch:
            raise CheckpointError(
                f'the checkpoint does not belong to this model: {mismatch}. Use the '
                'config it was trained with. To start a new task from its backbone: '
                "model.backbone.init_cfg=dict(type='Pretrained', ...)"
            )

    @classmethod
    def _classifies(cls, name: str) -> bool:
        return any(layer in name for layer in cls.CLASSIFIERS)

    @staticmethod
    def _whole_state_dict(model: nn.Module) -> dict[str, torch.Tensor]:
        if isinstance(model, FullyShardedDataParallel):
            with FullyShardedDataParallel.state_dict_type(
                model, StateDictType.FULL_STATE_DICT, FullStateDictConfig()
            ):
                return model.state_dict()
        return unwrap(model).state_dict()

"""Layer-wise decay of the learning rate, from the heads towards the image."""

from collections.abc import Callable
from functools import partial
from typing import Any

from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from mmpretrain.engine.optimizers import LearningRateDecayOptimWrapperConstructor
from torch import nn

from volo.errors import ConfigError


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class VOLOLayerDecayOptimWrapperConstructor(LearningRateDecayOptimWrapperConstructor):
    """mmpretrain's layer-wise decay of the learning rate, also for segmentors.

    A parameter ``n`` layers below the heads learns at ``lr * layer_decay_rate ** n``
    (BEiT, arXiv 2106.08254). :meth:`volo.models.VOLO.get_layer_depth` counts the
    layers; heads and necks are the last. The optimizer leaves out frozen parameters.

    Args:
        optim_wrapper_cfg: As in mmengine; the optimizer needs ``lr`` and
            ``weight_decay``.
        paramwise_cfg: As in mmpretrain: ``layer_decay_rate``, ``norm_decay_mult``,
            ``bias_decay_mult``, ``flat_decay_mult``, and ``custom_keys`` with
            ``decay_mult``.

    Raises:
        ConfigError: ``lr`` or ``weight_decay`` is missing, the rate is not in (0, 1],
            there is an ``lr_mult``, which has no effect here, or the backbone does not
            count its layers.
    """

    def __init__(
        self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None
    ) -> None:
        for key in ('lr', 'weight_decay'):
            if optim_wrapper_cfg['optimizer'].get(key) is None:
                raise ConfigError(f'optim_wrapper.optimizer: layer decay needs {key}')
        super().__init__(optim_wrapper_cfg, paramwise_cfg)
        rate = self.paramwise_cfg.get('layer_decay_rate', 1.0)
        if not 0 < rate <= 1:
            raise ConfigError(
                f'optim_wrapper.paramwise_cfg.layer_decay_rate is {rate}, it must be '
                'above 0 and at most 1'
            )
        for key, options in self.paramwise_cfg.get('custom_keys', {}).items():
            if 'lr_mult' in options:
                raise ConfigError(
                    f'optim_wrapper.paramwise_cfg.custom_keys: {key} has an lr_mult, '
                    'but layer_decay_rate alone sets the learning rates: remove it'
                )

    def add_params(
        self,
        params: list[dict],
        module: nn.Module,
        prefix: str = '',
        get_layer_depth: Callable[[str], tuple[int, int]] | None = None,
        **kwargs: Any,
    ) -> None:
        """Append a group for every trained parameter of ``module`` to ``params``.

        Args:
            params: Groups of the optimizer.
            module: The model or, in recursive calls, a part of it.
            prefix: Prefix of the part's parameter names.
            get_layer_depth: Maps a name to its layer and the number of layers. Default:
                the backbone's.
            kwargs: As in mmpretrain.
        """
        if get_layer_depth is None:
            # Segmentors, unlike classifiers, have no get_layer_depth.
            backbone: Any = getattr(module, 'backbone', None)
            if not hasattr(backbone, 'get_layer_depth'):
                raise ConfigError(
                    f'optim_wrapper.constructor: {type(self).__name__} is for models '
                    f'with the backbone VOLO, got {type(backbone).__name__}'
                )
            get_layer_depth = partial(backbone.get_layer_depth, prefix='backbone.')
        super().add_params(params, module, prefix, get_layer_depth, **kwargs)

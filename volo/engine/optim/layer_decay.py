"""Smaller learning rates for the layers nearer to the image."""

from collections.abc import Callable
from functools import partial

from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from mmpretrain.engine.optimizers import LearningRateDecayOptimWrapperConstructor
from torch import nn

from volo.errors import ConfigError


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class VOLOLayerDecayOptimWrapperConstructor(LearningRateDecayOptimWrapperConstructor):
    """mmpretrain's layer-wise decay of the learning rate, also for segmentors.

    A parameter ``n`` layers below the heads learns at ``lr * layer_decay_rate ** n``
    (BEiT, arXiv 2106.08254). Layers are counted by
    :meth:`volo.models.VOLO.get_layer_depth`; heads and necks are the last. Frozen
    parameters are left out of the optimizer.

    ``paramwise_cfg`` takes ``layer_decay_rate``, ``norm_decay_mult``,
    ``bias_decay_mult``, ``flat_decay_mult`` and ``custom_keys`` with ``decay_mult``, as
    in mmpretrain.

    Raises:
        ConfigError: The optimizer lacks ``lr`` or ``weight_decay``, the rate is out of
            range, there is an ``lr_mult``, which has no effect here, or the backbone
            does not count its layers.
    """

    def _validate_cfg(self) -> None:
        for key in ('lr', 'weight_decay'):
            if self.optimizer_cfg.get(key) is None:
                raise ConfigError(f'optim_wrapper.optimizer: layer decay needs {key}')
        super()._validate_cfg()
        rate = self.paramwise_cfg.get('layer_decay_rate', 1.0)
        if not 0 < rate <= 1:
            raise ConfigError(
                'optim_wrapper.paramwise_cfg.layer_decay_rate is above 0 and at most '
                f'1, got {rate}'
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
        **kwargs,
    ) -> None:
        """Append a group for every trained parameter of ``module`` to ``params``.

        Args:
            params: Groups of the optimizer.
            module: The model or, further down, a part of it.
            prefix: Of the names of the part's parameters.
            get_layer_depth: From a name to its layer and the number of layers; by
                default the model's backbone is asked.
            kwargs: As in mmpretrain.
        """
        if get_layer_depth is None:
            # Segmentors do not pass the question on to their backbone.
            backbone = getattr(module, 'backbone', None)
            if not hasattr(backbone, 'get_layer_depth'):
                raise ConfigError(
                    f'optim_wrapper.constructor: {type(self).__name__} is for models '
                    f'with the backbone VOLO, got {type(backbone).__name__}'
                )
            get_layer_depth = partial(backbone.get_layer_depth, prefix='backbone.')
        super().add_params(params, module, prefix, get_layer_depth, **kwargs)

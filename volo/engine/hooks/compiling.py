"""Compile the parts of a model that compute, not the glue around them."""

import torch
from mmengine.device import get_device
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import nn
from torch._inductor import config as inductor_config

from volo.models.wrappers import unwrap

#: Parts of classifiers and segmentors, and their methods that take and return tensors
#: only. ``forward`` of a whole model handles data samples and stays as it is.
COMPILED = dict(
    backbone=('embed', 'forward_tokens'),
    head=('class_and_token_logits',),
    decode_head=('forward',),
    auxiliary_head=('forward',),
)


def compile_model(model: nn.Module, freeze: bool = False) -> list[str]:
    """Compile the parts of a classifier or segmentor in place.

    Args:
        model: The model; its names and weights stay as they are.
        freeze: As in :class:`CompileHook`.

    Returns:
        The compiled methods, as ``backbone.embed``.
    """
    compiled = []
    for part, methods in COMPILED.items():
        module = getattr(model, part, None)
        for method in methods:
            if hasattr(module, method):
                function = torch.compile(getattr(module, method))
                if freeze:
                    # As an option of torch.compile it has no effect (torch 2.6 to
                    # 2.11): set inductor's during each call; the first one compiles.
                    function = inductor_config.patch(freezing=True)(function)
                setattr(module, method, function)
                compiled.append(f'{part}.{method}')
    return compiled


@HOOKS.register_module()
class CompileHook(Hook):
    """Compile the model before the run: ``--compile`` of the tools.

    Args:
        freeze: Make the weights constants, which inductor packs and casts once. For
            evaluation on a CPU; without effect on a GPU.
    """

    #: After the hooks that copy the model: a copy would call the original.
    priority = 'LOWEST'

    def __init__(self, freeze: bool = False) -> None:
        self.freeze = freeze

    def before_run(self, runner: Runner) -> None:
        """Compile the model, and log its compiled parts."""
        parts = compile_model(
            unwrap(runner.model), freeze=self.freeze and get_device() == 'cpu'
        )
        runner.logger.info(
            f'Compiled: {", ".join(parts)}. The first iterations take minutes.'
        )

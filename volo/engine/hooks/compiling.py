"""torch.compile for what computes, not for the glue around it."""

import torch
from mmengine.device import get_device
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import nn
from torch._inductor import config as inductor_config

from volo.models.wrappers import unwrap

#: Parts of classifiers and segmentors, and their methods that take and return tensors
#: alone. ``forward`` of a whole model deals with data samples: it is left as it is.
COMPILED = dict(
    backbone=('embed', 'forward_tokens'),
    head=('class_and_token_logits',),
    decode_head=('forward',),
    auxiliary_head=('forward',),
)


def compile_model(model: nn.Module) -> list[str]:
    """Compile the parts of a classifier or segmentor in place.

    Args:
        model: Its names and weights stay as they are.

    Returns:
        What was compiled, as ``backbone.embed``.
    """
    compiled = []
    for part, methods in COMPILED.items():
        module = getattr(model, part, None)
        for method in methods:
            if hasattr(module, method):
                setattr(module, method, torch.compile(getattr(module, method)))
                compiled.append(f'{part}.{method}')
    return compiled


@HOOKS.register_module()
class CompileHook(Hook):
    """Compile the model before anything runs: ``--compile`` of the tools.

    Args:
        freeze: Make the weights constants, which inductor then packs and casts once.
            For evaluation on a CPU.
    """

    #: After the hooks that copy the model: a copy would call the original.
    priority = 'LOWEST'

    def __init__(self, freeze: bool = False) -> None:
        self.freeze = freeze

    def before_run(self, runner: Runner) -> None:
        """Compile, and say what."""
        model = unwrap(runner.model)
        if self.freeze and get_device() == 'cpu':
            # As an argument of torch.compile it does nothing: dynamo looks here.
            inductor_config.freezing = True
        parts = compile_model(model)
        runner.logger.info(
            f'Compiled: {", ".join(parts)}. The first iterations take minutes.'
        )
